"""What a manifest records of what was backed up: one model a kind, told apart by `kind`.

A record is what a restored copy is held to; it holds names, counts and digests, never content.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from ops.core.models import Record

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in hex")]


STREAM_FILE = "dump.pgdump"
"""The one file of a PostgreSQL dump that went out as a stream: an archive in pg_dump's custom format."""

LISTING = "toc.dat"
"""The file of a dump in pg_dump's directory format that names all the others."""

ROWS_FILE = re.compile(r"\d+\.dat")
"""What the file of one table's rows is called there."""

FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
"""What a file of a dump may be called: neither a manifest nor a pack may write outside its folder."""


BACKUP_ID = r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}$"
BackupId = Annotated[str, Field(pattern=BACKUP_ID)]
"""What a backup is called. Its id is a folder's name too, in the store and where it is restored."""


def takes(table: str, only: Sequence[str], without: Sequence[str]) -> bool:
    """Say whether patterns take a table (`schema.table`): `only` none, or one of them fits, and none of `without` does.

    `*` stands for any characters, `?` for one.
    """
    fits = partial(fnmatchcase, table)
    return (not only or any(map(fits, only))) and not any(map(fits, without))


class TableFingerprint(Record):
    """Rows and content of one table in the dump's own snapshot; `hash` does not depend on the order of rows.

    A partitioned table is one, whichever partition holds a row. A row of PostgreSQL is ROW(columns by name), without
    generated columns. `method` is `record`: sum(hash_record_extended(row, 0)), equal by each type's own equality;
    `text`: sum(hashtextextended(row::text, 0)), where a column's type has no hash that survives a restore; or
    `sha256`, of SQLite: the sum, modulo 2^256, of the SHA-256 of each row with the storage class of each value.
    """

    table: str
    rows: int = Field(ge=0)
    method: Literal["record", "text", "sha256"]
    hash: str

    def plus(self, other: TableFingerprint) -> TableFingerprint:
        """Return the fingerprint of this one's rows and those of `other`, which is of the same table."""
        return self.model_copy(update={"rows": self.rows + other.rows, "hash": str(int(self.hash) + int(other.hash))})

    def emptied(self) -> TableFingerprint:
        """Return what the table is like without its rows."""
        return self.model_copy(update={"rows": 0, "hash": "0"})


class SequenceState(Record):
    """A sequence; `last_value` is None when it was never called.

    Sequences stand outside of snapshots: in the copy a later value than this one is right, an earlier one is not.
    """

    sequence: str
    last_value: int | None
    increment: int


class Grant(Record):
    """Privileges of one role on the database itself (pg_dump leaves these out). The empty grantee is PUBLIC."""

    grantee: str
    privileges: tuple[str, ...]


class RoleOption(Record):
    """What `ALTER ROLE … IN DATABASE … SET` has set in the database, as `name=value`."""

    role: str
    option: str


