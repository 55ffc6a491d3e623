"""Where the environment's data is: its database and its cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from blueprint.fields import (
    BucketName,
    ClusterDatabase,
    ClusterMajor,
    DatabaseSize,
    OneOf,
    OrNumber,
    PostgresMajor,
    PostgresName,
    RelativePath,
    Size,
    Slug,
    TrustedSource,
    ValkeySize,
    Written,
)
from blueprint.model import Settings
from blueprint.names import repeated
from blueprint.schedule import DAYS, WEEK, hours_of_week
from blueprint.sizes import DATABASE_SIZES, SMALLEST_WITH_STANDBY

MAINTENANCE_HOURS = 4
BACKUP_HOURS = 1
"""Hours that a backup is given before an update may begin."""
CONNECTIONS_PER_GIB, RESERVED_CONNECTIONS = 25, 3
"""Of a managed cluster, by the memory of a node; the reserved ones are DigitalOcean's (PostgreSQL limits)."""
STORAGE_STEP, LARGEST_STORAGE = Size("10G"), Size("15T")
"""Of a managed cluster's disk (pricing page; `doctl databases resize`). DigitalOcean may allow a size less."""
EXTENSIONS = (
    *("address_standardizer", "address_standardizer_data_us", "bloom", "btree_gin", "btree_gist", "citext", "cube"),
    *("dblink", "dict_int", "dict_xsyn", "earthdistance", "fuzzystrmatch", "hll", "hstore", "hypopg", "intagg"),
    *("intarray", "isn", "lo", "ltree", "pageinspect", "pg_buffercache", "pg_cron", "pg_freespacemap", "pg_partman"),
    *("pg_repack", "pg_similarity", "pg_stat_monitor", "pg_stat_statements", "pg_trgm", "pgaudit", "pgcrypto"),
    *("pgrouting", "pgrowlocks", "pgstattuple", "plcoffee", "plls", "plpgsql", "plv8", "postgis", "postgis_raster"),
    *("postgis_sfcgal", "postgis_tiger_geocoder", "postgis_topology", "postgres_fdw", "rum", "seg", "sslinfo"),
    *("tablefunc", "tcn", "timescaledb", "tsm_system_rows", "tsm_system_time", "unaccent", "unit", "uuid-ossp"),
    "vector",
)
"""Extensions of Managed PostgreSQL, kept by hand: docs.digitalocean.com, "Supported PostgreSQL Extensions".

Not every major has every one of them; a cluster that lacks one says so when `up` creates it.
"""


class PoolSettings(Settings):
    """A PgBouncer pool, which gives many clients few server connections (managed clusters: on port 25061)."""

    database: PostgresName | None = Field(
        default=None,
        description="Name of the database that the pool leads to; default: the app's, the first of `databases`; "
        "a change makes a new pool before the old one goes.",
    )
    mode: Literal["transaction", "session", "statement"] = Field(
        default="transaction",
        description="When a client gives its server connection back; default: transaction; "
        "a change makes a new pool before the old one goes.",
    )
    size: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Server connections; default: 10; a change makes a new pool before the old one goes, "
        "so that both need their connections for a moment.",
    )


class MaintenanceSettings(Settings):
    """When DigitalOcean may begin to update the cluster: in the four hours from `hour` (UTC) on.

    An update moves the cluster to another address, so connections break; it cannot be refused.
    """

    day: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = Field(
        default="sunday", description="Day of the week (UTC); default: sunday; changes in place."
    )
    hour: Annotated[
        str, Written(r"([01][0-9]|2[0-3]):00", 'is not an hour of the day: write it in quotes, such as "07:00"')
    ] = Field(
        default="07:00",
        description='First hour (UTC), in quotes, such as "05:00"; default: "07:00"; changes in place.',
    )

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


class ReplicaSettings(Settings):
    """A read-only copy of a managed cluster, on a node of its own."""

    size: DatabaseSize = Field(description="Size of the node; changes in place.")


