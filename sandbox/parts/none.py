"""Parts that are not there: every call succeeds at once and is noted. For tests and for clients without a machine."""

from __future__ import annotations

import ipaddress
import threading
import time
from typing import Any

from sandbox.parts.base import (
    BaseBackup,
    CdnSpec,
    ClusterSpec,
    Contents,
    DnsRecord,
    DropletSpec,
    FirewallRules,
    RangeTakenError,
    RegistryLogin,
    ServiceSpec,
    SpacesKey,
    VpcSpec,
    World,
)


def _first_free(network: ipaddress.IPv4Network, prefix: int, taken: frozenset[str]) -> str:
    if prefix == 32:
        return next(str(host) for host in network.hosts() if str(host) not in taken)
    used = [ipaddress.ip_network(other) for other in taken]
    return next(str(net) for net in network.subnets(new_prefix=prefix) if not any(net.overlaps(u) for u in used))


class NoParts:
    """Answers `sandbox.parts.base.Parts`.

    `calls` is what was asked; `fail` makes a method raise; `gate` holds one until its event is set, `waiting` counts
    who came there; `bucket_list` are the Spaces, `policy_list` those with a policy and `repository_list` the
    repositories; `taken_ranges` are the ranges
    that no VPC can have, though they are offered.
    """

    postgres_versions = ("15", "17", "18")

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.fail: dict[str, Exception] = {}
        self.gate: dict[str, threading.Event] = {}
        self.waiting: dict[str, int] = {}
        self.taken_ranges: set[str] = set()
        self.problems: dict[str, str] = {}
        self.bucket_list: tuple[tuple[str, str], ...] = ()
        self.policy_list: tuple[str, ...] = ()
        self.repository_list: tuple[str, ...] = ()
        self.zones: dict[str, tuple[DnsRecord, ...]] = {}
        self.firewalls: dict[int, FirewallRules | None] = {}
        self.clusters: dict[str, ClusterSpec] = {}
        self.droplets: dict[int, DropletSpec] = {}
        self.services: dict[str, ServiceSpec] = {}
        self.spaces_keys: tuple[SpacesKey, ...] = ()
        self.cdns: tuple[CdnSpec, ...] = ()
        self.registry_logins: tuple[RegistryLogin, ...] = ()

    def _note(self, method: str, argument: Any) -> None:
        if method in self.gate:
            self.waiting[method] = self.waiting.get(method, 0) + 1
            self.gate[method].wait(30)
        self.calls.append((method, argument))
        if method in self.fail:
            raise self.fail[method]

    def free_public_ip(self, taken: frozenset[str], *, reserved: bool = False) -> str:
        """Return an address of a documentation range (RFC 5737): nothing answers there."""
        return _first_free(ipaddress.IPv4Network("198.51.100.0/24" if reserved else "203.0.113.0/24"), 32, taken)

    def free_vpc_range(self, taken: frozenset[str]) -> str:
        """Return an unused /20 inside 10.0.0.0/8."""
        self._note("free_vpc_range", taken)
        return _first_free(ipaddress.IPv4Network("10.100.0.0/14"), 20, taken)

    def create_vpc(self, vpc: VpcSpec) -> None:
        """Note the call."""
        self._note("create_vpc", vpc)
        if vpc.ip_range in self.taken_ranges:
            raise RangeTakenError(f"network {vpc.id}: Pool overlaps with other one on this address space")

    def delete_vpc(self, vpc_id: str) -> None:
        """Note the call."""
        self._note("delete_vpc", vpc_id)

    def create_droplet(self, droplet: DropletSpec) -> None:
        """Note the droplet."""
        self._note("create_droplet", droplet)
        self.droplets[droplet.id] = droplet

    def delete_droplet(self, droplet_id: int) -> None:
        """Forget the droplet."""
        self._note("delete_droplet", droplet_id)
        self.droplets.pop(droplet_id, None)

    def power(self, droplet: DropletSpec, operation: str) -> None:
        """Note the call."""
        self._note("power", (droplet.id, operation))

    def resize_droplet(self, droplet: DropletSpec) -> None:
        """Note the call."""
        self._note("resize_droplet", droplet)

    def set_firewall(self, droplet: DropletSpec, rules: FirewallRules | None) -> None:
        """Note the rules."""
        self._note("set_firewall", droplet.id)
        self.firewalls[droplet.id] = rules

    def set_reserved_ips(self, droplet: DropletSpec) -> None:
        """Note the droplet."""
        self._note("set_reserved_ips", droplet)
        self.droplets[droplet.id] = droplet

    def apply_cluster(self, cluster: ClusterSpec) -> None:
        """Note the cluster."""
        self._note("apply_cluster", cluster)
        self.clusters[cluster.id] = cluster

    def delete_cluster(self, cluster_id: str) -> None:
        """Forget the cluster."""
        self._note("delete_cluster", cluster_id)
        self.clusters.pop(cluster_id, None)

    def drop_database(self, cluster: ClusterSpec, name: str) -> None:
        """Note the call."""
        self._note("drop_database", (cluster.id, name))

    def drop_user(self, cluster: ClusterSpec, name: str) -> None:
        """Note the call."""
        self._note("drop_user", (cluster.id, name))

    def take_backup(self, cluster: ClusterSpec, name: str) -> BaseBackup | None:
        """Note the call; the backup of nothing is 30 MB."""
        self._note("take_backup", (cluster.id, name))
        return BaseBackup(name=name, finished=time.time(), size=30_000_000)

    def keep_backups(self, cluster: ClusterSpec, names: tuple[str, ...]) -> None:
        """Note the call."""
        self._note("keep_backups", (cluster.id, names))

    def contents(self, cluster: ClusterSpec) -> Contents:
        """Return what its source was told last, as if nothing had changed since the time it was restored to."""
        self._note("contents", cluster.id)
        told = self.clusters[cluster.restore.source if cluster.restore else cluster.id]
        return Contents(databases=frozenset(told.databases), users=frozenset(user.name for user in told.users))

    def apply_service(self, spec: ServiceSpec) -> None:
        """Note the service."""
        self._note("apply_service", spec)
        self.services[spec.id] = spec

    def delete_service(self, kind: str, ident: str) -> None:
        """Forget the service."""
        self._note("delete_service", (kind, ident))
        self.services.pop(ident, None)

    def ca_certificate(self) -> str:
        """Return a text in the shape of a PEM certificate."""
        self._note("ca_certificate", None)
        return "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n"

    def issue_certificate(self, names: tuple[str, ...]) -> tuple[str, str]:
        """Note the call; return texts in the shape of PEM."""
        self._note("issue_certificate", names)
        return self.ca_certificate(), "-----BEGIN PRIVATE KEY-----\nbm9uZQ==\n-----END PRIVATE KEY-----\n"

    def set_spaces_keys(self, keys: tuple[SpacesKey, ...]) -> None:
        """Note the keys."""
        self._note("set_spaces_keys", len(keys))
        self.spaces_keys = keys

    def set_spaces_switches(self, switches: dict[str, Any]) -> None:
        """Note the switches."""
        self._note("set_spaces_switches", switches)

    def buckets(self) -> tuple[tuple[str, str], ...]:
        """Return `bucket_list`."""
        self._note("buckets", None)
        return self.bucket_list

    def buckets_with_policy(self) -> frozenset[str]:
        """Return `policy_list`."""
        return frozenset(self.policy_list)

    def set_cdns(self, cdns: tuple[CdnSpec, ...]) -> None:
        """Note the endpoints."""
        self._note("set_cdns", len(cdns))
        self.cdns = cdns

    def purge_cdn(self, cdn: CdnSpec, files: tuple[str, ...]) -> None:
        """Note the call."""
        self._note("purge_cdn", (cdn.id, files))

    def set_registry_logins(self, logins: tuple[RegistryLogin, ...]) -> None:
        """Note the logins."""
        self._note("set_registry_logins", len(logins))
        self.registry_logins = logins

    def repositories(self) -> tuple[str, ...]:
        """Return `repository_list`."""
        self._note("repositories", None)
        return self.repository_list

    def set_zones(self, zones: dict[str, tuple[DnsRecord, ...]]) -> None:
        """Note the zones."""
        self._note("set_zones", len(zones))
        self.zones = zones

    def reconcile(self, world: World) -> dict[str, str]:
        """Take the world over; return `problems`."""
        self._note("reconcile", world)
        self.droplets = {droplet.id: droplet for droplet in world.droplets}
        self.clusters = {cluster.id: cluster for cluster in world.clusters}
        self.services = {spec.id: spec for spec in world.services}
        self.firewalls, self.zones, self.cdns = dict(world.firewalls), world.zones, world.cdns
        self.spaces_keys, self.registry_logins = world.spaces_keys, world.registry_logins
        return self.problems

    def leaks(self, world: World) -> list[str]:  # noqa: ARG002 - the contract has it
        """Nothing exists, so nothing leaks."""
        return []
