"""Backup settings of a stack file: sources, recipients, destinations and retention."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from blueprint.fields import (
    AbsolutePath,
    AgeRecipient,
    BucketName,
    EnvironmentVariable,
    Port,
    PostgresMajor,
    PostgresName,
    Schedule,
    Slug,
    SshPublicKey,
    Written,
)
from blueprint.model import Settings

EXAMPLE_RECIPIENT = "age1jtrfz86cu0jhfl3t3mc97tumhsd7fny2yt5xxp74dlcsfyclkydqk6xelc"
"""The age recipient in the stack files that come with Ancla. Its identity does not exist: nothing can decrypt."""


class RetentionSettings(Settings):
    """How many restore points stay: the last ones, and the newest of so many hours, days, weeks, … that have one.

    Hours to years are of UTC, weeks of ISO 8601. Whatever these say, `minimum_count` good ones stay, and none goes
    before it is `minimum_age_hours` old. `ops backup prune --dry-run` gives the reason for every one.
    """

    keep_last: int = Field(default=7, ge=1)
    hourly: int = Field(default=0, ge=0)
    daily: int = Field(default=7, ge=0)
    weekly: int = Field(default=4, ge=0)
    monthly: int = Field(default=6, ge=0)
    yearly: int = Field(default=0, ge=0)
    minimum_count: int = Field(default=3, ge=1)
    minimum_age_hours: int = Field(default=24, ge=0)


class PostgresqlSource(Settings):
    """A database of a PostgreSQL server of one's own, at an address that the droplet reaches.

    `version` is the server's major: the droplet gets that one's client programs. `password` names a variable in
    `secrets.app`. `stanza` names the pgBackRest stanza of that server, where it has one.
    `ca_certificate` (PEM) is the authority that the server's certificate is verified against, with the name `host`.
    Without it the connection must be encrypted, unless `host` is the droplet itself or `sslmode` is set.
    """

    kind: Literal["postgresql"] = "postgresql"
    name: Slug
    version: PostgresMajor = "15"
    host: str = "127.0.0.1"
    port: Port = 5432
    database: PostgresName
    user: PostgresName
    password: EnvironmentVariable
    sslmode: Literal["disable", "prefer", "require"] | None = None
    ca_certificate: (
        Annotated[
            str,
            Written(
                r"-----BEGIN CERTIFICATE-----\n[\s\S]+",
                "is not a certificate in PEM form: it begins with -----BEGIN CERTIFICATE-----",
            ),
        ]
        | None
    ) = None
    stanza: Slug | None = None


class SqliteSource(Settings):
    """A SQLite database file on the droplet, such as the one in an app's volume."""

    kind: Literal["sqlite"] = "sqlite"
    name: Slug
    path: AbsolutePath


class SecretsSource(Settings):
    """Files on the droplet without which a restored database is of no use: the app's `.env`, keys, certificates."""

    kind: Literal["secrets"] = "secrets"
    name: Slug = "secrets"
    paths: tuple[AbsolutePath, ...] = Field(default=("/opt/ancla/app/.env",), min_length=1)


class BucketSource(Settings):
    """The objects of a bucket of the environment (`buckets`), by its name there, under `prefix`."""

    kind: Literal["bucket"] = "bucket"
    name: Slug
    prefix: str = ""


TablePattern = Annotated[str, Written(r"[^.]+\..+", "names no schema: write schema.table, such as public.logs")]


class TableFilter(Settings):
    """Filter of the tables whose rows are backed up: those of `include` (default: all) that `exclude` does not match.

    Tables are `schema.table`, as `ops backup show` names them; `*` stands for any characters, `?` for one. The
    definitions of all tables are backed up. Large objects belong to no table: with `include` they are left out.
    """

    include: tuple[TablePattern, ...] = ()
    exclude: tuple[TablePattern, ...] = ()


SourceSettings = Annotated[
    PostgresqlSource | SqliteSource | SecretsSource | BucketSource,
    Field(discriminator="kind", description="what is backed up beside the stack's own databases"),
]


ForeignBucket = Annotated[
    str,
    Written(
        r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]",
        "is not the name of a bucket: use 3 to 63 letters, digits, - and ., with a letter or digit at both ends",
    ),
]
_SPACE = TypeAdapter[str](BucketName)


class BackupDestination(Settings):
    """A bucket for backups. Without `endpoint` it is a Space that Ancla creates in `region`.

    With one it is a bucket of another S3 (Cloudflare R2, another account) that is there already; its key pair is
    `secrets.backupKeys.<bucket>`.
    """

    bucket: ForeignBucket
    region: str | None = None
    endpoint: Annotated[str, Written(r"https?://\S+", "is not an address: it begins with https://")] | None = None
    prefix: str = ""

    @model_validator(mode="after")
    def _space_name(self) -> BackupDestination:
        if self.endpoint is None:
            try:
                _SPACE.validate_python(self.bucket)
            except ValidationError as error:
                why = error.errors()[0].get("ctx", {}).get("error")
                raise ValueError(f"bucket: {self.bucket} {why}; a Space is made of this name") from None
        return self


class BackupSettings(Settings):
    """Sources, schedule, recipients, destinations and retention of backups.

    `schedule` is a systemd OnCalendar expression, UTC; budgets name their unit. `recipients` are age public keys: who
    holds one of their identities can read the backups; nobody else can, not even this environment's droplets.
    `assertions` are SQL queries a drill runs on the restored database, each of which must return true. `signers` are
    the public keys that drill evidence may be signed with.
    """

    schedule: Schedule = "*-*-* 03:00:00"
    retention: RetentionSettings = RetentionSettings()
    destinations: tuple[BackupDestination, ...] = ()
    sources: tuple[SourceSettings, ...] = ()
    tables: dict[str, TableFilter] = Field(
        default_factory=dict, description="by the name of a database of the cluster, or of a PostgreSQL source"
    )
    recipients: tuple[AgeRecipient, ...] = ()
    level: int = Field(default=3, ge=1, le=19, description="of zstd")
    max_age_hours: int = Field(default=26, ge=1)
    rto_minutes: int = Field(default=15, ge=1)
    assertions: tuple[str, ...] = ()
    signers: tuple[SshPublicKey, ...] = ()

    @model_validator(mode="after")
    def _destinations_of_one_name(self) -> BackupSettings:
        buckets = [destination.bucket for destination in self.destinations]
        for name in sorted({name for name in buckets if buckets.count(name) > 1}):
            raise ValueError(f"destinations: two of them have the bucket {name}; `ops` tells them apart by it")
        return self
