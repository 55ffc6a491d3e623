"""Describe what drills have proved about each backup, by its id and the digest of the drilled manifest.

A backup that is rewritten under its own id has another digest, and nothing proved about the former one applies to
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

Key = tuple[str, str]
"""A backup's id and its manifest's digest."""


@dataclass(frozen=True, kw_only=True)
class DrillHistory:
    """`verified`: when a drill last restored it with equal content. `failed`: the last drill's result otherwise.

    `seen`: the digests of all manifests that a drill has read under an id in this store, or restored from anywhere.
    """

    verified: dict[Key, datetime] = field(default_factory=dict[Key, datetime])
    failed: dict[Key, str] = field(default_factory=dict[Key, str])
    seen: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
