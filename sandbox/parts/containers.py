"""The real services: every one in labelled containers."""

# ruff: noqa: D102 - what a method of the contract does is said there

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from sandbox.parts.authority import Authority
from sandbox.parts.base import PartError, World
from sandbox.parts.container_spec import is_draft
from sandbox.parts.databases import Databases
from sandbox.parts.dns import Dns
from sandbox.parts.docker import Docker
from sandbox.parts.droplets import LABEL as DROPLET_LABEL
from sandbox.parts.droplets import Droplets
from sandbox.parts.edge import Edge
from sandbox.parts.images import Images
from sandbox.parts.instance import Instance
from sandbox.parts.load_balancers import LoadBalancers
from sandbox.parts.network import Networks
from sandbox.parts.proxy import Proxy
from sandbox.parts.registry import Registry
from sandbox.parts.service import Service
from sandbox.parts.services import Parts
from sandbox.parts.spaces import Spaces

log = logging.getLogger(__name__)
AT_ONCE = 6
KINDS = ("container", "network", "volume")


_DELETE = {"container": "docker rm --volumes", "volume": "docker volume rm"}


def _quiet(_: str) -> None:
    """Take a line of progress and say nothing."""


class ContainerParts(Parts):
    """All parts of one instance. `say` gets one line for each long step."""

    def __init__(
        self, instance: Instance, say: Callable[[str], None] = _quiet, *, docker: Docker | None = None
    ) -> None:
        docker = docker or Docker()
        self.instance, self.docker, self.authority = instance, docker, Authority()
        self.images = Images(docker, self.authority, say)
        self.networks = Networks(instance, docker)
        where = (instance, docker, self.images, self.networks)
        self.dns, self.edge, self.proxy = Dns(*where), Edge(*where), Proxy(*where)
        self.spaces, self.registry = Spaces(*where), Registry(*where)
        self.droplets = Droplets(*where, edge=self.edge)
        self.databases, self.load_balancers = Databases(*where), LoadBalancers(*where)
        self.infrastructure = (self.dns, self.edge, self.spaces, self.registry, self.proxy)
        self.services: tuple[Service, ...] = (*self.infrastructure, self.databases, self.load_balancers, self.droplets)

    # What is there before any resource is.

    def start(self) -> bool:
        """Create and start the networks and the infrastructure; False when all of it ran already."""
        self.networks.ensure_infrastructure()
        self.images.image("parts")
        return any(_all(part.ensure for part in self.infrastructure))

    def stop(self) -> None:
        """Stop every container of the instance; disks and data stay."""
        names = sorted(self.docker.names("container", self.instance.label, everything=False))
        _all(lambda name=name: self.docker.stop(name) for name in names)

    def reset(self) -> None:
        """Remove everything that carries the instance's label: containers, networks, volumes.

        Raises:
            PartError: some of it could not be removed; all the rest is.
        """
        problems: dict[str, str] = {}
        for kind in KINDS:
            names = self.docker.names(kind, self.instance.label)
            problems |= _try_all(
                {f"{kind} {name}": lambda kind=kind, name=name: self._remove(kind, name) for name in sorted(names)}
            )
        if problems:
            raise PartError(f"not removed: {'; '.join(f'{what} ({why})' for what, why in problems.items())}")

    def containers(self) -> list[dict[str, str]]:
        """Every container of the instance: name, state, addresses."""
        names = sorted(self.docker.names("container", self.instance.label))
        rows: list[dict[str, str]] = []
        for name in names:
            found = self.docker.inspect("container", name)
            if found is not None:
                networks = found["NetworkSettings"]["Networks"].values()
                addresses = ", ".join(network["IPAddress"] for network in networks if network["IPAddress"])
                rows.append({"name": name, "state": found["State"]["Status"], "addresses": addresses})
        return rows

    def free_public_ip(self, taken: frozenset[str], *, reserved: bool = False) -> str:
        return self.instance.plan.free_public_ip(taken, reserved=reserved)

    def reconcile(self, world: World) -> dict[str, str]:
        self.start()
        problems = self._clear_away(world)
        problems |= _try_all({f"vpc:{vpc.id}": lambda vpc=vpc: self.networks.create_vpc(vpc) for vpc in world.vpcs})
        for vpc in world.vpcs:
            if reason := self.networks.check_vpc_range(vpc.ip_range):
                problems[f"range of VPC {vpc.name}"] = reason
        shared = (
            lambda: self.dns.set_zones(world.zones),
            lambda: self.spaces.set_keys(world.spaces_keys),
            lambda: self._reconcile_edge(world),
        )
        _all(shared)
        problems |= _try_all({name: step for service in self.services for name, step in service.steps(world).items()})
        for what, reason in problems.items():
            log.warning("%s: %s", what, reason)
        return problems

    def _clear_away(self, world: World) -> dict[str, str]:
        """Remove what the world does not explain. What holds data is stopped, kept and named, unless it was deleted.

        The disk of a droplet is its container. Everything else keeps its data in volumes.
        """
        deleted = {name for service in self.services for _, name in service.leaving(world)}
        problems: dict[str, str] = {}
        aside: set[str] = set()
        for kind, names in self._unexplained(world).items():
            if kind == "network":
                # Those of droplets that are kept stay: a container starts on the very networks that it was on.
                kept = names if aside else set[str]()
            else:
                kept = (self._disks(names) if kind == "container" else names) - deleted
            steps = {f"{kind} {name}": lambda kind=kind, name=name: self._remove(kind, name) for name in names - kept}
            if kind == "container":
                steps |= {f"{kind} {name}": lambda name=name: self.docker.stop(name) for name in kept}
            if kind != "network":
                problems |= {
                    f"{kind} {name}": "state.db does not know it; it is stopped and kept, as there may be data on it. "
                    f"Bring the right state.db back, or delete it: {_DELETE[kind]} {name}"
                    for name in kept
                }
            problems |= _try_all(steps)
            aside |= kept
        self.droplets.aside = frozenset(aside)
        return problems

    def _disks(self, containers: set[str]) -> set[str]:
        """Return those that are droplets. A draft was never started, so nothing is on it."""
        return {name for name in self.docker.names("container", DROPLET_LABEL) & containers if not is_draft(name)}

    def _remove(self, kind: str, name: str) -> None:
        match kind:
            case "container":
                self.docker.remove(name)
            case "network":
                self.docker.remove_network(name)
            case _:
                self.docker.remove_volume(name)

    def _reconcile_edge(self, world: World) -> None:
        self.edge.set_registry_logins(world.registry_logins)
        self.edge.set_cdns(world.cdns)
        self.edge.publish({droplet.id: droplet.reserved_ips for droplet in world.droplets})

    def _unexplained(self, world: World) -> dict[str, set[str]]:
        """Return the names of all that is not in the world, by kind; containers first."""
        expected = self.networks.expected(world).union(*(service.expected(world) for service in self.services))
        return {
            kind: {name for name in self.docker.names(kind, self.instance.label) if (kind, name) not in expected}
            for kind in KINDS
        }

    def leaks(self, world: World) -> list[str]:
        """As `Parts.leaks`. What explains a bucket is a key granted on it, or a CDN before it."""
        found = [f"{kind} {name}" for kind, names in self._unexplained(world).items() for name in sorted(names)]
        return found + [leak for service in self.services for leak in service.leaks(world)]


def _side_by_side(steps: Iterable[Callable[[], Any]]) -> list[Future[Any]]:
    """Run every step to its end, several at a time."""
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        return [pool.submit(step) for step in steps]


def _error(future: Future[Any]) -> PartError | None:
    """Return the error of a step that has ended."""
    error = future.exception()
    return error if error is None or isinstance(error, PartError) else PartError(f"{type(error).__name__}: {error}")


def _all(steps: Iterable[Callable[[], Any]]) -> list[Any]:
    """Run steps side by side and return their results; every one is tried, and the first failure is raised."""
    futures = _side_by_side(steps)
    for error in filter(None, map(_error, futures)):
        raise error
    return [future.result() for future in futures]


def _try_all(steps: dict[str, Callable[[], Any]]) -> dict[str, str]:
    """Run named steps side by side; return the reason of each that failed."""
    errors = zip(steps, map(_error, _side_by_side(steps.values())), strict=True)
    return {name: str(error) for name, error in errors if error}
