"""Backup settings of a stack file: sources, recipients, destinations and retention."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from blueprint.fields import (
    AbsolutePath,
    AgeRecipient,
    BucketName,
    Duration,
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
from blueprint.names import repeated

EXAMPLE_RECIPIENT = "age1jtrfz86cu0jhfl3t3mc97tumhsd7fny2yt5xxp74dlcsfyclkydqk6xelc"
"""The age recipient in the stack files that come with Ancla. Its identity does not exist: nothing can decrypt."""

APP_ENV = "/opt/ancla/app/.env"
"""Path of the app's secrets on a droplet: the variables that a release hands to the services."""
OWN_SECRETS = "secrets"
"""Name of the backups of the app's secrets."""

_NEXT = "holds from the next backup on"


class RetentionSettings(Settings):
    """How many restore points stay: the last ones, and the newest of so many hours, days, weeks, … that have one.

    Hours to years are of UTC, weeks of ISO 8601. Whatever these say, `minimum_count` good ones stay, and none goes
    before it is `minimum_age` old. `ops backup prune --dry-run` gives the reason for every one.
    """

    keep_last: int = Field(default=7, ge=1, description=f"Number of the last backups that stay (default: 7); {_NEXT}.")
    hourly: int = Field(default=0, ge=0, description=f"Number of hours that keep a backup (default: 0); {_NEXT}.")
    daily: int = Field(default=7, ge=0, description=f"Number of days that keep a backup (default: 7); {_NEXT}.")
    weekly: int = Field(default=4, ge=0, description=f"Number of weeks that keep a backup (default: 4); {_NEXT}.")
    monthly: int = Field(default=6, ge=0, description=f"Number of months that keep a backup (default: 6); {_NEXT}.")
    yearly: int = Field(default=0, ge=0, description=f"Number of years that keep a backup (default: 0); {_NEXT}.")
    minimum_count: int = Field(
        default=3, ge=1, description=f"Number of good backups that always stay (default: 3); {_NEXT}."
    )
    minimum_age: Duration = Field(
        default=Duration("24h"), description=f"Age before which no backup is deleted (default: 24h); {_NEXT}."
    )


class PostgresqlEntry(Settings):
    """A database of a PostgreSQL server of one's own, at an address that the droplet reaches."""

    kind: Literal["postgresql"] = Field(default="postgresql", description="`postgresql`: a database of another server.")
    version: PostgresMajor = Field(
        default="15",
        description="Major version of that server (default: 15); the droplet gets its client programs.",
    )
    host: str = Field(default="127.0.0.1", description=f"Name or address of the server (default: 127.0.0.1); {_NEXT}.")
    port: Port = Field(default=5432, description=f"Port of the server (default: 5432); {_NEXT}.")
    database: PostgresName = Field(description=f"Name of the database; {_NEXT}.")
    user: PostgresName = Field(description=f"Role that may read all of it; {_NEXT}.")
    password: EnvironmentVariable = Field(
        description=f"Name of the value in secrets.app that is its password; {_NEXT}."
    )
    sslmode: Literal["disable", "prefer", "require"] | None = Field(
        default=None,
        description=f"How it is encrypted (default: it must be, unless host is the droplet itself); {_NEXT}.",
    )
    ca_certificate: (
        Annotated[
            str,
            Written(
                r"-----BEGIN CERTIFICATE-----\n[\s\S]+",
                "is not a certificate in PEM form: it begins with -----BEGIN CERTIFICATE-----",
            ),
        ]
        | None
    ) = Field(
        default=None,
        description=(
            "Authority, in PEM, that the server's certificate is verified against, with the name `host` (default: not "
            f"verified); {_NEXT}."
        ),
    )
    stanza: Slug | None = Field(
        default=None, description="Name of the server's pgBackRest stanza (default: none), for `ops backrest`."
    )


class PostgresqlSource(PostgresqlEntry):
    """A PostgreSQL source by its name."""

    name: Slug


class SqliteEntry(Settings):
    """A SQLite database file on the droplet, such as the one in an app's volume."""

    kind: Literal["sqlite"] = Field(default="sqlite", description="`sqlite`: a SQLite file.")
    path: AbsolutePath = Field(description=f"Full path of the file; {_NEXT}.")


class SqliteSource(SqliteEntry):
    """A SQLite source by its name."""

    name: Slug


class SecretsEntry(Settings):
    """Files on the droplet without which a restored database is of no use: keys, certificates."""

    kind: Literal["secrets"] = Field(default="secrets", description="`secrets`: small files with secrets.")
    paths: tuple[AbsolutePath, ...] = Field(
        default=(APP_ENV,),
        min_length=1,
        description=f"Full paths of files and folders (default: the app's .env); {_NEXT}.",
    )


class SecretsSource(SecretsEntry):
    """A source of secrets by its name."""

    name: Slug = OWN_SECRETS


