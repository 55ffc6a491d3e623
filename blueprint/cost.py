"""Estimate the monthly cost of an environment, from its settings or from the inputs of the resources a preview lists.

Both go through one table, `blueprint.kinds`. List prices, in US dollars, before taxes and traffic above the included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blueprint.fields import Size
from blueprint.kinds import KINDS, PriceUnknownError
from blueprint.settings.database import ManagedPostgresql, ManagedValkey
from blueprint.settings.environment import EnvironmentSettings
from blueprint.settings.topology import AppPlatformTopology, DropletsTopology, KubernetesTopology
from blueprint.sizes import PRICES_READ


@dataclass(frozen=True, kw_only=True)
class Price:
    """US dollars a month; None where no price is known, and `unknown` says of what."""

    monthly: float | None
    unknown: str = ""


@dataclass(frozen=True, kw_only=True)
class CostLine:
    """One resource, what sets its price, and US dollars a month (None: no price is known)."""

    resource: str
    detail: str
    monthly: float | None


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """The lines, and the budget they are compared with (None: no budget)."""

    environment: str
    lines: tuple[CostLine, ...]
    budget: int | None
    prices_read: str = PRICES_READ

    @property
    def total(self) -> float:
        """US dollars a month, of the lines whose price is known."""
        return round(sum(line.monthly or 0 for line in self.lines), 2)

    @property
    def unpriced(self) -> tuple[str, ...]:
        """The resources whose price is not known."""
        return tuple(line.resource for line in self.lines if line.monthly is None)

    @property
    def over_budget(self) -> bool:
        """Return True if the total is above the budget."""
        return self.budget is not None and self.total > self.budget


def price(kind: str, inputs: Mapping[str, Any]) -> Price:
    """Return the monthly price of one resource, by its kind (such as `Droplet`) and the provider's inputs."""
    known = KINDS.get(kind)
    if known is None:
        return Price(monthly=None, unknown=f"no price is known for the kind {kind}")
    try:
        return Price(monthly=known.price(inputs))
    except PriceUnknownError as error:
        return Price(monthly=None, unknown=str(error))


def resource_prices(resources: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Price]:
    """Return the monthly price of each (type token, inputs), in order.

    The first bucket carries the Spaces subscription, which covers every bucket of the account. Each assignment makes
    one reserved IP free. What is not DigitalOcean's costs nothing there.
    """
    listed = [
        (token.rpartition(":")[2] if token.startswith("digitalocean:") else "", inputs) for token, inputs in resources
    ]
    assignments = sum(kind == "ReservedIpAssignment" for kind, _ in listed)
    prices: list[Price] = []
    subscribed = False
    for kind, inputs in listed:
        given = inputs
        if kind == "SpacesBucket" and subscribed:
            prices.append(Price(monthly=0.0))
            continue
        if kind == "ReservedIp" and "dropletId" not in inputs and assignments:
            assignments -= 1
            given = {**inputs, "dropletId": "assigned"}
        subscribed = subscribed or kind == "SpacesBucket"
        prices.append(price(kind, given) if kind else Price(monthly=0.0))
    return prices


def estimate(settings: EnvironmentSettings) -> CostReport:
    """Estimate what an environment costs a month, by the resources that its settings ask for, and what others bill."""
    lines = tuple(
        CostLine(resource=resource, detail=detail, monthly=price(kind, inputs).monthly)
        for kind, resource, detail, inputs in _planned(settings)
    ) + tuple(CostLine(resource=name, detail="billed by others", monthly=cost) for name, cost in settings.costs.items())
    return CostReport(environment=settings.environment, lines=lines, budget=settings.budget)


Planned = tuple[str, str, str, Mapping[str, Any]]
"""A kind, the resource's name, what sets its price, and the provider's inputs that do."""


