"""What should exist, computed from the store: the specs that the parts are given. Nothing here changes anything."""

from __future__ import annotations

import ipaddress
import logging
import time
from typing import Any

from sandbox import catalog
from sandbox.api.actions import failures
from sandbox.api.context import Cloud, pick
from sandbox.api.dns_data import zone_data
from sandbox.api.kinds import KINDS
from sandbox.api.postgres_config import postgres_settings
from sandbox.api.switches import switches_of
from sandbox.parts.base import (
    CdnSpec,
    ClusterSpec,
    DatabaseUser,
    DnsRecord,
    DropletSpec,
    FirewallRules,
    PoolSpec,
    PortRule,
    RegistryLogin,
    RestoreSpec,
    SpacesKey,
    VpcSpec,
    World,
)
from sandbox.store import Record, Store

log = logging.getLogger(__name__)
DATABASE_ZONE = "db.ondigitalocean.com"
# Fields that people are shown of whatever has addresses.
_SHOWN = ("id", "name", "status", "public_ip", "private_ip")
# Objects that are no resources of the account.
_UNLISTED = frozenset({"action", "failed_droplet"})


def vpc_spec(vpc: Record) -> VpcSpec:
    """Return the part's view of a VPC."""
    return VpcSpec(id=vpc["id"], name=vpc["name"], ip_range=vpc["ip_range"])


def vpc_of(store: Store, record: Record) -> VpcSpec:
    """Return the part's view of the VPC that an object is in."""
    vpc = store.get("vpc", record["vpc_uuid"])
    assert vpc is not None, "a VPC with members cannot be deleted"  # noqa: S101 - an invariant of the store
    return vpc_spec(vpc)


def droplet_spec(store: Store, droplet: Record) -> DropletSpec:
    """Return the part's view of a droplet."""
    size = catalog.SIZES[droplet["size"]]
    reserved = store.list("reserved_ip", droplet_id=droplet["id"])
    return DropletSpec(
        id=droplet["id"],
        name=droplet["name"],
        image=droplet["image"],
        vcpus=size.vcpus,
        memory=size.memory,
        disk=droplet["disk"],
        region=droplet["region"],
        vpc=vpc_of(store, droplet),
        public_ip=droplet["public_ip"],
        private_ip=droplet["private_ip"],
        authorized_keys=tuple(droplet["authorized_keys"]),
        user_data=droplet["user_data"],
        powered=droplet["status"] != "off",
        reserved_ips=tuple(record["ip"] for record in reserved),
    )


def living(store: Store) -> list[Record]:
    """List the droplets that are not being deleted."""
    return [droplet for droplet in store.list("droplet") if not droplet["deleting"]]


def _addresses(droplet: Record) -> list[str]:
    return [f"{droplet['private_ip']}/32", f"{droplet['public_ip']}/32"]


def _peers(store: Store, peers: Record) -> tuple[str, ...]:
    """Resolve the sources or destinations of a firewall rule to CIDRs."""
    found = [str(ipaddress.ip_network(address, strict=False)) for address in peers.get("addresses") or []]
    tags = set(peers.get("tags") or [])
    ids = set(peers.get("droplet_ids") or [])
    for droplet in living(store):
        if droplet["id"] in ids or tags.intersection(droplet["tags"]):
            found += _addresses(droplet)
    for kind in KINDS.values():
        named: list[str] = (peers.get(kind.peers_field) if kind.peers_field else None) or []
        for record in filter(None, (store.get(kind.name, ident) for ident in named)):
            found += _addresses(record)
    return tuple(dict.fromkeys(found))


def holds(firewall: Record, droplet: Record) -> bool:
    """Return True if a firewall holds a droplet, by number or by tag."""
    return droplet["id"] in firewall["droplet_ids"] or not set(firewall["tags"]).isdisjoint(droplet["tags"])


def firewall_rules(store: Store, droplet: Record) -> FirewallRules | None:
    """Return the union of the firewalls that hold a droplet, by id or by tag; None when none does."""
    holding = [firewall for firewall in store.list("firewall") if holds(firewall, droplet)]
    if not holding:
        return None

    def union(direction: str, side: str) -> tuple[PortRule, ...]:
        return tuple(
            PortRule(protocol=rule["protocol"], ports=rule.get("ports") or "0", addresses=_peers(store, rule[side]))
            for firewall in holding
            for rule in firewall[direction]
        )

    return FirewallRules(inbound=union("inbound_rules", "sources"), outbound=union("outbound_rules", "destinations"))


