"""Define `manifest.json`, which describes one restore point. It is written last, so its presence means "complete".

It suffices to check and restore the backup without other knowledge; beside it, `RESTORE.md` explains it by hand, and
`manifest.json.sig` is the signature of its bytes. `digest` is of the parsed document without it, so it reveals a
change in an unsigned backup. The model is versioned: a manifest of a newer Ancla is refused as such.
"""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import AwareDatetime, Field, PrivateAttr, ValidationError

from ops.core.errors import ManifestError, RestoreRefusedError
from ops.core.models import Record, unknown_fields
from ops.core.signing import SIGNATURE_SUFFIX, Namespace, Signed, Signer, canonical, digest, seal
from ops.repository.records import BACKUP_ID, FILE_NAME, AnyRecord, BackupId, Digest

MANIFEST_VERSION = 1
MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = MANIFEST_NAME + SIGNATURE_SUFFIX
PAGE_NAME = "RESTORE.md"
"""Written just before the manifest, and deleted before it: a page alone means that the manifest was lost."""
_ID = re.compile(BACKUP_ID)


class ObjectRecord(Record):
    """One object of the backup. Sizes in bytes; digests are SHA-256 in hex.

    `key` is relative to the backup's own prefix; `file` is its name once decrypted and decompressed; `holds` names its
    content: a table, the large objects, the archive's table of contents, a pack of a bucket's objects.
    """

    key: str = Field(pattern=FILE_NAME)
    size: int = Field(ge=0)
    sha256: Digest
    file: str = Field(pattern=FILE_NAME)
    file_size: int = Field(ge=0)
    file_sha256: Digest
    holds: str


class Manifest(Record):
    """One restore point. Times are UTC; `snapshot_at` is the moment of the snapshot.

    `name` is the backup set's name in the stack; `recipients` are the age public keys it is encrypted for (none:
    unencrypted); `depends_on` are the backups whose packs it needs besides its own; `page_sha256` is of
    RESTORE.md, which a person runs.
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
    page_sha256: Digest | None = None
    digest: str = ""
    _stored: Signed | None = PrivateAttr(default=None)

    def sealed(self, signer: Signer | None = None) -> Self:
        """Return a copy with its `digest`, and signed if there is a key."""
        made = self.model_copy(update={"digest": _content_digest(self.model_dump(mode="json"))})
        made._stored = seal(made.to_bytes(), signer, Namespace.MANIFEST)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # a copy of ourselves
        return made

    @property
    def stored(self) -> Signed:
        """Return its stored bytes with their signature."""
        return self._stored or Signed(content=self.to_bytes())

    def signed_by(self, key: str) -> bool:
        """Return True if that key (one OpenSSH public line) signed the stored bytes."""
        return self.stored.signed_by(key, Namespace.MANIFEST)

    @property
    def signer(self) -> str | None:
        """Return the key that signed it (one OpenSSH public line); None if it is unsigned or was changed since."""
        claimed = self.stored.claimed_key
        return claimed if claimed is not None and self.signed_by(claimed) else None

    def to_bytes(self) -> bytes:
        """Return the JSON document as it is stored."""
        return (self.model_dump_json(indent=2) + "\n").encode()

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of all objects in the store."""
        return sum(entry.size for entry in self.objects)


def _content_digest(document: dict[str, Any]) -> str:
    return digest(canonical({key: value for key, value in document.items() if key != "digest"}))


def parse_manifest(raw: bytes, *, where: str, backup_id: str | None = None, signature: bytes | None = None) -> Manifest:
    """Parse a manifest and check that it is intact.

    Args:
        raw: the stored bytes.
        where: its name in messages, such as `s3://bucket/key`.
        backup_id: the backup whose folder it is in; another id is refused.
        signature: the signature stored beside it; a wrong one is not refused here.

    Raises:
        ManifestError: not JSON, of a newer version, an invalid field, a digest or an id that differs.
    """
    try:
        document: Any = json.loads(raw)
        content = _content_digest(document) if isinstance(document, dict) else ""
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: the manifest is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ManifestError(f"{where}: not a JSON object; this manifest cannot be trusted")
    version: Any = document.get("manifest_version")
    if isinstance(version, int) and version > MANIFEST_VERSION:
        raise ManifestError(
            f"{where}: written by a newer Ancla: the manifest is of version {version}, these tools read "
            f"{MANIFEST_VERSION}; use the Ancla that made it, or a newer one"
        )
    if document.get("digest") != content:
        raise ManifestError(f"{where}: the manifest was changed after it was written: its digest does not match")
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        if unknown := unknown_fields(error):
            raise ManifestError(
                f"{where}: written by a newer Ancla, which knows {', '.join(unknown[:5])}; use that version, or a "
                "newer one"
            ) from None
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ManifestError(f"{where}: {field}: {first['msg']}; this manifest cannot be trusted") from None
    if backup_id is not None and manifest.id != backup_id:
        raise ManifestError(f"{where}: the manifest is of backup {manifest.id}, not of the one in whose folder it is")
    manifest._stored = Signed(content=raw, signature=signature)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # made here
    return manifest


def require_trusted_signature(manifest: Manifest, signer: str | None) -> None:
    """Raise unless the environment signed the backup: anyone who can write to the bucket can put one there.

    Args:
        manifest: of the backup.
        signer: the environment's key (OpenSSH public line); None if it has none: all are accepted.

    Raises:
        RestoreRefusedError: it is unsigned, or signed by another key.
    """
    if signer is None or manifest.signed_by(signer):
        return
    how = "is signed by another key than this environment's" if manifest.signer else "is not signed"
    raise RestoreRefusedError(
        f"{manifest.id}: {how}, so anyone who can write to the bucket may have put it there; "
        "name another backup (`ops backup list`), or give --unsigned if you know who made it"
    )


def time_of(backup_id: str) -> datetime | None:
    """Return when a backup was started, from its id; None for any other name."""
    with contextlib.suppress(ValueError):  # it has the form, but is not a valid time
        if _ID.fullmatch(backup_id):
            return datetime.strptime(backup_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return None
