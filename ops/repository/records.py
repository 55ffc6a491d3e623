"""Define the records in a manifest that describe a backup's content: one model per kind, selected by `kind`.

A restored copy is compared with the record, which contains names, counts and digests, never content.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, PlainValidator, SerializeAsAny

from ops.core.models import Record, parse_kind

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in hex")]


STREAM_FILE = "dump.pgdump"
"""The only file of a streamed PostgreSQL dump: an archive in pg_dump's custom format."""

LISTING = "toc.dat"
"""The table of contents of a dump in pg_dump's directory format."""

ROWS_FILE = re.compile(r"\d+\.dat")
"""Pattern of the name of a file with one table's rows."""

FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
"""Pattern of the name of a dump's file: neither a manifest nor a pack may write outside its folder."""


BACKUP_ID = r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}$"
BackupId = Annotated[str, Field(pattern=BACKUP_ID)]
"""Pattern of a backup's id, which is also a folder's name in the store and where it is restored."""


def takes(table: str, only: Sequence[str], without: Sequence[str]) -> bool:
    """Return True if patterns select a table (`schema.table`): one of `only` (or it is empty) and none of `without`.

    `*` stands for any characters, `?` for one.
    """
    fits = partial(fnmatchcase, table)
    return (not only or any(map(fits, only))) and not any(map(fits, without))


def shown_name(name: str | bytes) -> str:
    r"""Return a name of any bytes as text; no two are the same. Bytes that are not UTF-8 become `\xNN`."""
    raw = name if isinstance(name, bytes) else name.encode(errors="surrogateescape")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    return text.replace("\\", "\\\\") if "\\x" in text else text


RECORDS: dict[str, type[KindRecord]] = {}
"""Every record class by its kind; defining a class registers it."""


class KindRecord(Record):
    """Base of the record of one kind of source; it answers the questions that depend on the kind."""

    kind: Any  # each class narrows it to its own name

    @classmethod
    def __pydantic_init_subclass__(cls, **more: object) -> None:
        """Register the kind."""
        del more
        RECORDS[str(cls.model_fields["kind"].default)] = cls

    @property
    def rows(self) -> int:
        """Return the amount of content: rows, files or objects."""
        raise NotImplementedError

    def falsified(self) -> Self:
        """Return a record with wrong content, for a negative control."""
        raise NotImplementedError

    def packs_of(self, backup: str) -> set[str]:
        """Return the files of an earlier backup that this one needs."""
        del backup
        return set()


class TableFingerprint(Record):
    """Row count and content hash of one table in the dump's snapshot; `hash` does not depend on the order of rows.

    A partitioned table counts as one, wherever a row is. A row of PostgreSQL is ROW(columns by name), without
    generated columns. `method` is `record`: sum(hash_record_extended(row, 0)), equal by each type's own equality;
    `text`: sum(hashtextextended(row::text, 0)), where a column's type has no hash that survives a restore; or
    `sha256`, of SQLite: the sum, modulo 2^256, of the SHA-256 of each row with the storage class of each value.
    """

    table: str
    rows: int = Field(ge=0)
    method: Literal["record", "text", "sha256"]
    hash: str

    def plus(self, other: TableFingerprint) -> TableFingerprint:
        """Return the combined fingerprint of this one's rows and those of `other`, which is of the same table."""
        return self.model_copy(update={"rows": self.rows + other.rows, "hash": str(int(self.hash) + int(other.hash))})

    def emptied(self) -> TableFingerprint:
        """Return the fingerprint of the table without its rows."""
        return self.model_copy(update={"rows": 0, "hash": "0"})


def one_row_more(known: tuple[TableFingerprint, ...]) -> tuple[TableFingerprint, ...]:
    """Return fingerprints as if the largest table had one more row."""
    tables = list(known)
    index = max(range(len(tables)), key=lambda i: tables[i].rows)
    tables[index] = tables[index].model_copy(update={"rows": tables[index].rows + 1})
    return tuple(tables)


class SequenceState(Record):
    """A sequence; `last_value` is None if it was never used.

    Sequences are not part of snapshots: in the copy a later value than this one is right, an earlier one is wrong.
    """

    sequence: str
    last_value: int | None
    increment: int


