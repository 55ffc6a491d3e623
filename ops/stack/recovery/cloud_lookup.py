"""Find cloud resources that a killed engine created and did not record: one row per type of resource.

A row defines where the type is listed, how to recognise the resource that was requested, and the id that the provider
gives it (read in its `SetId` calls, v2.x). A resource in the state is never taken for an orphan.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from ops.core.errors import CloudError
from ops.stack.cloud import Cloud

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Finder:
    """How to find resources of one type.

    `path` is the collection, with inputs in braces; `key` its name in the answer; `matches` compares an item with the
    inputs; `id` builds the provider's id; `settled` returns True once it can be read (a droplet that still boots has no
    address yet).
    """

    path: str
    key: str
    matches: Callable[[Values, Values], bool]
    id: Callable[[Values, Values], str]
    settled: Callable[[Values], bool] = lambda _item: True


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """A resource that was found: the provider's id, its label for people, and whether it can be read already."""

    id: str
    label: str
    settled: bool


class AmbiguousError(CloudError):
    """Several resources match; none can be chosen safely."""


def _same(*names: str) -> Callable[[Values, Values], bool]:
    """Compare fields of the same name in the inputs and in the API (apart from camelCase and snake_case)."""
    return lambda item, inputs: all(_text(item.get(_snake(name))) == _text(inputs.get(name)) for name in names)


def _field(name: str) -> Callable[[Values, Values], str]:
    return lambda item, _inputs: str(item.get(name, ""))


def _slug(item: Values) -> str:
    region: Any = item.get("region")
    return str(region.get("slug", "") if isinstance(region, dict) else region or "")


def _name_and_region(item: Values, inputs: Values) -> bool:
    return item.get("name") == inputs.get("name") and _slug(item) == str(inputs.get("region", ""))


def _record(item: Values, inputs: Values) -> bool:
    domain = str(inputs.get("domain", ""))
    if item.get("type") != inputs.get("type") or _host(item.get("name"), domain) != _host(inputs.get("name"), domain):
        return False
    if _host(item.get("data"), domain) != _host(inputs.get("value"), domain):
        return False
    details = ("priority", "port", "weight", "flags", "tag")
    return all(inputs.get(name) is None or _text(item.get(name)) == _text(inputs.get(name)) for name in details)


def _host(value: Any, domain: str) -> str:
    text = str(value or "").rstrip(".")
    return "@" if text == domain else text.removesuffix(f".{domain}")


def _assigned(item: Values, inputs: Values) -> bool:
    return _text((item.get("droplet") or {}).get("id")) == _text(inputs.get("dropletId"))


def _assignment_id(item: Values, inputs: Values) -> str:
    # the provider's id is this prefix and any unique suffix
    return f"{_text(inputs.get('dropletId'))}-{item['ip']}-{datetime.now(UTC):%Y%m%d%H%M%S%f}"


def _key_of(item: Values, inputs: Values) -> bool:
    return item.get("name") == inputs.get("name") and _key(item.get("public_key")) == _key(inputs.get("publicKey"))


def _key(line: Any) -> str:
    return " ".join(str(line or "").split()[:2])


def _in_cluster(kind: str) -> Callable[[Values, Values], str]:
    return lambda item, inputs: f"{inputs['clusterId']}/{kind}{item['name']}"


_BY_NAME = _same("name")
_ID = _field("id")

