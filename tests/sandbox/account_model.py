"""An account whose every change is checked: the model that `test_api_stateful.py` drives in any order.

After each call the whole account is read. Each list has what its gets have, an object is there exactly if it was made
and not deleted, and a refused call has changed no answer.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.parts.base import PartError
from sandbox.parts.load_balancers import LoadBalancerSpec
from sandbox.parts.none import NoParts
from tests.sandbox.conftest import TOKEN, running

BUCKETS = (("nyc3", "assets"), ("fra1", "media"))
FIXED = "/v2/projects/default"


@dataclass(frozen=True)
class Listing:
    """Where objects of a kind are listed, under which keys a list and a get answer, and which field names one."""

    path: str
    many: str
    one: str
    ident: str = "id"


TOP = (
    Listing("/v2/account/keys", "ssh_keys", "ssh_key"),
    Listing("/v2/cdn/endpoints", "endpoints", "endpoint"),
    Listing("/v2/databases", "databases", "database"),
    Listing("/v2/domains", "domains", "domain", "name"),
    Listing("/v2/droplets", "droplets", "droplet"),
    Listing("/v2/firewalls", "firewalls", "firewall"),
    Listing("/v2/load_balancers", "load_balancers", "load_balancer"),
    Listing("/v2/projects", "projects", "project"),
    Listing("/v2/registries", "registries", "registry", "name"),
    Listing("/v2/reserved_ips", "reserved_ips", "reserved_ip", "ip"),
    Listing("/v2/snapshots", "snapshots", "snapshot"),
    Listing("/v2/spaces/keys", "keys", "key", "access_key"),
    Listing("/v2/tags", "tags", "tag", "name"),
    Listing("/v2/volumes", "volumes", "volume"),
    Listing("/v2/vpcs", "vpcs", "vpc"),
)
BELOW = {
    "/v2/domains": (Listing("records", "domain_records", "domain_record"),),
    "/v2/databases": (
        Listing("users", "users", "user", "name"),
        Listing("dbs", "dbs", "db", "name"),
        Listing("pools", "pools", "pool", "name"),
    ),
}
# What else is read of an object, under which key.
ASPECTS = {
    "/v2/databases": (("firewall", "rules"),),
    "/v2/droplets": (("actions", "actions"), ("firewalls", "firewalls"), ("snapshots", "snapshots")),
    "/v2/projects": (("resources", "resources"),),
    "/v2/volumes": (("actions", "actions"), ("snapshots", "snapshots")),
    "/v2/vpcs": (("members", "members"),),
}


class Once(dict[str, Exception]):
    """Failures that are there until they are raised."""

    def __getitem__(self, method: str) -> Exception:
        return self.pop(method)


class OnceFailing(NoParts):
    """Parts of which the next call of a method fails if `fail` says so, and no later one."""

    def __init__(self) -> None:
        super().__init__()
        self.fail = Once()
        self.answers["droplets.power"] = lambda droplet, _: self.droplet_specs.update({droplet.id: droplet})
        self.answers["droplets.resize"] = lambda droplet: self.droplet_specs.update({droplet.id: droplet})


class Account:
    """A served account, the paths of all that should be in it, and the last answers of all of them."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._served = ExitStack()
        self._start()
        self._latest: dict[str, Any] | None = None
        self.deleted: dict[str, None] = {}
        self.alive: dict[str, None] = {}
        self.seen: dict[str, Any] = {}
        self.seen = self._read()
        self.alive = dict.fromkeys(self._listed(self.seen))
        self.pristine = self.seen

    def _start(self) -> None:
        self.parts = OnceFailing()
        self.parts.bucket_list = BUCKETS
        self.sandbox = self._served.enter_context(running(self._home, self.parts))

    def close(self) -> None:
        """Stop serving."""
        self._served.close()

    # --- calls -------------------------------------------------------------------------------------------------------

    def change(self, method: str, path: str, body: Any = None, *, refused: bool | None = False) -> Any:
        """Make a call, and check the account after it.

        Args:
            method: of the call.
            path: of the call.
            body: of the call.
            refused: whether it must be refused; None if either is right.

        Returns:
            Its answer; None if it was refused.
        """
        self._latest = None
        status, answer = self.sandbox.call(method, path, body)
        self.settle()
        here = (method, path, body, status, answer)
        assert status not in {500, 501}, here
        if refused is not None:
            assert (status >= 400) == refused, here
        if status < 400:
            return answer or {}
        after = self._read()
        assert after == self.seen, (here, differences(self.seen, after))
        return None

    def failing(self, part: str, method: str, path: str, body: Any = None) -> None:
        """Make a call whose part fails once: it is refused with the reason, and changes no answer."""
        self.parts.fail[part] = PartError("a part of the test failed")
        self._latest = None
        status, answer = self.sandbox.call(method, path, body)
        self.settle()
        here = (part, method, path, body, status, answer)
        assert part not in self.parts.fail, ("the part was not called", *here)
        assert (status, answer and answer["message"]) == (503, "a part of the test failed"), here
        after = self._read()
        assert after == self.seen, (here, differences(self.seen, after))

    def settle(self) -> list[str]:
        """Wait until no job runs; return what is left in the account."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        return self.sandbox.client.get("/_sandbox/leaks", headers=headers).json()["objects"]

    def restart(self) -> None:
        """End the API and start it over the same state: no answer may be another."""
        told = comparable_parts(self.parts)
        self.close()
        self._served = ExitStack()
        self._latest = None
        self._start()
        self.settle()
        after = self._read()
        assert after == self.seen, differences(self.seen, after)
        again = comparable_parts(self.parts)
        assert again == told, differences(told, again)

    # --- what there is -----------------------------------------------------------------------------------------------

    def made(self, *paths: str) -> None:
        """Note what a call has made."""
        for path in paths:
            self.alive[path] = None
            self.deleted.pop(path, None)

    def found(self, prefix: str) -> None:
        """Note what a call has made beside what was asked for: all that is listed under this path."""
        self.made(*(path for path in self._listed(self._read()) if path.startswith(prefix)))

    def gone(self, path: str) -> None:
        """Note that this, and all that is in it, was deleted."""
        for known in [known for known in self.alive if f"{known}/".startswith(f"{path}/")]:
            del self.alive[known]
            self.deleted[known] = None

    def all(self, path: str) -> list[Any]:
        """Return the objects of a list, as last read."""
        return self.seen.get(path, [])

    def objects(self, path: str) -> list[str]:
        """Return the paths of all that is in a list."""
        return [known for known in self.alive if known.rpartition("/")[0] == path]

    def _read(self) -> dict[str, Any]:
        """Read every list, every object and what belongs to it; check that a list has what a get has."""
        if self._latest is None:
            seen: dict[str, Any] = {}
            for listing in TOP:
                self._read_list(listing, seen)
            self._latest = seen
        return self._latest

    def _read_list(self, listing: Listing, seen: dict[str, Any]) -> None:
        items = self.sandbox.get(f"{listing.path}?per_page=200")[listing.many]
        items = seen[listing.path] = [_timeless(item) for item in items]
        for item in items:
            path = f"{listing.path}/{item[listing.ident]}"
            shown = seen[path] = _timeless(self.sandbox.get(path)[listing.one])
            assert shown == item, (path, differences({path: item}, {path: shown}))
            for name, key in ASPECTS.get(listing.path, ()):
                seen[f"{path}/{name}"] = self.sandbox.get(f"{path}/{name}?per_page=200")[key]
            for below in BELOW.get(listing.path, ()):
                self._read_list(Listing(f"{path}/{below.path}", below.many, below.one, below.ident), seen)

    def _listed(self, seen: dict[str, Any]) -> Iterator[str]:
        for path, items in list(seen.items()):
            below = path.rpartition("/")[2]
            for listing in itertools.chain(TOP, *BELOW.values()):
                if path == listing.path or (path.count("/") == 4 and below == listing.path):
                    yield from (f"{path}/{item[listing.ident]}" for item in items)

    # --- what always holds -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Read the account and check what holds after any call."""
        self.settle()
        seen = self.seen = self._read()
        assert sorted(self._listed(seen)) == sorted(self.alive)
        for path in list(self.deleted)[-3:]:
            assert self.sandbox.call("GET", path)[0] == 404, path
        _no_address_twice(seen, self.parts)
        _references_hold(seen)
        _parts_follow(seen, self.parts)


