"""Compute the cost of a fork before it is created: the plan's hourly price, times the hours a drill may take."""

from __future__ import annotations

import math
from dataclasses import dataclass

from blueprint.sizes import DATABASE_SIZES, PRICES_READ
from ops.core.errors import OpsError
from ops.managed_postgres.provider import Cluster

HOURS_A_MONTH = 672
"""Hours in a month for billing: DigitalOcean bills by the hour, up to this many per month."""


@dataclass(frozen=True, kw_only=True)
class ForkCost:
    """Maximum cost in US dollars: `hourly` for one node, times `hours`. Extra disk is not included."""

    size: str
    hourly: float
    hours: int
    prices_read: str = PRICES_READ

    @property
    def total(self) -> float:
        """Return the US dollars for all hours."""
        return round(self.hourly * self.hours, 4)


def fork_cost(live: Cluster, wait_minutes: int, limit: float) -> ForkCost:
    """Estimate the maximum cost of a fork: the time it may take to come online, plus an hour to check and destroy it.

    Raises:
        OpsError: the plan's price is unknown or above the limit. Nothing was created.
    """
    size = DATABASE_SIZES.get(live.size)
    if size is None:
        raise OpsError(
            f"{live.name}: the price of {live.size} is not in blueprint/prices.json; no fork without a price"
        )
    hours = math.ceil(wait_minutes / 60) + 1
    cost = ForkCost(size=live.size, hourly=round(size.monthly / HOURS_A_MONTH, 5), hours=hours)
    if cost.total > limit:
        raise OpsError(
            f"a fork of {live.name} ({live.size}) may cost {cost.total:.2f} US dollars ({cost.hours} h), "
            f"more than --max-cost {limit:.2f}; nothing was made"
        )
    return cost
