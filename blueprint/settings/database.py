"""Where the environment's data is: its database and its cache."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from blueprint.fields import (
    AbsolutePath,
    ClusterDatabase,
    ClusterMajor,
    DatabaseSize,
    PostgresName,
    TrustedSource,
    Written,
)
from blueprint.model import Settings
from blueprint.schedule import DAYS, WEEK, hours_of_week
from blueprint.sizes import DATABASE_SIZES, SMALLEST_WITH_STANDBY

LONGEST_POOL_NAME = 60
"""Characters (API reference, connection pools)."""
MAINTENANCE_HOURS = 4
BACKUP_HOURS = 1
"""Hours that a backup is given before an update may begin."""


class PoolSettings(Settings):
    """A PgBouncer pool of the cluster, on port 25061. `size` counts server connections."""

    mode: Literal["transaction", "session", "statement"] = "transaction"
    size: int = Field(default=10, ge=1, le=1000)


class MaintenanceSettings(Settings):
    """When DigitalOcean may begin to update the cluster: in the four hours from `hour` (UTC) on.

    An update moves the cluster to another address, so connections break; it cannot be refused.
    """

    day: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = "sunday"
    hour: Annotated[
        str, Written(r"([01][0-9]|2[0-3]):00", 'is not an hour of the day: write it in quotes, such as "07:00"')
    ] = "07:00"

    def hours_of_week(self, *, before: int = 0) -> set[int]:
        """Return the hours in which an update may begin, and so many before."""
        begin = DAYS.index(self.day) * 24 + int(self.hour[:2])
        return {(begin + number) % WEEK for number in range(-before, MAINTENANCE_HOURS)}

    def clash_with(self, schedule: str) -> str | None:
        """Return why backups of this schedule do not go with it; None if they do, or if none would."""
        free = self.clear_of(schedule)
        if free is None or free == self:
            return None
        return (
            f"may begin from {self.hour} until {MAINTENANCE_HOURS} hours later (UTC) on {self.day}, "
            f'and breaks a backup that runs then: backup.schedule is "{schedule}"; '
            f'choose another hour, such as "{free.hour}"'
        )

    def clear_of(self, schedule: str) -> MaintenanceSettings | None:
        """Return the first such window of its day, from its own hour on, that breaks no backup of this schedule."""
        runs = hours_of_week(schedule)
        hours = (f"{(int(self.hour[:2]) + later) % 24:02}:00" for later in range(24))
        windows = (self.model_copy(update={"hour": hour}) for hour in hours)
        return next((one for one in windows if one.hours_of_week(before=BACKUP_HOURS).isdisjoint(runs)), None)


class ManagedPostgresql(Settings):
    """DigitalOcean Managed PostgreSQL. `nodes` above 1 adds standbys (high availability)."""

    kind: Literal["managed-postgresql"] = "managed-postgresql"
    version: ClusterMajor = "15"
    size: DatabaseSize
    nodes: int = Field(default=1, ge=1, le=3)
    databases: tuple[ClusterDatabase, ...] = Field(default=("app",), min_length=1)
    user: PostgresName = "app"
    pool: PoolSettings | None = None
    read_replicas: int = Field(default=0, ge=0, le=5)
    extensions: tuple[str, ...] = ()
    maintenance: MaintenanceSettings | None = Field(
        default=None, description="default: on Sunday, the first hour from 07:00 UTC on that keeps clear of backups"
    )
    trusted_sources: tuple[TrustedSource, ...] = Field(
        default=(),
        max_length=98,  # DigitalOcean takes 100, and the environment's droplet counts two
        description="IPv4 addresses let in beside the environment's droplets",
    )

    @property
    def pool_name(self) -> str | None:
        """A name that changes with whatever replaces the pool, so that the new one is made before the old one goes."""
        return f"{self.databases[0]}-{self.pool.mode}-{self.pool.size}" if self.pool else None

    @model_validator(mode="after")
    def _standby_needs_memory(self) -> ManagedPostgresql:
        if self.nodes > 1 and DATABASE_SIZES[self.size].memory < SMALLEST_WITH_STANDBY:
            raise ValueError(f"nodes: {self.nodes} needs a size of 2 GB or more; {self.size} takes no standby")
        return self

    @model_validator(mode="after")
    def _name_of_the_pool(self) -> ManagedPostgresql:
        if (name := self.pool_name) is not None and len(name) > LONGEST_POOL_NAME:
            raise ValueError(
                f"databases[0]: its pool would be called {name}, of {len(name)} characters, and DigitalOcean takes "
                f"{LONGEST_POOL_NAME}; shorten the database's name, or leave pool out"
            )
        return self


class SelfHostedPostgresql(Settings):
    """PostgreSQL in a container of the droplet (plans 001 and 004)."""

    kind: Literal["self-hosted-postgresql"]
    version: str = "15"
    databases: tuple[ClusterDatabase, ...] = ("app",)
    extensions: tuple[str, ...] = ()


class Sqlite(Settings):
    """A SQLite file on the droplet (plan 003)."""

    kind: Literal["sqlite"]
    path: AbsolutePath


class NoDatabase(Settings):
    """The environment has no database."""

    kind: Literal["none"]


Database = Annotated[ManagedPostgresql | SelfHostedPostgresql | Sqlite | NoDatabase, Field(discriminator="kind")]


class CacheSettings(Settings):
    """Redis or Valkey (plans 001, 002, 004)."""

    kind: Literal["managed-valkey", "self-hosted-valkey", "self-hosted-redis"]
    size: DatabaseSize | None = None