class PostgresRecord(Record):
    """A PostgreSQL database as it was dumped.

    `unsound` names constraints that are NOT VALID and indexes that are not valid in the source already;
    `not_compared` names what differs by nature, `not_restored` what no restore brings back, `warnings` what a restore
    may fail to make, with the statement that would mend it in the source. `partitions` are the leaves of each
    partitioned table. `only_tables` and `without_tables` are the patterns that it was dumped with: where there are any,
    the rows of the tables and partitions of `left_out` are not in it, though they are defined.
    `owners` own what a restore makes. `special_owners` own nothing but objects that often only a superuser may make
    (publications, foreign servers, languages, …): each with those objects, which a restore can do without.
    """

    kind: Literal["postgresql"] = "postgresql"
    database: str
    server_version: str
    server_major: int
    dump_tool: str
    dump_major: int
    dumped_as: str
    encoding: str
    collate: str
    ctype: str
    owners: tuple[str, ...]
    roles: tuple[str, ...]
    extensions: tuple[str, ...]
    grants: tuple[Grant, ...]
    options: tuple[str, ...]
    tables: tuple[TableFingerprint, ...]
    sequences: tuple[SequenceState, ...]
    large_objects: TableFingerprint | None
    unsound: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    only_tables: tuple[str, ...] = ()
    without_tables: tuple[str, ...] = ()
    owner: str | None = None
    connection_limit: int = -1
    role_options: tuple[RoleOption, ...] = ()
    comment: str | None = None
    not_restored: tuple[str, ...] = ()
    locale_provider: Literal["libc", "icu", "builtin"] | None = None
    locale: str | None = None
    icu_rules: str | None = None
    tablespaces: tuple[str, ...] = ()
    partitions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    special_owners: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def named_roles(self) -> tuple[str, ...]:
        """Roles that its objects or the grants on the database name."""
        return tuple(sorted({*self.roles, *(grant.grantee for grant in self.grants)} - {""}))

    @property
    def partial(self) -> bool:
        """Whether something was left out on purpose."""
        return bool(self.only_tables or self.without_tables)

    @property
    def readable_from(self) -> str:
        """The oldest version of PostgreSQL's programs that may load it, such as 15.20."""
        versions = (self.dump_tool.rpartition(" ")[2], self.server_version)
        return max(versions, key=lambda version: [int(part) for part in version.split(".")])

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)

    def leaves_of(self, tables: Collection[str]) -> tuple[str, ...]:
        """Return the tables and partitions that hold the rows of these tables."""
        return tuple(leaf for table in tables for leaf in self.partitions.get(table, (table,)))

    def with_rows_of(self, tables: Collection[str]) -> PostgresRecord:
        """Return what a copy is like that has the rows of these tables alone: the others are there, and empty."""
        kept = tuple(table if table.table in tables else table.emptied() for table in self.tables)
        return self.model_copy(update={"tables": kept, "large_objects": None})


class SqliteRecord(Record):
    """A SQLite database file as it was copied. `schema_digest` is of its definitions, in the order of their names.

    `mode`, `uid` and `gid` are the file's. `unsound` names rows that break a foreign key in the source already;
    `not_compared` names what has no rows of its own.
    """

    kind: Literal["sqlite"] = "sqlite"
    database: str
    sqlite_version: str
    schema_digest: Digest
    user_version: int
    page_size: int
    page_count: int
    mode: int
    uid: int
    gid: int
    tables: tuple[TableFingerprint, ...]
    unsound: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)


class SecretFile(Record):
    """One file of a secrets backup: its place, mode and owner, and the *names* of its variables where it has any.

    Nothing here says anything of a value: no size, and no digest, from which a short secret could be guessed.
    """

    path: str
    mode: int
    uid: int
    gid: int
    names: tuple[str, ...] = ()


class SecretsRecord(Record):
    """Files that hold secrets, as one encrypted tar.

    `fingerprint` is an HMAC-SHA256 over paths, modes, owners and contents. Its key is random, new for each backup, and
    inside of the archive alone: who can decrypt it can prove that it is whole, and nobody else can try guesses.
    The archive's own SHA-256 in the manifest is salted by the same key.
    """

    kind: Literal["secrets"] = "secrets"
    files: tuple[SecretFile, ...]
    fingerprint: Digest

    @property
    def rows(self) -> int:
        """Files."""
        return len(self.files)


class BucketObject(Record):
    """One object of a bucket: what its store said of it, the digest of what was read, and the pack that holds it.

    `backup` is the id of the earlier backup whose pack it is in: an object that did not change stays where it was. None
    is this backup. `public` says that everybody may read it by its own ACL; None where the store has no such ACLs.
    """

    key: str
    size: int = Field(ge=0)
    etag: str
    modified: AwareDatetime
    sha256: Digest
    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    public: bool | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    backup: BackupId | None = None
    pack: str = Field(pattern=f"^$|{FILE_NAME}", description="empty until it is in one")


class BucketRecord(Record):
    """A bucket's objects under a prefix. `deleted` are keys that the backup before had and this one has not.

    `based_on` is the backup before, `generation` how many incremental ones came since the last full one. `rehashed` is
    how many unchanged objects were read again; `retaken` are those of them that had other bytes than were recorded.
    """

    kind: Literal["bucket"] = "bucket"
    bucket: str
    prefix: str
    based_on: BackupId | None
    generation: int = Field(ge=0)
    objects: tuple[BucketObject, ...]
    deleted: tuple[str, ...] = ()
    rehashed: int = 0
    retaken: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Objects."""
        return len(self.objects)


AnyRecord = Annotated[PostgresRecord | SqliteRecord | SecretsRecord | BucketRecord, Field(discriminator="kind")]