def _timeless(item: Any) -> Any:
    """Leave out what depends on the time of a call: the serial number of a zone."""
    if "zone_file" not in item:
        return item
    return item | {"zone_file": [line for line in item["zone_file"].splitlines() if " IN SOA " not in line]}


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Name what differs, for people."""
    return [
        f"{path}: {before.get(path)!r} != {after.get(path)!r}"
        for path in {**before, **after}
        if before.get(path) != after.get(path)
    ]


def comparable_parts(parts: NoParts) -> dict[str, Any]:
    """Return what the parts were told to have, as far as a restart must tell them the same."""
    zones = {
        name: {record for record in records if record.type != "SOA"} for name, records in parts.zones.items()
    }  # a serial is a time
    firewalls = {number: rules for number, rules in parts.firewalls.items() if number in parts.droplet_specs}
    lists = {"cdns": parts.cdns, "spaces_keys": parts.spaces_keys, "registry_logins": parts.registry_logins}
    specs = {"droplets": parts.droplet_specs, "clusters": parts.clusters, "services": parts.service_specs}
    return specs | {"firewalls": firewalls, "zones": zones} | lists


def _no_address_twice(seen: dict[str, Any], parts: NoParts) -> None:
    public: list[str] = [address["ip"] for address in seen["/v2/reserved_ips"]]
    private: list[tuple[str, str]] = []
    ranges = {vpc["id"]: ipaddress.IPv4Network(vpc["ip_range"]) for vpc in seen["/v2/vpcs"]}
    for one, other in itertools.combinations(ranges.values(), 2):
        assert not one.overlaps(other)
    balancers = [spec for spec in parts.service_specs.values() if isinstance(spec, LoadBalancerSpec)]
    for spec in (*parts.droplet_specs.values(), *parts.clusters.values(), *balancers):
        public.append(spec.public_ip)
        private.append((spec.vpc.id, spec.private_ip))
        assert ipaddress.IPv4Address(spec.private_ip) in ranges[spec.vpc.id]
    assert len(set(public)) == len(public)
    assert len(set(private)) == len(private)
    for droplet in seen["/v2/droplets"]:
        spec = parts.droplet_specs[droplet["id"]]
        shown = {network["type"]: network["ip_address"] for network in droplet["networks"]["v4"]}
        assert shown == {"public": spec.public_ip, "private": spec.private_ip}


def _references_hold(seen: dict[str, Any]) -> None:
    """Check that what two objects say of one another is the same, and that nothing names what is gone."""
    droplets = {droplet["id"]: droplet for droplet in seen["/v2/droplets"]}
    volumes = {volume["id"]: volume for volume in seen["/v2/volumes"]}
    attached = {(number, ident) for ident, volume in volumes.items() for number in volume["droplet_ids"]}
    assert attached == {(number, ident) for number, droplet in droplets.items() for ident in droplet["volume_ids"]}
    for firewall in seen["/v2/firewalls"]:
        assert set(firewall["droplet_ids"]) <= set(droplets)
        assert firewall["status"] == "succeeded"
    for address in seen["/v2/reserved_ips"]:
        assert address["droplet"] is None or address["droplet"] == droplets[address["droplet"]["id"]]
        assert not address["locked"]
    tags = {tag["name"]: tag["resources"] for tag in seen["/v2/tags"]}
    for name, resources in tags.items():
        for kind in ("droplets", "volumes", "databases"):
            wearing = [item for item in seen[f"/v2/{kind}"] if name in item["tags"]]
            assert resources[kind]["count"] == len(wearing), (name, kind)
    for kind in ("droplets", "volumes", "databases", "firewalls", "snapshots"):
        for item in seen[f"/v2/{kind}"]:
            assert set(item["tags"]) <= set(tags), (kind, item)
    members = {
        (member["urn"], vpc["id"]) for vpc in seen["/v2/vpcs"] for member in seen[f"/v2/vpcs/{vpc['id']}/members"]
    }
    assert members == {(f"do:droplet:{number}", droplet["vpc_uuid"]) for number, droplet in droplets.items()} | {
        (f"do:dbaas:{cluster['id']}", cluster["private_network_uuid"]) for cluster in seen["/v2/databases"]
    } | {(f"do:loadbalancer:{balancer['id']}", balancer["vpc_uuid"]) for balancer in seen["/v2/load_balancers"]}
    in_projects = [
        resource["urn"]
        for project in seen["/v2/projects"]
        for resource in seen[f"/v2/projects/{project['id']}/resources"]
    ]
    assert sorted(in_projects) == sorted(urns(seen))


def urns(seen: dict[str, Any]) -> list[str]:
    """Return the names under which projects hold what there is."""
    return [
        *(f"do:droplet:{droplet['id']}" for droplet in seen["/v2/droplets"]),
        *(f"do:dbaas:{cluster['id']}" for cluster in seen["/v2/databases"]),
        *(f"do:loadbalancer:{balancer['id']}" for balancer in seen["/v2/load_balancers"]),
        *(f"do:domain:{domain['name']}" for domain in seen["/v2/domains"]),
        *(f"do:floatingip:{address['ip']}" for address in seen["/v2/reserved_ips"]),
        *(f"do:volume:{volume['id']}" for volume in seen["/v2/volumes"]),
        *(f"do:space:{bucket}" for _, bucket in BUCKETS),
    ]


def _parts_follow(seen: dict[str, Any], parts: NoParts) -> None:
    """Check that what is behind the API is what the API shows."""
    assert set(parts.droplet_specs) == {droplet["id"] for droplet in seen["/v2/droplets"]}
    for number, spec in parts.droplet_specs.items():
        shown = [
            address["ip"] for address in seen["/v2/reserved_ips"] if (address["droplet"] or {}).get("id") == number
        ]
        assert sorted(spec.reserved_ips) == sorted(shown)
        assert (parts.firewalls[number] is None) == (not seen[f"/v2/droplets/{number}/firewalls"])
    assert set(parts.clusters) == {cluster["id"] for cluster in seen["/v2/databases"]}
    behind = {ident: spec.droplets for ident, spec in parts.service_specs.items() if isinstance(spec, LoadBalancerSpec)}
    assert behind == {
        balancer["id"]: tuple((number, parts.droplet_specs[number].private_ip) for number in balancer["droplet_ids"])
        for balancer in seen["/v2/load_balancers"]
    }
    for balancer in seen["/v2/load_balancers"]:
        assert balancer["status"] == "active"
        assert balancer["ip"] == parts.service_specs[balancer["id"]].public_ip
    for cluster in seen["/v2/databases"]:
        spec = parts.clusters[cluster["id"]]
        assert list(spec.databases) == cluster["db_names"]
        assert [user.name for user in spec.users] == [user["name"] for user in cluster["users"]]
        assert [pool.name for pool in spec.pools] == [
            pool["name"] for pool in seen[f"/v2/databases/{cluster['id']}/pools"]
        ]
        assert cluster["connection"]["host"] + "." in {record.name for record in parts.zones["db.ondigitalocean.com"]}
    assert {cdn.id for cdn in parts.cdns} == {endpoint["id"] for endpoint in seen["/v2/cdn/endpoints"]}
    assert {key.access_key for key in parts.spaces_keys[1:]} == {key["access_key"] for key in seen["/v2/spaces/keys"]}
    zones = {domain["name"] for domain in seen["/v2/domains"]}
    assert set(parts.zones) - {"db.ondigitalocean.com"} == zones
    for zone in zones:
        records = [record for record in seen[f"/v2/domains/{zone}/records"] if record["type"] != "SOA"]
        served = [record for record in parts.zones[zone] if record.type != "SOA"]
        assert len(served) == len({(record["name"], record["type"], record["data"]) for record in records})
