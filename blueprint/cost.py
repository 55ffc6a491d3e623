"""Estimate the monthly cost of an environment, from its settings or from the inputs of the resources a preview lists.

List prices (`blueprint.sizes`), in US dollars, before taxes and before traffic and storage above what is included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from blueprint.settings import EnvironmentSettings, ManagedPostgresql
from blueprint.sizes import (
    DATABASE_SIZES,
    DROPLET_BACKUP_SHARE,
    DROPLET_SIZES,
    PRICES_READ,
    REGISTRY_TIERS,
    SPACES_SUBSCRIPTION,
)


@dataclass(frozen=True, kw_only=True)
class CostLine:
    """One resource, what sets its price, and US dollars a month."""

    resource: str
    detail: str
    monthly: float


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """The lines, and the budget they are compared with (None: no budget)."""

    environment: str
    lines: tuple[CostLine, ...]
    budget: int | None
    prices_read: str = PRICES_READ

    @property
    def total(self) -> float:
        """US dollars a month."""
        return round(sum(line.monthly for line in self.lines), 2)

    @property
    def over_budget(self) -> bool:
        """Whether the total is above the budget."""
        return self.budget is not None and self.total > self.budget


def droplet_price(size: str, backups: str = "none") -> float:
    """Return the price of one droplet; its backups cost a share of it."""
    return round(DROPLET_SIZES[size].monthly * (1 + DROPLET_BACKUP_SHARE[backups]), 2)


def database_price(size: str, nodes: int) -> float:
    """Return the price of a cluster: every node, standby ones too, costs the same."""
    return DATABASE_SIZES[size].monthly * nodes


def estimate(settings: EnvironmentSettings) -> CostReport:
    """Estimate what an environment costs a month; only what Ancla builds is counted."""
    name = f"{settings.project}-{settings.environment}"
    droplet, lines = settings.droplet, list[CostLine]()
    backups = "" if droplet.backups == "none" else f", {droplet.backups} backups"
    lines.append(
        CostLine(
            resource=f"droplet {name}",
            detail=f"{droplet.size}{backups}",
            monthly=droplet_price(droplet.size, droplet.backups),
        )
    )
    if isinstance(settings.database, ManagedPostgresql):
        size, nodes = settings.database.size, settings.database.nodes
        lines.append(
            CostLine(
                resource=f"database {name}",
                detail=f"PostgreSQL {settings.database.version}, {size}, {nodes} node{'s' * (nodes > 1)}",
                monthly=database_price(size, nodes),
            )
        )
    spaces = [settings.assets.bucket] if settings.assets else []
    spaces += [destination.bucket for destination in settings.backup.destinations if destination.endpoint is None]
    if spaces:
        lines.append(
            CostLine(
                resource=f"spaces {', '.join(spaces)}",
                detail="one subscription, 250 GiB, CDN included",
                monthly=SPACES_SUBSCRIPTION,
            )
        )
    if settings.registry.create:
        lines.append(
            CostLine(
                resource=f"registry {settings.registry.name}",
                detail=settings.registry.tier,
                monthly=REGISTRY_TIERS[settings.registry.tier],
            )
        )
    return CostReport(environment=settings.environment, lines=tuple(lines), budget=settings.budget)


def resource_prices(resources: Iterable[tuple[str, Mapping[str, Any]]]) -> list[float]:
    """Return the monthly price of each (type token, inputs), in order; 0 for those without a price.

    The first bucket carries the Spaces subscription, which covers every bucket of the account.
    """
    prices: list[float] = []
    subscribed = False
    for token, inputs in resources:
        kind = token.rpartition(":")[2]
        price = 0.0
        if kind == "Droplet" and inputs.get("size") in DROPLET_SIZES:
            policy: Any = inputs.get("backupPolicy") or {}
            plan = policy.get("plan", "weekly") if inputs.get("backups") and isinstance(policy, dict) else "none"
            price = droplet_price(str(inputs["size"]), str(plan))
        elif kind == "DatabaseCluster" and inputs.get("size") in DATABASE_SIZES:
            price = database_price(str(inputs["size"]), int(inputs.get("nodeCount", 1)))
        elif kind == "SpacesBucket":
            price, subscribed = (0.0 if subscribed else SPACES_SUBSCRIPTION), True
        elif kind in ("ContainerRegistry", "ContainerRegistries"):
            price = REGISTRY_TIERS.get(str(inputs.get("subscriptionTierSlug")), 0.0)
        prices.append(price)
    return prices