class BucketEntry(Settings):
    """A part of a bucket of the environment, beside the whole ones of `backup.buckets`."""

    kind: Literal["bucket"] = Field(default="bucket", description="`bucket`: the objects of a bucket under a prefix.")
    bucket: Slug = Field(description=f"Name of the bucket in `buckets`; {_NEXT}.")
    prefix: str = Field(default="", description=f"What the objects' keys begin with (default: any); {_NEXT}.")


class BucketSource(BucketEntry):
    """A source in a bucket by its name."""

    name: Slug


TablePattern = Annotated[str, Written(r"[^.]+\..+", "names no schema: write schema.table, such as public.logs")]


class TableFilter(Settings):
    """Filter of the tables whose rows are backed up: those of `include` (default: all) that `exclude` does not match.

    Tables are `schema.table`, as `ops backup show` names them; `*` stands for any characters, `?` for one. The
    definitions of all tables are backed up. Large objects belong to no table: with `include` they are left out.
    """

    include: tuple[TablePattern, ...] = Field(
        default=(), description=f"Tables whose rows are backed up, as schema.table (default: all); {_NEXT}."
    )
    exclude: tuple[TablePattern, ...] = Field(
        default=(), description=f"Tables whose rows are not backed up, as schema.table (default: none); {_NEXT}."
    )


SourceEntry = Annotated[PostgresqlEntry | SqliteEntry | SecretsEntry | BucketEntry, Field(discriminator="kind")]
SourceSettings = Annotated[
    PostgresqlSource | SqliteSource | SecretsSource | BucketSource,
    Field(discriminator="kind", description="what is backed up beside the stack's own databases"),
]
_SOURCE = TypeAdapter[SourceSettings](SourceSettings)


ForeignBucket = Annotated[
    str,
    Written(
        r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]",
        "is not the name of a bucket: use 3 to 63 letters, digits, - and ., with a letter or digit at both ends",
    ),
]
Endpoint = Annotated[str, Written(r"https?://\S+", "is not an address: it begins with https://")]
_SPACE = TypeAdapter[str](BucketName)


class WriteOnceSettings(Settings):
    """Object lock of a bucket: what is written stays, whoever has the key."""

    days: int = Field(ge=1, description="Days for which nobody can change or delete a backup; holds for new backups.")


class BackupDestination(Settings):
    """A bucket or a folder for backups. A bucket without `endpoint` is a Space that Ancla creates in `region`.

    With one it is a bucket of another S3 (Cloudflare R2, another account) that is there already; its key pair is
    `secrets.backupKeys.<name of the destination>`.
    """

    bucket: ForeignBucket | None = Field(
        default=None,
        description="Name of the bucket; another one is another place: the backups of the former stay where they are.",
    )
    region: str | None = Field(
        default=None,
        description="Region of the bucket (default: the environment's; of another S3 auto); as with bucket.",
    )
    endpoint: Endpoint | None = Field(
        default=None, description="Address of another S3 (default: Spaces, where the bucket is made); as with bucket."
    )
    prefix: str = Field(default="", description="What keys begin with (default: nothing); as with bucket.")
    folder: AbsolutePath | None = Field(
        default=None, description="Full path of a folder on the droplet, in place of a bucket; as with bucket."
    )
    keep_last: int | None = Field(
        default=None,
        ge=1,
        description=f"Number of the last backups that stay there (default: what backup.retention says); {_NEXT}.",
    )
    write_once: WriteOnceSettings | None = Field(
        default=None, description="Whether backups are locked, and for how long (default: not); holds for new backups."
    )

    @property
    def space(self) -> str | None:
        """Name of the Space that Ancla makes; None where the backups go elsewhere."""
        return self.bucket if self.endpoint is None else None

    @model_validator(mode="after")
    def _one_place(self) -> BackupDestination:
        if (self.bucket is None) == (self.folder is None):
            raise ValueError("is either a bucket or a folder; give one of them")
        if self.folder is not None and (self.endpoint or self.region or self.prefix or self.write_once):
            raise ValueError("a folder takes no endpoint, region, prefix or writeOnce; remove them")
        if self.space is not None:
            try:
                _SPACE.validate_python(self.space)
            except ValidationError as error:
                why = error.errors()[0].get("ctx", {}).get("error")
                raise ValueError(f"bucket: {self.space} {why}; a Space is made of this name") from None
        return self


class VaultSettings(Settings):
    """A copy of the backups that CI fills, and that no droplet has a key for."""

    bucket: ForeignBucket = Field(description="Name of the bucket; as with that of a destination.")
    endpoint: Endpoint | None = Field(default=None, description="Address of another S3 (default: Spaces).")
    retention: RetentionSettings = Field(
        default=RetentionSettings(), description=f"Which backups stay in the vault; {_NEXT}."
    )


class SignersSettings(Settings):
    """Public keys (OpenSSH lines) that are trusted, by what they sign."""

    drill: tuple[SshPublicKey, ...] = Field(
        default=(), description=f"Keys that may sign the evidence of drills (default: any key may); {_NEXT}."
    )
    ledger: tuple[SshPublicKey, ...] = Field(
        default=(),
        description=(
            "Keys that may sign the log of verifications and deletions, and overrides (default: the key that signs the "
            f"backups); {_NEXT}."
        ),
    )

    @property
    def all(self) -> tuple[str, ...]:
        """The keys of both roles, without repetition."""
        return tuple(dict.fromkeys((*self.drill, *self.ledger)))


