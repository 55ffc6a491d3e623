"""What a restore point says of itself: `manifest.json`, written last, so that its presence means "complete".

It is enough to check and to restore the backup with no other knowledge; beside it, `RESTORE.md` says how by hand.
The model is versioned. A reader refuses a manifest newer than itself, and one whose `digest` is not of its content.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, Field, ValidationError

from ops.core.errors import ManifestError, RestoreRefusedError
from ops.core.models import Record
from ops.core.signing import Signature, Signer, same_key, signed_by
from ops.repository.records import BACKUP_ID, FILE_NAME, AnyRecord, BackupId, Digest

MANIFEST_VERSION = 1
MANIFEST_NAME = "manifest.json"
PAGE_NAME = "RESTORE.md"
"""Written just before the manifest, and deleted before it: where it is alone, the manifest was lost."""
_ID = re.compile(BACKUP_ID)


class ObjectRecord(Record):
    """One object of the backup. Sizes in bytes; digests are SHA-256 in hex.

    `key` is relative to the backup's own prefix; `file` is its name once decrypted and decompressed; `holds` names what
    a person would miss: a table, the large objects, the archive's table of contents, a pack of a bucket's objects.
    """

    key: str = Field(pattern=FILE_NAME)
    size: int = Field(ge=0)
    sha256: Digest
    file: str = Field(pattern=FILE_NAME)
    file_size: int = Field(ge=0)
    file_sha256: Digest
    holds: str


class Manifest(Record):
    """One restore point. Times are UTC; `snapshot_at` is the moment the data is of.

    `name` is what is backed up, as the stack names it; `recipients` are the age public keys it is encrypted for (none:
    it is not encrypted); `depends_on` are the backups whose packs it needs besides its own; `page_sha256` is of
    RESTORE.md, which a person runs (None: an older Ancla wrote it). The signature is over the bytes of `digest`.
    """

    manifest_version: Literal[1] = MANIFEST_VERSION
    id: BackupId
    name: str
    environment: str
    project: str
    source: AnyRecord
    started_at: AwareDatetime
    snapshot_at: AwareDatetime
    finished_at: AwareDatetime
    compression: Literal["zstd"] = "zstd"
    recipients: tuple[str, ...] = ()
    objects: tuple[ObjectRecord, ...]
    depends_on: tuple[BackupId, ...] = ()
    page_sha256: Digest | None = Field(default=None, exclude_if=lambda value: value is None)  # as older digests are
    digest: str = ""
    signed: Signature | None = None

    def sealed(self, signer: Signer | None = None) -> Manifest:
        """Return a copy whose `digest` is of its content, signed where there is a key."""
        digest = self._content_digest()
        signed = Signature(key=signer.public, signature=signer.sign(digest.encode())) if signer else None
        return self.model_copy(update={"digest": digest, "signed": signed})

    def signed_by(self, key: str) -> bool:
        """Say whether it was signed by that key (one OpenSSH public line) and not changed since."""
        signed = self.signed
        return (
            signed is not None
            and self.intact()
            and same_key(signed.key, key)
            and signed_by(key, signed.signature, self.digest.encode())
        )

    @property
    def signer(self) -> str | None:
        """The key that signed it (one OpenSSH public line); None where none did, or it was changed since."""
        return self.signed.key if self.signed is not None and self.signed_by(self.signed.key) else None

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
        content = json.dumps(
            self.model_dump(mode="json", exclude={"digest", "signed"}), sort_keys=True, separators=(",", ":")
        )
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


def refuse_stranger(manifest: Manifest, signer: str | None) -> None:
    """Refuse a backup that the environment has not signed: whoever may write to the bucket can put one there.

    Args:
        manifest: of the backup.
        signer: the environment's key (OpenSSH public line); None where it names none, and all are taken.

    Raises:
        RestoreRefusedError: it is not signed, or by another key.
    """
    if signer is None or manifest.signed_by(signer):
        return
    how = "is signed by another key than this environment's" if manifest.signer else "is not signed"
    raise RestoreRefusedError(
        f"{manifest.id}: {how}, so whoever can write to the bucket may have put it there; "
        "name another backup (`ops backup list`), or give --unsigned if you know who made it"
    )


def time_of(backup_id: str) -> datetime | None:
    """Return when a backup was begun, by its name; None for a name that is not one."""
    with contextlib.suppress(ValueError):  # it has the form, and is no time
        if _ID.fullmatch(backup_id):
            return datetime.strptime(backup_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return None
