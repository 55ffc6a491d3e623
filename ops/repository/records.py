"""What a manifest records of what was backed up: one model a kind, told apart by `kind`.

A record is what a restored copy is held to; it holds names, counts and digests, never content.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AwareDatetime, Field, PlainValidator, SerializeAsAny, ValidationError
from pydantic_core import PydanticCustomError

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


def shown_name(name: str | bytes) -> str:
    r"""Return a name of any bytes as text; no two are the same. Bytes that are not UTF-8 become `\xNN`."""
    raw = name if isinstance(name, bytes) else name.encode(errors="surrogateescape")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    return text.replace("\\", "\\\\") if "\\x" in text else text


RECORDS: dict[str, type[KindRecord]] = {}
"""Every kind of record by its name; defining one enters it."""


class KindRecord(Record):
    """Base of what a manifest records of one kind of source. A kind's own questions are answered by its record."""

    kind: Any  # a kind narrows it to its own name

    @classmethod
    def __pydantic_init_subclass__(cls, **more: object) -> None:
        """Enter the kind."""
        del more
        RECORDS[str(cls.model_fields["kind"].default)] = cls

    @property
    def rows(self) -> int:
        """How much is in it: rows, files or objects."""
        raise NotImplementedError

    def falsified(self) -> Self:
        """Return a record of other content than there was, for a negative control."""
        raise NotImplementedError

    def packs_of(self, backup: str) -> set[str]:
        """Return the files of an earlier backup that this one needs."""
        del backup
        return set()


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


def one_row_more(known: tuple[TableFingerprint, ...]) -> tuple[TableFingerprint, ...]:
    """Return fingerprints as if the largest table had one row more."""
    tables = list(known)
    index = max(range(len(tables)), key=lambda i: tables[i].rows)
    tables[index] = tables[index].model_copy(update={"rows": tables[index].rows + 1})
    return tuple(tables)


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


class Membership(Record):
    """A role that may act as another one."""

    member: str
    role: str


class RoleOption(Record):
    """What `ALTER ROLE … IN DATABASE … SET` has set in the database, as `name=value`."""

    role: str
    option: str


class PostgresRecord(KindRecord):
    """A PostgreSQL database as it was dumped.

    `unsound` names constraints that are NOT VALID and indexes that are not valid in the source already;
    `not_compared` names what differs by nature, `not_restored` what no restore brings back, `warnings` what a restore
    may fail to make, with the statement that would mend it in the source. `partitions` are the leaves of each
    partitioned table. `only_tables` and `without_tables` are the patterns that it was dumped with: where there are any,
    the rows of the tables and partitions of `left_out` are not in it, though they are defined.
    `owners` own what a restore makes. `special_owners` own nothing but objects that often only a superuser may make
    (publications, foreign servers, languages, …): each with those objects, which a restore can do without.
    `memberships` says which of its roles may act as which, `superusers` which of them (or the role that dumped) is one:
    whoever restores it needs the like, and a drill's scratch server has the like. `superuser_extensions` are those that
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

    def falsified(self) -> Self:
        """Return a record of other content than there was."""
        return self.model_copy(update={"tables": one_row_more(self.tables)})

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


class SqliteRecord(KindRecord):
    """A SQLite database file as it was copied. `schema_digest` is of its definitions, in the order of their names.

    `mode`, `uid` and `gid` are the file's. `unsound` names what breaks a rule of its schema in the source already, or
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
        """Return a record of other content than there was."""
        return self.model_copy(update={"tables": one_row_more(self.tables)})

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)


class SecretFile(Record):
    """One file of a secrets backup: its place, mode and owner, and the *names* of its variables where it has any.

    `mac` is an HMAC-SHA256 over path and content, keyed as the record's `fingerprint`: nothing here says anything of a
    value, no size, and no digest from which a short secret could be guessed. `same_as` is the path of the file that
    this one is a hard link of.
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
    """One symbolic link of a secrets backup, as it was written: its target need not be there."""

    path: str
    target: str
    uid: int
    gid: int


class SecretsRecord(KindRecord):
    """Files that hold secrets with their folders and links, as one encrypted tar. Paths are written by `shown_name`.

    `fingerprint` is an HMAC-SHA256 over all of it but the variables' names. Its key is random, new for each backup, and
    inside of the archive alone: who can decrypt it can prove that it is intact, and nobody else can try guesses.
    The archive's own SHA-256 in the manifest is salted by the same key.
    `not_kept` names what was there and is not in the archive, or comes back without something it had.
    """

    kind: Literal["secrets"] = "secrets"
    files: tuple[SecretFile, ...]
    folders: tuple[SecretFolder, ...] = ()
    links: tuple[SecretLink, ...] = ()
    fingerprint: Digest
    not_kept: tuple[str, ...] = ()

    def falsified(self) -> Self:
        """Return a record of other content than there was."""
        return self.model_copy(update={"fingerprint": self.fingerprint[::-1]})

    @property
    def rows(self) -> int:
        """Files."""
        return len(self.files)


class BucketObject(Record):
    """One object of a bucket: what its store said of it, the digest of what was read, and the pack that holds it.

    `headers` are those that a reader of the object gets and that a restore puts back, as they are on the wire: a
    character for each byte (ISO-8859-1). `tags` and `public` (everybody may read it by its own ACL) are None where the
    store has none or does not say. `not_kept` names what the object has and this backup has not.
    `backup` is the id of the earlier backup whose pack holds the object, because it has not changed since; None is this
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
    pack: str = Field(pattern=f"^$|{FILE_NAME}", description="empty until it is in one")


class BucketRecord(KindRecord):
    """A bucket's objects under a prefix. `deleted` are keys that the backup before had and this one has not.

    `based_on` is the backup before, `generation` how many incremental ones came since the last full one. `rehashed` is
    how many unchanged objects were read again; `retaken` are those of them that had other bytes than were recorded.
    `unread` are objects that could not be read, and why: they are not in this backup. `not_kept` sums up, a line for
    each kind, what objects have and this backup has not, those that are not in it included.
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
        """Return a record of other content than there was."""
        first, *rest = self.objects
        other = first.model_copy(update={"sha256": first.sha256[::-1]})
        return self.model_copy(update={"objects": (other, *rest)})

    def packs_of(self, backup: str) -> set[str]:
        """Return the packs of an earlier backup that it needs."""
        return {item.pack for item in self.objects if item.backup == backup}

    @property
    def rows(self) -> int:
        """Objects."""
        return len(self.objects)


def parse_record(value: object) -> KindRecord:
    """Return the record of a manifest, by the kind that it names.

    Raises:
        ValueError: this Ancla knows no such kind, or a field does not fit.
    """
    if isinstance(value, KindRecord):
        return value
    document = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    known = RECORDS.get(str(document.get("kind")))
    if known is None:
        raise PydanticCustomError("kind", "unknown kind of backup; known: {known}", {"known": ", ".join(RECORDS)})
    try:
        return known.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PydanticCustomError("record", "{where}: {what}", {"where": where, "what": first["msg"]}) from None


AnyRecord = Annotated[SerializeAsAny[KindRecord], PlainValidator(parse_record)]
"""The record of any kind that is known."""


def notes(record: AnyRecord) -> list[str]:
    """Return what a backup says of itself that its reader must know, one line each, first what is not in it."""
    labels = {
        "not_kept": "not kept",
        "warnings": "may fail in a restore",
        "not_restored": "not restored",
        "not_compared": "not compared",
        "unsound": "not sound in the source",
    }
    return [f"{label}: {line}" for field, label in labels.items() for line in getattr(record, field, ())]