def _databases(names: Sequence[str], pools: Mapping[str, PoolSettings]) -> None:
    """Check the names of databases, and that each pool leads to one of them."""
    for name in repeated(names):
        raise ValueError(f"databases: {name} is there twice; remove one")
    for pool, settings in pools.items():
        if settings.database is not None and settings.database not in names:
            raise ValueError(f"pools.{pool}.database: there is no {settings.database}; allowed: {', '.join(names)}")


class ManagedPostgresql(Settings):
    """DigitalOcean Managed PostgreSQL: a cluster with its databases, a user for the app, and pools."""

    kind: Literal["managed-postgresql"] = Field(
        default="managed-postgresql", description="DigitalOcean Managed PostgreSQL; another kind replaces the data."
    )
    version: ClusterMajor = Field(
        default="17", description="Major version of PostgreSQL; default: 17; a higher one upgrades in place."
    )
    size: DatabaseSize = Field(description="Size of every node; a larger one changes in place, smaller is refused.")
    nodes: int = Field(
        default=1,
        ge=1,
        le=3,
        description="Nodes: above 1 they are standbys, which need a size of 2 GB; default: 1; changes in place.",
    )
    storage: Size | None = Field(
        default=None,
        description="Disk of every node, such as `80G`, in steps of 10G up to 15T; default: what the size includes; "
        "grows in place, and never shrinks.",
    )
    databases: tuple[ClusterDatabase, ...] = Field(
        default=("app",),
        min_length=1,
        description="Names of the databases, of which the first is the app's; default: [app]; one that is added is "
        "made, one that is removed is deleted with its data (refused where production is protected).",
    )
    user: PostgresName = Field(
        default="app", description="The app's user; default: app; a change makes a new user, to whom nothing belongs."
    )
    pools: dict[Slug, PoolSettings] = Field(
        default_factory=dict,
        description="PgBouncer pools by name; the app connects through the first by name that leads to its database; "
        "default: none; each changes by itself.",
    )
    extensions: tuple[Annotated[str, OneOf(EXTENSIONS, "extension of Managed PostgreSQL")], ...] = Field(
        default=(),
        description="Extensions created in every one of `databases`; default: none; one that is removed here stays.",
    )
    trusted_sources: tuple[TrustedSource, ...] = Field(
        default=(),
        max_length=98,  # DigitalOcean takes 100, and the environment's droplet counts two
        description="IPv4 addresses and CIDRs let in beside the environment's droplets; default: none; changes in "
        "place.",
    )
    maintenance: MaintenanceSettings | None = Field(
        default=None,
        description="When DigitalOcean may begin to update the cluster; default: on Sunday, the first hour from 07:00 "
        "UTC on that keeps clear of backups; changes in place.",
    )
    replicas: dict[Slug, ReplicaSettings] = Field(
        default_factory=dict,
        description="Read-only copies by name; default: none; each is made and removed by itself.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> ManagedPostgresql:
        size = DATABASE_SIZES[self.size]
        if self.nodes > 1 and size.memory < SMALLEST_WITH_STANDBY:
            raise ValueError(f"nodes: {self.nodes} needs a size of 2 GB or more; {self.size} takes no standby")
        included = Size(f"{size.disk}G")
        if self.storage is not None and not (
            included <= self.storage <= LARGEST_STORAGE and self.storage % STORAGE_STEP == 0
        ):
            raise ValueError(
                f"storage: {self.storage} is no disk of {self.size}: write {included} (included) or more, in steps of "
                f"{STORAGE_STEP}, up to {LARGEST_STORAGE}"
            )
        _databases(self.databases, self.pools)
        wanted = sum(pool.size for pool in self.pools.values())
        most = size.memory // 1024 * CONNECTIONS_PER_GIB - RESERVED_CONNECTIONS
        if wanted > most:
            raise ValueError(f"pools: their sizes are {wanted} together, and {self.size} has {most} connections")
        return self


class PhysicalBackupSettings(Settings):
    """Backups of the whole server by pgBackRest, with its log of changes: any moment can be restored."""

    bucket: BucketName = Field(description="Space for the backups, made by Ancla; a change leaves the old one alone.")
    full: Literal["daily", "weekly", "monthly"] = Field(
        default="weekly", description="How often everything is copied; default: weekly; changes in place."
    )
    incremental: Literal["hourly", "daily"] = Field(
        default="daily", description="How often what changed is copied; default: daily; changes in place."
    )
    keep: int = Field(
        default=2, ge=1, description="Full backups that stay, with all that needs them; default: 2; changes in place."
    )


class Postgresql(Settings):
    """PostgreSQL on the droplet itself, as a package of its distribution."""

    kind: Literal["postgresql"] = Field(description="PostgreSQL on the droplet itself; another kind replaces the data.")
    version: PostgresMajor = Field(
        default="17", description="Major version; default: 17; a change needs a dump and a restore."
    )
    volume: Slug | None = Field(
        default=None,
        description="Name of the volume (`topology.volumes`) that holds the data; default: the only one, or the "
        "droplet's own disk where there is none; a change replaces the data.",
    )
    databases: tuple[ClusterDatabase, ...] = Field(
        default=("app",),
        min_length=1,
        description="Names of the databases, of which the first is the app's; default: [app]; one that is added is "
        "made, one that is removed here stays.",
    )
    user: PostgresName = Field(
        default="app", description="The app's user; default: app; a change makes a new user, to whom nothing belongs."
    )
    extensions: tuple[PostgresName, ...] = Field(
        default=(),
        description="Extensions created in every one of `databases`; default: none; one that is removed here stays.",
    )
    pools: dict[Slug, PoolSettings] = Field(
        default_factory=dict, description="PgBouncer pools by name; default: none; each changes by itself."
    )
    physical_backups: PhysicalBackupSettings | None = Field(
        default=None, description="Backups by pgBackRest; default: none; changes in place."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Postgresql:
        _databases(self.databases, self.pools)
        return self


class Sqlite(Settings):
    """A SQLite file in a folder of a service."""

    kind: Literal["sqlite"] = Field(description="A SQLite file of a service; another kind replaces the data.")
    service: Slug = Field(description="Name of the service that the file belongs to; a change replaces the data.")
    path: RelativePath = Field(
        description="Path of the file within the service, such as `db/leads.db`; a change replaces the data."
    )


class NoDatabase(Settings):
    """The environment has no database."""

    kind: Literal["none"] = Field(default="none", description="No database; another kind begins with empty data.")


Database = Annotated[ManagedPostgresql | Postgresql | Sqlite | NoDatabase, Field(discriminator="kind")]


class Valkey(Settings):
    """Valkey on the droplet itself, which speaks the protocol of Redis."""

    kind: Literal["valkey"] = Field(description="Valkey on the droplet itself; another kind begins empty.")
    memory: Size = Field(default=Size("256M"), description="Most memory for data; default: 256M; changes in place.")
    policy: Literal[
        "noeviction",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] = Field(
        default="noeviction",
        description="What goes when memory is full; default: noeviction (writes are refused then); changes in place.",
    )
    persistence: Literal["none", "rdb", "aof"] = Field(
        default="none",
        description="What outlives a restart: nothing, a copy now and then (rdb), or every write (aof); "
        "default: none; changes in place.",
    )


class ManagedValkey(Settings):
    """DigitalOcean Managed Valkey."""

    kind: Literal["managed-valkey"] = Field(description="DigitalOcean Managed Valkey; another kind begins empty.")
    size: ValkeySize = Field(description="Size of every node; changes in place.")
    nodes: int = Field(
        default=1, ge=1, le=3, description="Nodes: above 1 they are standbys; default: 1; changes in place."
    )
    version: Annotated[Literal["8"], OrNumber()] = Field(
        default="8", description="Major version of Valkey; default: 8; a higher one upgrades in place."
    )


Cache = Valkey | ManagedValkey