FINDERS: dict[str, Finder] = {
    "digitalocean:index/vpc:Vpc": Finder(path="/v2/vpcs", key="vpcs", matches=_name_and_region, id=_ID),
    "digitalocean:index/droplet:Droplet": Finder(
        path="/v2/droplets",
        key="droplets",
        matches=_name_and_region,
        id=_ID,
        settled=lambda item: item.get("status") == "active",
    ),
    "digitalocean:index/firewall:Firewall": Finder(path="/v2/firewalls", key="firewalls", matches=_BY_NAME, id=_ID),
    "digitalocean:index/sshKey:SshKey": Finder(path="/v2/account/keys", key="ssh_keys", matches=_key_of, id=_ID),
    "digitalocean:index/tag:Tag": Finder(path="/v2/tags", key="tags", matches=_BY_NAME, id=_field("name")),
    "digitalocean:index/databaseCluster:DatabaseCluster": Finder(
        path="/v2/databases",
        key="databases",
        matches=_name_and_region,
        id=_ID,
        settled=lambda item: item.get("status") == "online",
    ),
    "digitalocean:index/databaseUser:DatabaseUser": Finder(
        path="/v2/databases/{clusterId}/users", key="users", matches=_BY_NAME, id=_in_cluster("user/")
    ),
    "digitalocean:index/databaseDb:DatabaseDb": Finder(
        path="/v2/databases/{clusterId}/dbs", key="dbs", matches=_BY_NAME, id=_in_cluster("database/")
    ),
    "digitalocean:index/databaseConnectionPool:DatabaseConnectionPool": Finder(
        path="/v2/databases/{clusterId}/pools", key="pools", matches=_BY_NAME, id=_in_cluster("")
    ),
    "digitalocean:index/domain:Domain": Finder(path="/v2/domains", key="domains", matches=_BY_NAME, id=_field("name")),
    "digitalocean:index/dnsRecord:DnsRecord": Finder(
        path="/v2/domains/{domain}/records", key="domain_records", matches=_record, id=_ID
    ),
    "digitalocean:index/cdn:Cdn": Finder(path="/v2/cdn/endpoints", key="endpoints", matches=_same("origin"), id=_ID),
    "digitalocean:index/certificate:Certificate": Finder(
        path="/v2/certificates", key="certificates", matches=_BY_NAME, id=_field("name")
    ),
    "digitalocean:index/project:Project": Finder(path="/v2/projects", key="projects", matches=_BY_NAME, id=_ID),
    "digitalocean:index/containerRegistries:ContainerRegistries": Finder(
        path="/v2/registries", key="registries", matches=_BY_NAME, id=_field("name")
    ),
    "digitalocean:index/uptimeCheck:UptimeCheck": Finder(
        path="/v2/uptime/checks", key="checks", matches=_same("name", "target"), id=_ID
    ),
    "digitalocean:index/uptimeAlert:UptimeAlert": Finder(
        path="/v2/uptime/checks/{checkId}/alerts", key="alerts", matches=_same("name", "type"), id=_ID
    ),
    "digitalocean:index/monitorAlert:MonitorAlert": Finder(
        path="/v2/monitoring/alerts", key="policies", matches=_same("description", "type"), id=_field("uuid")
    ),
    "digitalocean:index/reservedIp:ReservedIp": Finder(
        path="/v2/reserved_ips",
        key="reserved_ips",
        matches=lambda item, inputs: not item.get("droplet") and _slug(item) == inputs.get("region"),
        id=_field("ip"),
    ),
    "digitalocean:index/reservedIpAssignment:ReservedIpAssignment": Finder(
        path="/v2/reserved_ips",
        key="reserved_ips",
        matches=lambda item, inputs: item.get("ip") == inputs.get("ipAddress") and _assigned(item, inputs),
        id=_assignment_id,
    ),
}
"""Types that are adopted. Each can be read again by its id and the inputs it was requested with."""

REPEATABLE = {
    "digitalocean:index/databaseFirewall:DatabaseFirewall": "the complete list is written again",
    "digitalocean:index/projectResources:ProjectResources": "assigning twice is assigning once",
    "digitalocean:index/spacesBucketCorsConfiguration:SpacesBucketCorsConfiguration": "the rules are written again",
    "command:local:Command": "the command finds what it did already",
}
"""Types that need no adopting: the next `pulumi up` repeats the operation with the same result."""

SPACES_KEY = "digitalocean:index/spacesKey:SpacesKey"
BUCKET = "digitalocean:index/spacesBucket:SpacesBucket"


def find(cloud: Cloud, token: str, inputs: Values, known: Collection[str]) -> Orphan | None:
    """Find the resource that was requested with these inputs; None if it was never created.

    Args:
        cloud: the API.
        token: the resource's type token, one of `FINDERS`.
        inputs: unencrypted.
        known: ids of this type in the state.

    Raises:
        AmbiguousError: several resources match.
        CloudError: the API refuses, or does not answer.
    """
    finder = FINDERS[token]
    path = finder.path.format_map({name: quote(_text(value), safe="") for name, value in inputs.items()})
    found = [item for item in cloud.items(path, finder.key) if finder.matches(item, inputs)]
    orphans = [
        Orphan(id=finder.id(item, inputs), label=_label(item), settled=finder.settled(item))
        for item in found
        if finder.id(item, inputs) not in known
    ]
    if len(orphans) > 1:
        raise AmbiguousError(
            f"{token.rsplit(':', 1)[-1]}: {', '.join(f'{o.label} ({o.id})' for o in orphans)} could each be what "
            "was requested; delete those that nobody needs, or import the right one with `pulumi import`"
        )
    return orphans[0] if orphans else None


def spaces_keys(cloud: Cloud, name: str, known: Collection[str]) -> list[str]:
    """Return the access keys with this name that are not in the state: their secret half is lost."""
    keys = cloud.items("/v2/spaces/keys", "keys")
    return [str(key["access_key"]) for key in keys if key.get("name") == name and key.get("access_key") not in known]


def _label(item: Values) -> str:
    return str(item.get("name") or item.get("description") or item.get("ip") or item.get("origin") or "it")


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def _text(value: Any) -> str:
    """Return a number as text, the same for 7 and 7.0."""
    return (
        str(int(value)) if isinstance(value, float) and value.is_integer() else str(value if value is not None else "")
    )
