"""Services that are not there: every call succeeds at once and is noted. For tests and clients without a machine."""

from __future__ import annotations

import inspect
import ipaddress
import threading
import time
from collections.abc import Callable
from typing import Any, get_type_hints

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
    World,
)
from sandbox.parts.services import Parts

_CA = "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n"
_KEY = "-----BEGIN PRIVATE KEY-----\nbm9uZQ==\n-----END PRIVATE KEY-----\n"


def _first_free(network: ipaddress.IPv4Network, prefix: int, taken: frozenset[str]) -> str:
    if prefix == 32:
        return next(str(host) for host in network.hosts() if str(host) not in taken)
    used = [ipaddress.ip_network(other) for other in taken]
    return next(str(net) for net in network.subnets(new_prefix=prefix) if not any(net.overlaps(u) for u in used))


class NoParts(Parts):
    """Every service of `Parts`, each method of which notes its call as `<service>.<method>`.

    `calls` is what was asked, a spec among several arguments by its id; `fail` makes a method raise; `gate` holds one
    until its event is set, `waiting` counts who came there; `answers` are what methods return, if not the default;
    `taken_ranges` are the ranges that no VPC can have, though they are offered.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.fail: dict[str, Exception] = {}
        self.gate: dict[str, threading.Event] = {}
        self.waiting: dict[str, int] = {}
        self.answers: dict[str, Callable[..., Any]] = {}
        self.taken_ranges: set[str] = set()
        self.problems: dict[str, str] = {}
        self.bucket_list: tuple[tuple[str, str], ...] = ()
        self.policy_list: tuple[str, ...] = ()
        self.repository_list: tuple[str, ...] = ()
        self._take_over(World())
        for name, service in get_type_hints(Parts).items():
            setattr(self, name, self._recorded(name, service))

    def _take_over(self, world: World) -> None:
        self.droplet_specs: dict[int, DropletSpec] = {droplet.id: droplet for droplet in world.droplets}
        self.clusters: dict[str, ClusterSpec] = {cluster.id: cluster for cluster in world.clusters}
        self.service_specs: dict[str, ServiceSpec] = {spec.id: spec for spec in world.services}
        self.firewalls: dict[int, FirewallRules | None] = dict(world.firewalls)
        self.zones: dict[str, tuple[DnsRecord, ...]] = world.zones
        self.cdns: tuple[CdnSpec, ...] = world.cdns
        self.spaces_keys: tuple[SpacesKey, ...] = world.spaces_keys
        self.registry_logins: tuple[RegistryLogin, ...] = world.registry_logins

    def _recorded(self, name: str, service: type[Any]) -> Any:
        """Return an object of a service's class whose public methods note their calls, and refuse wrong arguments."""

        def recorder(key: str, signature: inspect.Signature) -> Callable[..., Any]:
            def record(*given: Any, **options: Any) -> Any:
                arguments = tuple(signature.bind(*given, **options).arguments.values())[1:]
                names = tuple(getattr(argument, "id", argument) for argument in arguments)
                self._note(key, names if len(arguments) > 1 else next(iter(arguments), None))
                return self.answers[key](*arguments) if key in self.answers else self._answer(key, arguments)

            return record

        methods = {
            method: recorder(f"{name}.{method}", inspect.signature(function))
            for method, function in inspect.getmembers(service, inspect.isfunction)
            if not method.startswith("_")
        }
        return object.__new__(type(service.__name__, (service,), methods))

    def _note(self, method: str, argument: Any) -> None:
        if method in self.gate:
            self.waiting[method] = self.waiting.get(method, 0) + 1
            self.gate[method].wait(30)
        self.calls.append((method, argument))
        if method in self.fail:
            raise self.fail[method]

    def _answer(self, method: str, arguments: tuple[Any, ...]) -> Any:  # noqa: C901, PLR0911, PLR0912 - one row a method
        match method, *arguments:
            case "networks.free_vpc_range", taken:
                return _first_free(ipaddress.IPv4Network("10.100.0.0/14"), 20, taken)
            case "networks.create_vpc", vpc:
                if vpc.ip_range in self.taken_ranges:
                    raise RangeTakenError(f"network {vpc.id}: Pool overlaps with other one on this address space")
            case (("droplets.create" | "droplets.set_reserved_ips"), droplet):
                self.droplet_specs[droplet.id] = droplet
            case "droplets.delete", ident:
                self.droplet_specs.pop(ident, None)
            case "droplets.set_firewall", droplet, rules:
                self.firewalls[droplet.id] = rules
            case "databases.apply", cluster:
                self.clusters[cluster.id] = cluster
            case "databases.delete", ident:
                self.clusters.pop(ident, None)
            case "load_balancers.apply", spec:
                self.service_specs[spec.id] = spec
            case "load_balancers.delete", ident:
                self.service_specs.pop(ident, None)
            case "databases.take_backup", _, name:  # that of nothing is 30 MB
                return BaseBackup(name=name, finished=time.time(), size=30_000_000)
            case "databases.contents", cluster:
                # As last applied to its source: as if nothing had changed since the time it was restored to.
                last = self.clusters[cluster.restore.source if cluster.restore else cluster.id]
                return Contents(databases=frozenset(last.databases), users=frozenset(user.name for user in last.users))
            case ("authority.certificate",):
                return _CA
            case "authority.issue", _:
                return _CA, _KEY
            case "spaces.set_keys", keys:
                self.spaces_keys = keys
            case "edge.set_cdns", cdns:
                self.cdns = cdns
            case "edge.set_registry_logins", logins:
                self.registry_logins = logins
            case "dns.set_zones", zones:
                self.zones = zones
            case ("spaces.buckets",):
                return self.bucket_list
            case ("spaces.with_policy",):
                return frozenset(self.policy_list)
            case ("registry.repositories",):
                return self.repository_list
            case _:
                pass
        return None

    def free_public_ip(self, taken: frozenset[str], *, reserved: bool = False) -> str:
        """Return an address of a documentation range (RFC 5737): nothing answers there."""
        return _first_free(ipaddress.IPv4Network("198.51.100.0/24" if reserved else "203.0.113.0/24"), 32, taken)

    def reconcile(self, world: World) -> dict[str, str]:
        """Take the world over; return `problems`."""
        self._note("reconcile", world)
        self._take_over(world)
        return self.problems

    def leaks(self, world: World) -> list[str]:  # noqa: ARG002 - the contract has it
        """Nothing exists, so nothing leaks."""
        return []
