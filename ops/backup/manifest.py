"""What a restore point says of itself: `manifest.json`, written last, so that its presence means "complete".

It is enough to check and to restore the backup with no other knowledge, and by hand: see `how_to_restore`.
The model is versioned. A reader refuses a manifest newer than itself, and one whose `digest` is not of its content.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from ops.errors import ManifestError

MANIFEST_VERSION = 1
MANIFEST_NAME = "manifest.json"
HOW_TO_RESTORE = (
    "fetch every object into one folder under `file`; zstd -d --rm FOLDER/*.zst; "
    "createdb NEW; pg_restore --format=directory --jobs=2 --exit-on-error --dbname=NEW FOLDER"
)

_ID = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{6}")


class Record(BaseModel):
    """Base of every group: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ObjectRecord(Record):
    """One object of the backup. Sizes in bytes; digests are SHA-256 in hex.

    `key` is relative to the backup's own prefix; `file` is the name in pg_dump's folder once decompressed;
    `holds` names what a person would miss: a table, the large objects, or the archive's table of contents.
    """

    key: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")  # no separator: a manifest may not write outside its folder
    file_size: int = Field(ge=0)
    file_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    holds: str


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


class Manifest(Record):
    """One restore point. Times are UTC; `snapshot_at` is the moment the data is of."""

    manifest_version: Literal[1] = MANIFEST_VERSION
    id: str = Field(pattern=_ID.pattern)
    environment: str
    project: str
    source: PostgresRecord
    started_at: AwareDatetime
    snapshot_at: AwareDatetime
    finished_at: AwareDatetime
    compression: Literal["zstd"] = "zstd"
    objects: tuple[ObjectRecord, ...]
    how_to_restore: str = HOW_TO_RESTORE
    digest: str = ""

    def sealed(self) -> Manifest:
        """Return a copy whose `digest` is of its content."""
        return self.model_copy(update={"digest": self._content_digest()})

    def intact(self) -> bool:
        """Say whether `digest` is of the content."""
        return self.digest == self._content_digest()

    def to_bytes(self) -> bytes:
        """Return the JSON document as it is stored."""
        return (self.model_dump_json(indent=2) + "\n").encode()

    @property
    def stored_bytes(self) -> int:
        """Bytes of all objects in the store."""
        return sum(entry.size for entry in self.objects)

    def _content_digest(self) -> str:
        content = json.dumps(self.model_dump(mode="json", exclude={"digest"}), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()


def parse_manifest(raw: bytes, *, where: str, backup_id: str | None = None) -> Manifest:
    """Read a manifest and believe it only when it is whole.

    Args:
        raw: the stored bytes.
        where: what messages call it, such as `s3://bucket/key`.
        backup_id: the backup in whose place it lies; another one is refused.

    Raises:
        ManifestError: not JSON, another version, a field that does not fit, a digest or an id that differs.
    """
    try:
        document: Any = json.loads(raw)
    except ValueError as error:
        raise ManifestError(f"{where}: the manifest is not JSON: {error}") from None
    version: Any = document.get("manifest_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > MANIFEST_VERSION:
        raise ManifestError(
            f"{where}: the manifest is of version {version}, these tools read {MANIFEST_VERSION}; "
            "use the Ancla that made it, or a newer one"
        )
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ManifestError(f"{where}: {field}: {first['msg']}; this manifest cannot be trusted") from None
    if not manifest.intact():
        raise ManifestError(f"{where}: the manifest was changed after it was written: its digest is of other content")
    if backup_id is not None and manifest.id != backup_id:
        raise ManifestError(f"{where}: the manifest is of backup {manifest.id}, not of the one it lies in")
    return manifest


def time_of(backup_id: str) -> datetime | None:
    """Return when a backup was begun, by its name; None for a name that is not one."""
    match = _ID.fullmatch(backup_id)
    return datetime.strptime(match[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if match else None