class Grant(Record):
    """Privileges of one role on the database itself (pg_dump leaves these out). The empty grantee is PUBLIC."""

    grantee: str
    privileges: tuple[str, ...]


class Membership(Record):
    """A role that may act as another role."""

    member: str
    role: str


class RoleOption(Record):
    """A setting of `ALTER ROLE … IN DATABASE … SET`, as `name=value`."""

    role: str
    option: str


class PostgresRecord(KindRecord):
    """A PostgreSQL database as it was dumped.

    `unsound` names constraints that are NOT VALID and indexes that are already invalid in the source;
    `not_compared` lists what differs by nature, `not_restored` what no restore can make, `warnings` what a restore
    may fail to make, with the statement that fixes it in the source. `partitions` are the leaves of each
    partitioned table. `only_tables` and `without_tables` are the patterns used for the dump: if there are any,
    the rows of the tables and partitions of `left_out` are not in it, only their definitions.
    `owners` own what a restore makes. `special_owners` own nothing but objects that often only a superuser may make
    (publications, foreign servers, languages, …): each with those objects, which a restore can do without.
    `memberships` lists which role may act as which, `superusers` which of them (or the role that dumped) is one:
    the restoring role needs the same rights, and so has a drill's scratch server. `superuser_extensions` are those that
    the role that dumped it may not create on the source's server.
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
    memberships: tuple[Membership, ...] = ()
    superusers: tuple[str, ...] = ()
    superuser_extensions: tuple[str, ...] = ()

    @property
    def named_roles(self) -> tuple[str, ...]:
        """Return the roles that its objects or the grants on the database name."""
        return tuple(sorted({*self.roles, *(grant.grantee for grant in self.grants)} - {""}))

    @property
    def partial(self) -> bool:
        """Return True if something was left out on purpose."""
        return bool(self.only_tables or self.without_tables)

    @property
    def readable_from(self) -> str:
        """Return the oldest version of PostgreSQL's programs that can load it, such as 15.20."""
        versions = (self.dump_tool.rpartition(" ")[2], self.server_version)
        return max(versions, key=lambda version: [int(part) for part in version.split(".")])

    def falsified(self) -> Self:
        """Return a record with wrong content."""
        return self.model_copy(update={"tables": one_row_more(self.tables)})

    @property
    def rows(self) -> int:
        """Return the rows of all tables."""
        return sum(table.rows for table in self.tables)

    def leaves_of(self, tables: Collection[str]) -> tuple[str, ...]:
        """Return the tables and partitions that hold the rows of these tables."""
        return tuple(leaf for table in tables for leaf in self.partitions.get(table, (table,)))

    def with_rows_of(self, tables: Collection[str]) -> PostgresRecord:
        """Return the record of a copy that has the rows of these tables only: the other tables are empty."""
        kept = tuple(table if table.table in tables else table.emptied() for table in self.tables)
        return self.model_copy(update={"tables": kept, "large_objects": None})