class BackupSettings(Settings):
    """Backups. The environment's own data is backed up without being asked, where there is a destination.

    That is each database of the cluster and, where there are `recipients`, the app's secrets. Buckets are chosen by
    name, `sources` adds what is not the environment's own, `exclude` takes away.
    """

    schedule: Schedule = Field(
        default="*-*-* 03:00:00",
        description=(
            "When backups are made, as systemd writes it, with a time zone if it is not UTC, such as *-*-* 03:00:00 "
            "America/Mexico_City (default: *-*-* 03:00:00); a change is applied to the running droplet."
        ),
    )
    retention: RetentionSettings = Field(default=RetentionSettings(), description=f"Which backups stay; {_NEXT}.")
    destinations: dict[Slug, BackupDestination] = Field(
        default_factory=dict,
        description=(
            "Where backups go, by name (default: nowhere, and there are none); a destination that is renamed keeps its "
            "backups, one that is removed keeps them too and gets no more."
        ),
    )
    vault: VaultSettings | None = Field(
        default=None, description="A copy out of the droplet's reach, filled by CI (default: none); applied in place."
    )
    buckets: tuple[Slug, ...] = Field(
        default=(), description=f"Names of the buckets whose objects are backed up (default: none); {_NEXT}."
    )
    sources: dict[Slug, SourceEntry] = Field(
        default_factory=dict,
        description=f"What else is backed up: databases of other servers, files, parts of buckets, by name; {_NEXT}.",
    )
    exclude: tuple[str, ...] = Field(
        default=(),
        description=f"Names of databases, or secrets, that are not backed up (default: none); {_NEXT}.",
    )
    tables: dict[str, TableFilter] = Field(
        default_factory=dict,
        description=f"Tables whose rows are backed up, by the name of the database (default: all); {_NEXT}.",
    )
    recipients: tuple[AgeRecipient, ...] = Field(
        default=(),
        description=(
            "Public age keys: who holds an identity of one can read the backups, nobody else, not even the droplet "
            f"(default: none, and backups are not encrypted); {_NEXT}."
        ),
    )
    level: int = Field(default=3, ge=1, le=19, description=f"Level of zstd, from 1 to 19 (default: 3); {_NEXT}.")
    max_age: Duration = Field(
        default=Duration("26h"), description="Age of the newest backup above which an alarm comes (default: 26h)."
    )
    rto: Duration = Field(default=Duration("15m"), description="Time a restore may take in a drill (default: 15m).")
    assertions: tuple[str, ...] = Field(
        default=(), description="SQL queries that must return true on the restored first database (default: none)."
    )
    signers: SignersSettings = Field(
        default=SignersSettings(), description=f"Keys that drills and the ledger are signed with; {_NEXT}."
    )

    @model_validator(mode="after")
    def _destinations_of_one_bucket(self) -> BackupSettings:
        buckets = [destination.bucket for destination in self.destinations.values() if destination.bucket]
        for name in repeated(buckets):
            raise ValueError(f"destinations: two of them have the bucket {name}; reports tell them apart by it")
        return self

    @property
    def all_sources(self) -> tuple[SourceSettings, ...]:
        """What is backed up beside the databases of the cluster: the app's secrets, the buckets, and the sources.

        A source of the name `secrets` takes the place of the app's own. Secrets are never stored unencrypted.
        """
        own: list[SourceSettings] = [BucketSource(name=name, bucket=name) for name in self.buckets]
        written = [_SOURCE.validate_python({"name": name, **dict(entry)}) for name, entry in self.sources.items()]
        if self.destinations and self.recipients and OWN_SECRETS not in (*self.exclude, *self.sources):
            own.insert(0, SecretsSource())
        return (*own, *written)


def backup_problems(backup: BackupSettings, databases: Collection[str], buckets: Collection[str]) -> Iterator[str]:
    """Yield a line for each name that is there twice, or is no database of the cluster or bucket of the environment."""
    sources = backup.all_sources
    for name in repeated((*databases, *(source.name for source in sources))):
        yield f"backup.sources: two of what is backed up have the name {name}; each needs its own"
    own = (*databases, OWN_SECRETS)
    for name in backup.exclude:
        if name not in own:
            yield f"backup.exclude: {name} is not backed up by itself; there are: {', '.join(own)}"
    filtered = {*databases, *(source.name for source in sources if source.kind == "postgresql")}
    for name in sorted(backup.tables.keys() - filtered):
        known = ", ".join(sorted(filtered)) or "none"
        yield f"backup.tables: {name} is no PostgreSQL database that is backed up; there are: {known}"
    for source in sources:
        if source.kind == "bucket" and source.bucket not in buckets:
            where = "buckets" if source.name in backup.buckets else f"sources.{source.name}.bucket"
            known = ", ".join(sorted(buckets)) or "none"
            yield f"backup.{where}: the environment has no bucket {source.bucket}; there are: {known}"
