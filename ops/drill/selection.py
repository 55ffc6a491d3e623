"""Which backup to drill. Always the latest would leave the older ones unproved, which a slow loss makes needed."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from ops.drill.evidence.details import Choice
from ops.repository.catalog import LATEST


class Pick(StrEnum):
    """A way to choose."""

    LATEST = "latest"
    RANDOM = "random"
    OLDEST_UNVERIFIED = "oldest-unverified"


def choose(
    complete: Sequence[str], pick: Pick, verified: Mapping[str, datetime], *, seed: int | None = None
) -> tuple[str, Choice]:
    """Choose one of the complete backups (ids, oldest first); `latest` where there is none, for the drill to say so.

    Args:
        complete: ids of the complete backups, oldest first.
        pick: how.
        verified: when a drill last restored which backup equal.
        seed: of the random choice; drawn, and returned with the choice, when None.
    """
    if not complete:
        return LATEST, Choice(way=pick)
    if pick is Pick.RANDOM:
        number = secrets.randbelow(1 << 32) if seed is None else seed
        return random.Random(number).choice(list(complete)), Choice(way=pick, seed=number)  # noqa: S311  # no secret
    if pick is Pick.OLDEST_UNVERIFIED:
        unverified = [backup for backup in complete if backup not in verified]
        if unverified:
            return unverified[0], Choice(way=pick)
        return min(complete, key=lambda backup: verified[backup]), Choice(way=pick)
    return complete[-1], Choice(way=pick)
