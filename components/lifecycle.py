"""Protection of resources per environment: one table, so that components need no flags.

- `protect`: the engine refuses to delete it until a person unprotects it. For what holds data, or a name that others
  rely on.
- `retain`: leaving the program does not delete it at DigitalOcean.
- `force_destroy`: a bucket goes with the objects in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pulumi


class Kind(StrEnum):
    """Kind of a resource, where it decides how the resource may be deleted."""

    MACHINE = "machine"
    DATABASE = "database"
    BUCKET = "bucket"
    BACKUPS = "backups"
    ZONE = "zone"
    ADDRESS = "address"
    REGISTRY = "registry"
    TRUSTED_SOURCES = "trusted-sources"


@dataclass(frozen=True, kw_only=True)
class Lifecycle:
    """How the resources of one environment may end."""

    protect: frozenset[Kind]
    retain: frozenset[Kind]
    force_destroy: bool

    def options(
        self,
        parent: pulumi.Resource,
        kind: Kind,
        *,
        depends_on: Sequence[pulumi.Resource] = (),
        custom_timeouts: pulumi.CustomTimeouts | None = None,
        deleted_with: pulumi.Resource | None = None,
    ) -> pulumi.ResourceOptions:
        """Return the options of a child of this kind.

        What the table does not protect is left to the parent: a False here would win over a caller's `protect=True`.
        """
        return pulumi.ResourceOptions(
            parent=parent,
            protect=True if kind in self.protect else None,
            retain_on_delete=True if kind in self.retain else None,
            depends_on=list(depends_on),
            custom_timeouts=custom_timeouts,
            deleted_with=deleted_with,
        )

    def goes_with(self, holder: pulumi.Resource, kind: Kind) -> pulumi.Resource | None:
        """Return what a part may be `deleted_with`: its holder, unless that one is protected.

        The engine forgets such a part without deleting it. When the holder's own deletion is then refused, the part
        would live on at DigitalOcean and stand in the way of the next `up`.
        """
        return None if kind in self.protect else holder


# Deleting trusted sources writes an empty list, which lets everybody in who has the password, and it is the first
# thing a destroy or a replacement would do. The list goes with its cluster instead.
_ALWAYS_RETAINED = frozenset({Kind.TRUSTED_SOURCES})

# Backups are what one keeps when the rest goes: a destination that is renamed must not take its bucket with it.
_ALWAYS_PROTECTED = frozenset({Kind.BACKUPS})

PRODUCTION = Lifecycle(
    protect=_ALWAYS_PROTECTED
    | frozenset({Kind.MACHINE, Kind.DATABASE, Kind.BUCKET, Kind.ZONE, Kind.ADDRESS, Kind.REGISTRY}),
    retain=_ALWAYS_RETAINED,
    force_destroy=False,
)
DISPOSABLE = Lifecycle(protect=_ALWAYS_PROTECTED, retain=_ALWAYS_RETAINED, force_destroy=True)

TABLE: Mapping[str, Lifecycle] = {
    "prod": PRODUCTION,
    "staging": DISPOSABLE,
    "development": DISPOSABLE,
}


def lifecycle_of(environment: str) -> Lifecycle:
    """Return the row of an environment; one that is not in the table is treated as production."""
    return TABLE.get(environment, PRODUCTION)