def trusted_sources(store: Store, database: Record) -> tuple[str, ...] | None:
    """Resolve a cluster's trusted sources to CIDRs; None when it has no rule and is open."""
    rules: list[Record] = database["rules"]
    if not rules:
        return None
    found: list[str] = []
    droplets = living(store)
    for rule in rules:
        if rule["type"] == "ip_addr":
            found.append(str(ipaddress.ip_network(rule["value"], strict=False)))
        for droplet in droplets:
            if (rule["type"] == "droplet" and str(droplet["id"]) == rule["value"]) or (
                rule["type"] == "tag" and rule["value"] in droplet["tags"]
            ):
                found += _addresses(droplet)
    return tuple(dict.fromkeys(found))


def cluster_spec(store: Store, database: Record) -> ClusterSpec:
    """Return the part's view of a database cluster."""
    size = catalog.DATABASE_SIZES[database["size"]]
    return ClusterSpec(
        id=database["id"],
        name=database["name"],
        version=database["version"],
        nodes=database["num_nodes"],
        vcpus=size.vcpus,
        memory=size.memory,
        host=database["host"],
        private_host=f"private-{database['host']}",
        vpc=vpc_of(store, database),
        public_ip=database["public_ip"],
        private_ip=database["private_ip"],
        users=tuple(
            DatabaseUser(name=user["name"], password=user["password"], replication=user["replication"])
            for user in database["users"]
        ),
        databases=tuple(database["db_names"]),
        pools=tuple(
            PoolSpec(name=pool["name"], mode=pool["mode"], size=pool["size"], database=pool["db"], user=pool["user"])
            for pool in database["pools"]
        ),
        trusted=trusted_sources(store, database),
        config=postgres_settings(database["config"], size.memory),
        restore=RestoreSpec(**database["restore"]) if database.get("restore") else None,
        monitored=switches_of(store).monitored_databases,
    )


def spaces_keys(store: Store) -> tuple[SpacesKey, ...]:
    """Return every Spaces key, the account's bootstrap key first."""
    bootstrap = store.get_meta("bootstrap")
    keys = [
        SpacesKey(access_key=bootstrap["access_key"], secret_key=bootstrap["secret_key"], grants=(("", "fullaccess"),))
    ]
    for key in store.list("spaces_key"):
        grants = tuple((grant.get("bucket") or "", grant["permission"]) for grant in key["grants"])
        keys.append(SpacesKey(access_key=key["access_key"], secret_key=key["secret_key"], grants=grants))
    return tuple(keys)


def cdn_spec(store: Store, cdn: Record) -> CdnSpec:
    """Return the part's view of a CDN endpoint, with the certificate of its custom domain."""
    certificate = store.get("certificate", cdn.get("certificate_id") or "") or {}
    return CdnSpec(
        id=cdn["id"],
        origin=cdn["origin"],
        endpoint=cdn["endpoint"],
        ttl=cdn["ttl"],
        custom_domain=cdn.get("custom_domain") or None,
        certificate=certificate.get("chain"),
        private_key=certificate.get("private_key"),
    )


def cdn_specs(store: Store) -> tuple[CdnSpec, ...]:
    """Return every CDN endpoint."""
    return tuple(cdn_spec(store, cdn) for cdn in store.list("cdn"))


def registry_logins(cloud: Cloud) -> tuple[RegistryLogin, ...]:
    """Return every login of the registry: the first one, the API token (as at DigitalOcean), and those handed out."""
    bootstrap = cloud.store.get_meta("bootstrap")
    return (
        RegistryLogin(username=bootstrap["registry_username"], password=bootstrap["registry_password"]),
        RegistryLogin(username=cloud.token, password=cloud.token),
        *(
            RegistryLogin(username=login["username"], password=login["password"], expires=login["expires"])
            for login in cloud.store.list("registry_login")
            if login["expires"] is None or login["expires"] > time.time()
        ),
    )