def _planned(settings: EnvironmentSettings) -> Iterator[Planned]:
    name = settings.stem
    yield from _runs_the_app(settings, name)
    yield from _database(settings, name)
    if isinstance(cache := settings.cache, ManagedValkey):
        inputs = {"engine": "valkey", "size": cache.size, "nodeCount": cache.nodes}
        yield "DatabaseCluster", f"cache {name}", f"Valkey, {cache.size}, {_nodes(cache.nodes)}", inputs
    spaces = [bucket.bucket for bucket in settings.buckets.values()]
    spaces += [place.space for place in settings.backup.destinations.values() if place.space]
    if spaces:
        yield "SpacesBucket", f"spaces {', '.join(spaces)}", "one subscription, 250 GiB, CDN included", {}
    if (registry := settings.registry) is not None:
        detail = (
            f"{registry.tier}, one subscription for every stack of the account" if registry.shared else registry.tier
        )
        yield "ContainerRegistries", f"registry {registry.name}", detail, {"subscriptionTierSlug": registry.tier}


def _runs_the_app(settings: EnvironmentSettings, name: str) -> Iterator[Planned]:
    topology = settings.topology
    if isinstance(topology, AppPlatformTopology):
        scale, number = topology.scale, len(settings.services)
        least, most = (
            {"spec": {"services": [{"instanceSizeSlug": topology.size, "instanceCount": count}] * number}}
            for count in (scale.min, scale.max)
        )
        detail = f"{topology.size}, {number} service{'s' * (number > 1)}"
        yield "App", f"app {name}", detail + _growth("App", most, "instances", scale.min, scale.max), least
        return
    if isinstance(topology, KubernetesTopology):
        pool = topology.pool
        least, most = (
            {"ha": topology.high_availability, "nodePool": {"size": pool.size, "nodeCount": count}}
            for count in (pool.min, pool.max)
        )
        detail = f"{pool.size}, {_nodes(pool.min)}" + ", high availability" * topology.high_availability
        growth = _growth("KubernetesCluster", most, "nodes", pool.min, pool.max)
        yield "KubernetesCluster", f"cluster {name}", detail + growth, least
    else:
        backups = "" if topology.backups == "none" else f", {topology.backups} backups"
        policy = {"backups": topology.backups != "none", "backupPolicy": {"plan": topology.backups}}
        several = isinstance(topology, DropletsTopology)
        for number in range(1, (topology.count if several else 1) + 1):
            suffix = f"-{number}" if several else ""
            yield "Droplet", f"droplet {name}{suffix}", f"{topology.size}{backups}", {"size": topology.size, **policy}
            for volume, size in topology.volumes.items():
                yield "Volume", f"volume {name}{suffix}-{volume}", str(size), {"size": size // Size("1G")}
    if (balancer := topology.balancer) is not None:
        yield "LoadBalancer", f"load balancer {name}", _nodes(balancer.nodes), {"sizeUnit": balancer.nodes}


def _database(settings: EnvironmentSettings, name: str) -> Iterator[Planned]:
    database = settings.database
    if not isinstance(database, ManagedPostgresql):
        return
    detail = f"PostgreSQL {database.version}, {database.size}, {_nodes(database.nodes)}"
    inputs = {"engine": "pg", "size": database.size, "nodeCount": database.nodes}
    if database.storage is not None:
        detail += f", {database.storage} of disk"
        inputs["storageSizeMib"] = database.storage // Size("1M")
    yield "DatabaseCluster", f"database {name}", detail, inputs
    for replica, settled in database.replicas.items():
        yield "DatabaseReplica", f"read replica {name}-{replica}", settled.size, {"size": settled.size}


def _growth(kind: str, inputs: Mapping[str, Any], what: str, least: int, most: int) -> str:
    """Return how far something grows by itself, and its price then: the line has that of the smallest."""
    monthly = price(kind, inputs).monthly
    return f"; up to {most} {what}, {monthly:.2f}" if most > least and monthly is not None else ""


def _nodes(count: int) -> str:
    return f"{count} node{'s' * (count > 1)}"
