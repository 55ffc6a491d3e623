"""Negative controls: a copy of a backup, made wrong in one known way. A drill that stays green on it proves nothing.

Only a local copy is ever changed: `damage` takes a folder store and nothing else.
"""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from blueprint.keys import make_key
from ops.core.errors import RestoreRefusedError
from ops.core.signing import Namespace, Signed, Signer, seal
from ops.repository.catalog import prefix_of, put_manifest
from ops.repository.manifest import MANIFEST_NAME, Manifest
from ops.repository.signed_objects import put_signed
from ops.repository.stores.base import Store
from ops.repository.stores.folder import FolderStore

_PART = 8 << 20


class Damage(StrEnum):
    """What is done to the copy, or to the drill's key."""

    FLIP = "flip"
    TRUNCATED = "truncated"
    MISSING = "missing"
    MANIFEST = "manifest"
    ORIGIN = "origin"
    ROWS = "rows"
    STALE = "stale"
    KEY = "key"


EXPLAINED = {
    Damage.FLIP: "one bit of one object is flipped",
    Damage.TRUNCATED: "one object has lost its second half",
    Damage.MISSING: "one object is missing",
    Damage.MANIFEST: "the manifest was edited after it was sealed",
    Damage.ORIGIN: "the manifest was signed again, by another key",
    Damage.ROWS: "the manifest, signed again, records other content than the source had",
    Damage.STALE: "the snapshot is older than the budget",
    Damage.KEY: "the drill has an identity that the backup is not encrypted for",
}
CAUGHT_BY = {
    Damage.FLIP: "digests",
    Damage.TRUNCATED: "objects",
    Damage.MISSING: "objects",
    Damage.MANIFEST: "backup",
    Damage.ORIGIN: "origin",
    Damage.ROWS: "content",
    Damage.STALE: "age",
    Damage.KEY: "key",
}
"""The check that must turn red; another one turning red in its place is not a proof."""


def possible(manifest: Manifest, *, signer: str | None) -> list[Damage]:
    """Return the controls that there is something to damage for."""
    impossible = {
        Damage.FLIP: not manifest.stored_bytes,
        Damage.TRUNCATED: not manifest.stored_bytes,
        Damage.MISSING: not manifest.objects,
        Damage.ORIGIN: signer is None,
        Damage.ROWS: not manifest.source.rows,
        Damage.KEY: not manifest.recipients,
    }
    return [kind for kind in Damage if not impossible.get(kind)]


def copy_backup(store: Store, manifest: Manifest, copy: FolderStore) -> None:
    """Copy one backup as it is stored, and those it depends on."""
    prefix = prefix_of(manifest.name, manifest.id)
    keys = [prefix + entry.key for entry in manifest.objects]
    for other in manifest.depends_on:
        keys += [item.key for item in store.list(prefix_of(manifest.name, other))]
    for key in keys:
        with store.open(key) as body:
            upload = copy.upload(key)
            number = 0
            while block := body.read(_PART):
                number += 1
                upload.put(number, block)
            upload.complete()
    put_signed(copy, prefix + MANIFEST_NAME, manifest.stored)


def link_backup(original: FolderStore, copy: FolderStore) -> None:
    """Copy a copy at no cost: its files are the same ones until `damage` puts others in their place."""
    for item in original.list(""):
        target = copy.root / item.key
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(original.root / item.key, target)


def damage(copy: FolderStore, manifest: Manifest, kind: Damage, *, max_age_hours: float) -> None:
    """Make the copy wrong. The wrong key is not in the copy, and is left to the drill.

    Raises:
        RestoreRefusedError: there is nothing in it to damage in that way.
    """
    match kind:
        case Damage.FLIP:
            _flip(_victim(copy, manifest))
        case Damage.TRUNCATED:
            _halve(_victim(copy, manifest))
        case Damage.MISSING:
            _victim(copy, manifest).unlink()
        case Damage.MANIFEST:
            edited = {"environment": f"{manifest.environment}-edited"}
            changed = manifest.model_copy(update=edited).to_bytes()  # the old digest stays
            put_signed(copy, _key(manifest), Signed(content=changed, signature=manifest.stored.signature))
        case Damage.ORIGIN:
            stranger = Signer(make_key())
            put_signed(copy, _key(manifest), seal(manifest.stored.content, stranger, Namespace.MANIFEST))
        case Damage.ROWS:
            put_manifest(copy, manifest.model_copy(update={"source": manifest.source.falsified()}).sealed())
        case Damage.STALE:
            moment = manifest.snapshot_at - timedelta(hours=max_age_hours + 1)
            put_manifest(copy, manifest.model_copy(update={"snapshot_at": moment}).sealed())
        case Damage.KEY:
            pass


def _flip(path: Path) -> None:
    with _own(path).open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def _halve(path: Path) -> None:
    os.truncate(_own(path), path.stat().st_size // 2)


def _own(path: Path) -> Path:
    """Make the file one of its own: `link_backup` may have lent it."""
    copy = path.with_name(f"{path.name}.partial")
    shutil.copyfile(path, copy)
    return copy.replace(path)


def _victim(copy: FolderStore, manifest: Manifest) -> Path:
    """Choose the largest object that holds a table's rows; return its file."""
    if not manifest.objects:
        raise RestoreRefusedError(f"{manifest.id}: holds no object to damage")
    data = [entry for entry in manifest.objects if entry.holds.startswith("table ")] or list(manifest.objects)
    chosen = max(data, key=lambda entry: entry.size)
    return copy.root / prefix_of(manifest.name, manifest.id) / chosen.key


def _key(manifest: Manifest) -> str:
    return prefix_of(manifest.name, manifest.id) + MANIFEST_NAME
