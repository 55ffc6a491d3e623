"""What drills have shown of each backup, by its id and the digest of the manifest that was drilled.

A backup that is rewritten under its own id has another digest, and none of what was shown of the former one is true of
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

Key = tuple[str, str]
"""A backup's id and its manifest's digest."""


@dataclass(frozen=True, kw_only=True)
class DrillHistory:
    """`verified`: when a drill last restored it equal. `failed`: what the last drill found instead.

    `seen`: the digests of all manifests that a drill has met under an id in this store, or restored from anywhere.
    """

    verified: dict[Key, datetime] = field(default_factory=dict[Key, datetime])
    failed: dict[Key, str] = field(default_factory=dict[Key, str])
    seen: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