class SqliteRecord(KindRecord):
    """A SQLite database file as it was copied. `schema_digest` is of its definitions, in the order of their names.

    `mode`, `uid` and `gid` are the file's. `unsound` lists violations of its schema that are already in the source, or
    cannot be checked there (the copy is the same); `not_compared` names tables that have no rows of their own, or whose
    rows SQLite cannot read without the app.
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

    def falsified(self) -> Self:
        """Return a record with wrong content."""
        return self.model_copy(update={"tables": one_row_more(self.tables)})

    @property
    def rows(self) -> int:
        """Return the rows of all tables."""
        return sum(table.rows for table in self.tables)


class SecretFile(Record):
    """One file of a secrets backup: its place, mode and owner, and the *names* of its variables where it has any.

    `mac` is an HMAC-SHA256 over path and content, keyed as the record's `fingerprint`: nothing here reveals a
    value: no size, and no digest from which a short secret could be guessed. `same_as` is the path of the file that
    this one is a hard link to.
    """

    path: str
    mode: int
    uid: int
    gid: int
    names: tuple[str, ...] = ()
    mac: Digest
    same_as: str | None = None


class SecretFolder(Record):
    """One folder of a secrets backup."""

    path: str
    mode: int
    uid: int
    gid: int


class SecretLink(Record):
    """One symbolic link of a secrets backup, with its target as written, which need not exist."""

    path: str
    target: str
    uid: int
    gid: int


class SecretsRecord(KindRecord):
    """Files that hold secrets with their folders and links, as one encrypted tar. Paths are written by `shown_name`.

    `fingerprint` is an HMAC-SHA256 over everything except the variables' names. Its key is random, new for each backup,
    and only in the archive: only those who can decrypt it can prove that it is intact, or try guesses.
    The archive's own SHA-256 in the manifest is salted by the same key.
    `not_kept` lists what is missing from the archive, or restored incompletely.
    """

    kind: Literal["secrets"] = "secrets"
    files: tuple[SecretFile, ...]
    folders: tuple[SecretFolder, ...] = ()
    links: tuple[SecretLink, ...] = ()
    fingerprint: Digest
    not_kept: tuple[str, ...] = ()

    def falsified(self) -> Self:
        """Return a record with wrong content."""
        return self.model_copy(update={"fingerprint": self.fingerprint[::-1]})

    @property
    def rows(self) -> int:
        """Return the number of files."""
        return len(self.files)


class BucketObject(Record):
    """One object of a bucket: its metadata in the store, the digest of the bytes read, and the pack that contains it.

    `headers` are those that a reader of the object gets and that a restore sets again, as they are on the wire: a
    character for each byte (ISO-8859-1). `tags` and `public` (everybody may read it by its own ACL) are None where the
    store has none or does not report them. `not_kept` lists properties of the object that this backup lacks.
    `backup` is the id of the earlier backup whose pack holds the object, because it is unchanged; None is this
    backup.
    """

    key: str
    size: int = Field(ge=0)
    etag: str
    modified: AwareDatetime
    sha256: Digest
    headers: dict[str, str] = Field(default_factory=dict)
    tags: dict[str, str] | None = None
    public: bool | None = None
    not_kept: tuple[str, ...] = ()
    backup: BackupId | None = None
    pack: str = Field(pattern=f"^$|{FILE_NAME}", description="empty until it is in a pack")


class BucketRecord(KindRecord):
    """A bucket's objects under a prefix. `deleted` are keys that were in the previous backup and are not in this one.

    `based_on` is the previous backup, `generation` how many incremental ones followed the last full one. `rehashed` is
    the number of unchanged objects read again; `retaken` are those of them whose bytes differed from the record.
    `unread` are objects that could not be read, with the reason: this backup lacks them. `not_kept` sums up, a line for
    each kind, properties that this backup lacks, also of objects that are not in it.
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
    unread: dict[str, str] = Field(default_factory=dict)
    not_kept: tuple[str, ...] = ()

    def falsified(self) -> Self:
        """Return a record with wrong content."""
        first, *rest = self.objects
        other = first.model_copy(update={"sha256": first.sha256[::-1]})
        return self.model_copy(update={"objects": (other, *rest)})

    def packs_of(self, backup: str) -> set[str]:
        """Return the packs of an earlier backup that it needs."""
        return {item.pack for item in self.objects if item.backup == backup}

    @property
    def rows(self) -> int:
        """Return the number of objects."""
        return len(self.objects)


def parse_record(value: object) -> KindRecord:
    """Parse the record of a manifest as the kind that it names.

    Raises:
        ValueError: this Ancla does not know the kind, or a field is invalid.
    """
    return parse_kind(value, RECORDS, KindRecord, "backup")


AnyRecord = Annotated[SerializeAsAny[KindRecord], PlainValidator(parse_record)]
"""A record of any known kind."""


def notes(record: AnyRecord) -> list[str]:
    """Return what a reader of the backup must know, one line each, beginning with what it lacks."""
    labels = {
        "not_kept": "not kept",
        "warnings": "may fail in a restore",
        "not_restored": "not restored",
        "not_compared": "not compared",
        "unsound": "not sound in the source",
    }
    return [f"{label}: {line}" for field, label in labels.items() for line in getattr(record, field, ())]
