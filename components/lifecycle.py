"""Protection of resources, in production and where data may go. The components' arguments are taken from here.

- `protect`: the engine refuses to delete it until a person unprotects it. For what holds data, or a name that others
  rely on.
- `force_destroy`: a bucket goes with the objects in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Kind of a resource, where it decides how the resource may be deleted."""

    MACHINE = "machine"  # and its reserved IP
    DATABASE = "database"
    BUCKET = "bucket"
    BACKUPS = "backups"
    ZONE = "zone"
    REGISTRY = "registry"


@dataclass(frozen=True, kw_only=True)
class Lifecycle:
    """How the resources of one environment may end."""

    protect: frozenset[Kind]
    force_destroy: bool

    def protects(self, kind: Kind) -> bool:
        """Return True if the engine refuses to delete resources of this kind."""
        return kind in self.protect


# Backups are what one keeps when the rest goes: a destination that is renamed must not take its bucket with it.
_ALWAYS_PROTECTED = frozenset({Kind.BACKUPS})

PRODUCTION = Lifecycle(
    protect=_ALWAYS_PROTECTED | frozenset({Kind.MACHINE, Kind.DATABASE, Kind.BUCKET, Kind.ZONE, Kind.REGISTRY}),
    force_destroy=False,
)
DISPOSABLE = Lifecycle(protect=_ALWAYS_PROTECTED, force_destroy=True)
