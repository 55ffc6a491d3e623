"""What a manifest records of what was backed up: one model a kind, told apart by `kind`.

A record is what a restored copy is held to; it holds names, counts and digests, never content.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in hex")]


class Record(BaseModel):
    """Base of every group: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TableFingerprint(Record):
    """Rows and content of one table in the dump's own snapshot; `hash` does not depend on the order of rows.

    `method` is `record`: sum(hash_record_extended(row, 0)), equal by each type's own equality; or
    `text`: sum(hashtextextended(row::text, 0)), where a column's type has no hash that survives a restore.
    """

    table: str
    rows: int = Field(ge=0)
    method: Literal["record", "text"]
    hash: str


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


class PostgresRecord(Record):
    """A PostgreSQL database as it was dumped.

    `unsound` names constraints that are NOT VALID and indexes that are not valid in the source already;
    `not_compared` names what differs by nature.
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

    @property
    def readable_from(self) -> str:
        """The oldest version of PostgreSQL's programs that may load it, such as 15.20."""
        versions = (self.dump_tool.rpartition(" ")[2], self.server_version)
        return max(versions, key=lambda version: [int(part) for part in version.split(".")])

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)


class SqliteRecord(Record):
    """A SQLite database file as it was copied. `schema_digest` is of its definitions, in the order of their names."""

    kind: Literal["sqlite"] = "sqlite"
    database: str
    sqlite_version: str
    schema_digest: Digest
    user_version: int
    page_size: int
    page_count: int
    tables: tuple[TableFingerprint, ...]

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)


class SecretFile(Record):
    """One file of a secrets backup: its place, mode and owner, and the *names* of its variables where it has any.

    `names` says nothing of values, and there is no digest of the content: a short secret could be guessed from one.
    """

    path: str
    mode: int
    uid: int
    gid: int
    size: int
    names: tuple[str, ...] = ()


class SecretsRecord(Record):
    """Files that hold secrets, as one encrypted tar. `fingerprint` is keyed by a random key inside the archive."""

    kind: Literal["secrets"] = "secrets"
    files: tuple[SecretFile, ...]
    fingerprint: str

    @property
    def rows(self) -> int:
        """Files."""
        return len(self.files)


class BucketObject(Record):
    """One object of a bucket: what its store said of it, the digest of what was read, and the pack that holds it.

    `backup` is the id of the backup whose pack it is in: an object that did not change stays where it was.
    """

    key: str
    size: int = Field(ge=0)
    etag: str
    modified: AwareDatetime
    sha256: Digest
    content_type: str | None = None
    cache_control: str | None = None
    public: bool = False
    metadata: dict[str, str] = Field(default_factory=dict)
    backup: str
    pack: str


class BucketRecord(Record):
    """A bucket's objects under a prefix. `deleted` are keys that the backup before had and this one has not."""

    kind: Literal["bucket"] = "bucket"
    bucket: str
    prefix: str
    based_on: str | None
    objects: tuple[BucketObject, ...]
    deleted: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Objects."""
        return len(self.objects)


AnyRecord = Annotated[PostgresRecord | SqliteRecord | SecretsRecord | BucketRecord, Field(discriminator="kind")]
