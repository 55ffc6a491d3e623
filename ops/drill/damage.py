"""Negative controls: a copy of a backup, made wrong in one known way. A drill that stays green on it proves nothing.

Only a copy in a folder of this machine is ever changed; the type of `damage` says so.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from ops.backup.catalog import prefix_of
from ops.backup.manifest import MANIFEST_NAME, Manifest
from ops.backup.records import PostgresRecord, SqliteRecord
from ops.errors import RestoreRefusedError
from ops.stores.base import Store
from ops.stores.folder import FolderStore

_PART = 8 << 20


class Damage(StrEnum):
    """What is done to the copy."""

    FLIP = "flip"
    MISSING = "missing"
    MANIFEST = "manifest"
    ROWS = "rows"
    STALE = "stale"


EXPLAINED = {
    Damage.FLIP: "one bit of one object is flipped",
    Damage.MISSING: "one object is missing",
    Damage.MANIFEST: "the manifest was edited after it was sealed",
    Damage.ROWS: "the manifest, sealed anew, remembers one more row than there was",
    Damage.STALE: "the snapshot is older than the budget",
}
CAUGHT_BY = {
    Damage.FLIP: "digests",
    Damage.MISSING: "objects",
    Damage.MANIFEST: "backup",
    Damage.ROWS: "content",
    Damage.STALE: "age",
}
"""The check that must turn red; another one turning red in its place is not a proof."""


def copy_backup(store: Store, manifest: Manifest, copy: FolderStore) -> None:
    """Copy the objects of one backup as they are stored."""
    prefix = prefix_of(manifest.name, manifest.id)
    for key in [*(entry.key for entry in manifest.objects), MANIFEST_NAME]:
        with store.open(prefix + key) as body:
            upload = copy.upload(prefix + key)
            number = 0
            while block := body.read(_PART):
                number += 1
                upload.put(number, block)
            upload.complete()


def damage(copy: FolderStore, manifest: Manifest, kind: Damage, *, max_age_hours: int) -> None:
    """Make the copy wrong."""
    match kind:
        case Damage.FLIP:
            _flip(copy, manifest)
        case Damage.MISSING:
            _missing(copy, manifest)
        case Damage.MANIFEST:
            _manifest(copy, manifest)
        case Damage.ROWS:
            _rows(copy, manifest)
        case Damage.STALE:
            _stale(copy, manifest, max_age_hours)


def _flip(copy: FolderStore, manifest: Manifest) -> None:
    path = copy.root / prefix_of(manifest.name, manifest.id) / _victim(manifest)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _missing(copy: FolderStore, manifest: Manifest) -> None:
    copy.delete([prefix_of(manifest.name, manifest.id) + _victim(manifest)])


def _manifest(copy: FolderStore, manifest: Manifest) -> None:
    _write(copy, manifest.model_copy(update={"environment": f"{manifest.environment}-edited"}))  # the old digest stays


def _rows(copy: FolderStore, manifest: Manifest) -> None:
    record = manifest.source
    if not isinstance(record, PostgresRecord | SqliteRecord):
        raise RestoreRefusedError(f"{manifest.id}: a backup of {record.kind} has no tables to miscount")
    tables = list(record.tables)
    index = max(range(len(tables)), key=lambda i: tables[i].rows)
    tables[index] = tables[index].model_copy(update={"rows": tables[index].rows + 1})
    source = record.model_copy(update={"tables": tuple(tables)})
    _write(copy, manifest.model_copy(update={"source": source}).sealed())


def _stale(copy: FolderStore, manifest: Manifest, max_age_hours: int) -> None:
    moment = manifest.snapshot_at - timedelta(hours=max_age_hours + 1)
    _write(copy, manifest.model_copy(update={"snapshot_at": moment}).sealed())


def _victim(manifest: Manifest) -> str:
    """Choose the largest object that holds a table's rows."""
    data = [entry for entry in manifest.objects if entry.holds.startswith("table ")] or list(manifest.objects)
    return max(data, key=lambda entry: entry.size).key


def _write(copy: FolderStore, manifest: Manifest) -> None:
    copy.put_bytes(prefix_of(manifest.name, manifest.id) + MANIFEST_NAME, manifest.to_bytes())
