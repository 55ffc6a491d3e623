"""Check that the newest backup is within its age budget, as the stores show it rather than local records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ops.core.errors import ManifestError
from ops.core.formatting import duration
from ops.repository.catalog import entries, read_manifest, why_not_latest
from ops.repository.stores.base import Store


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """The newest trusted complete backup of a set in one store. Ages in seconds.

    `passed_over` names newer ones that are not trusted, and why.
    """

    name: str
    store: str
    budget: float
    backup: str | None = None
    age: float | None = None
    passed_over: tuple[str, ...] = ()

    @property
    def fresh(self) -> bool:
        """Return True if it is within the budget."""
        return self.age is not None and self.age <= self.budget

    def __str__(self) -> str:
        why = f" ({'; '.join(self.passed_over)})" if self.passed_over else ""
        if self.age is None:
            return f"{self.store} has no complete backup of {self.name}{why}"
        return (
            f"the newest complete backup of {self.name} in {self.store} is {duration(self.age)} old, "
            f"the budget is {duration(self.budget)}{why}"
        )


def look(  # noqa: PLR0913  # each argument is given by name
    store: Store,
    names: Sequence[str],
    *,
    budget_hours: float,
    signer: str | None,
    now: datetime,
    recipients: Sequence[str] | None = None,
) -> list[Freshness]:
    """Find the newest trusted backup of each set.

    A backup is not trusted unless `signer` (OpenSSH public line) signed it and one of `recipients` (age public
    keys; None: not compared) can decrypt it.

    Raises:
        StoreError: the store does not answer.
    """
    return [_newest(store, name, budget_hours * 3600, signer, recipients, now) for name in names]


def stale(found: Iterable[Freshness]) -> list[Freshness]:
    """Return those that exceed their budget."""
    return [item for item in found if not item.fresh]


def _newest(  # noqa: PLR0913, PLR0917  # the questions of one line
    store: Store, name: str, budget: float, signer: str | None, recipients: Sequence[str] | None, now: datetime
) -> Freshness:
    passed: list[str] = []
    for entry in reversed([entry for entry in entries(store, name) if entry.complete]):
        try:
            manifest = read_manifest(store, name, entry.id)
        except ManifestError as error:
            passed.append(str(error))
            continue
        if why := why_not_latest(manifest, signer, now, recipients):
            passed.append(why)
        else:
            return Freshness(
                name=name,
                store=store.name,
                budget=budget,
                backup=entry.id,
                age=max(0.0, (now - manifest.snapshot_at).total_seconds()),
                passed_over=tuple(passed[:3]),
            )
    return Freshness(name=name, store=store.name, budget=budget, passed_over=tuple(passed[:3]))