def _dotted(name: str) -> str:
    return name if name.endswith(".") else name + "."


def _zone(store: Store, name: str) -> tuple[DnsRecord, ...]:
    """Return a domain's records for its zone. One that a zone file cannot have is left out: it would cost the rest."""
    records: list[DnsRecord] = []
    for record in store.list("record", parent=name):
        if record["type"] == "SOA":
            continue  # the name server makes its own
        owner = name if record["name"] == "@" else f"{record['name']}.{name}"
        try:
            data = zone_data(record, name)
        except (TypeError, ValueError) as error:
            log.warning("%s record %s of %s is not published: %s", record["type"], record["name"], name, error)
            continue
        records.append(DnsRecord(name=_dotted(owner), type=record["type"], data=data, ttl=record["ttl"] or 1800))
    return tuple(dict.fromkeys(records))  # the API lets a record be there twice; in DNS it is one


def zones(store: Store) -> dict[str, tuple[DnsRecord, ...]]:
    """Return every zone: the account's domains and that of the database hosts. Owner names end with a dot."""
    found = {domain["name"]: _zone(store, domain["name"]) for domain in store.list("domain")}
    hosts: list[DnsRecord] = []
    for database in store.list("database", deleting=False):
        for host, address in ((database["host"], "public_ip"), (f"private-{database['host']}", "private_ip")):
            hosts.append(DnsRecord(name=_dotted(host), type="A", data=database[address], ttl=60))
    found[DATABASE_ZONE] = tuple(hosts)
    return found


def world(cloud: Cloud) -> World:
    """Return everything that should exist."""
    store = cloud.store
    droplets = living(store)
    return World(
        leaving_droplets=frozenset(droplet["id"] for droplet in store.list("droplet", deleting=True))
        | frozenset(int(ident) for ident, _ in store.items("failed_droplet")),
        leaving_clusters=frozenset(database["id"] for database in store.list("database", deleting=True)),
        vpcs=tuple(vpc_spec(vpc) for vpc in store.list("vpc")),
        droplets=tuple(droplet_spec(store, droplet) for droplet in droplets),
        firewalls={droplet["id"]: firewall_rules(store, droplet) for droplet in droplets},
        clusters=tuple(cluster_spec(store, database) for database in store.list("database", deleting=False)),
        spaces_keys=spaces_keys(store),
        cdns=cdn_specs(store),
        registry_logins=registry_logins(cloud),
        zones=zones(store),
        services=tuple(
            kind.spec(store, record) for kind in KINDS.values() if kind.spec for record in kind.living(store)
        ),
    )


def problems(cloud: Cloud) -> dict[str, str]:
    """Return what fails and is tried again, and the actions that failed in the last minutes, with the reasons."""
    return {**cloud.jobs.problems, **failures(cloud.store)}


def summary(cloud: Cloud) -> dict[str, Any]:
    """Return what lives, with addresses, for people."""
    store = cloud.store
    return {
        "droplets": [
            {
                **pick(droplet, "size", *_SHOWN),
                "reserved_ips": [record["ip"] for record in store.list("reserved_ip", droplet_id=droplet["id"])],
            }
            for droplet in store.list("droplet")
        ],
        "databases": [
            pick(database, "host", *_SHOWN) | {"engine": f"pg {database['version']}"}
            for database in store.list("database", deleting=False)
        ],
        "services": [
            pick(record, *_SHOWN) | {"kind": kind.name.replace("_", " ")}
            for kind in KINDS.values()
            if kind.spec
            for record in store.list(kind.name)
        ],
        "vpcs": [pick(vpc, "id", "name", "ip_range", "default") for vpc in store.list("vpc")],
        "domains": [domain["name"] for domain in store.list("domain")],
        "reserved_ips": [pick(record, "ip", "droplet_id") for record in store.list("reserved_ip")],
        "cdn_endpoints": [
            {"endpoint": cdn["endpoint"], "custom_domain": cdn.get("custom_domain")} for cdn in store.list("cdn")
        ],
        "registries": [registry["name"] for registry in store.list("registry")],
        "objects": {kind: count for kind, count in store.counts().items() if kind not in _UNLISTED},
        "problems": problems(cloud),
    }
