"""What drills have shown of each backup, as retention is given it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Proofs:
    """`verified`: when a drill last restored a backup equal, by its id. `refuted`: what the last one found instead."""

    verified: dict[str, datetime] = field(default_factory=dict[str, datetime])
    refuted: dict[str, str] = field(default_factory=dict[str, str])
