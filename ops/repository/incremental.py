"""Choose the base of an incremental backup, and list the packs of earlier backups that a restore needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ops.core.errors import BackupNotFoundError, ManifestError, StoreError
from ops.repository.catalog import CLOCK_WRONG, entries, missing_objects, prefix_of, read_manifest
from ops.repository.manifest import Manifest, ObjectRecord
from ops.repository.records import BucketRecord
from ops.repository.stores.base import Store


@dataclass(frozen=True, kw_only=True)
class Piece:
    """An object to fetch: from under `prefix`, into the subfolder `place` of the folder for the backup's objects."""

    prefix: str
    place: str
    entry: ObjectRecord

    def folder(self, root: Path) -> Path:
        """Create and return the folder it goes to."""
        folder = root / self.place
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder


def own_pieces(manifest: Manifest) -> list[Piece]:
    """Return the objects of the backup itself."""
    prefix = prefix_of(manifest.name, manifest.id)
    return [Piece(prefix=prefix, place="", entry=entry) for entry in manifest.objects]


def pieces(store: Store, manifest: Manifest) -> list[Piece]:
    """Return every object that a restore needs: the backup's own, and the packs of the backups it depends on.

    Raises:
        ManifestError: an earlier backup's manifest is missing or cannot be trusted.
    """
    found = own_pieces(manifest)
    for earlier in manifest.depends_on:
        base = _earlier(store, manifest, earlier)
        needed = manifest.source.packs_of(earlier)
        if lost := sorted(needed - {entry.file for entry in base.objects}):
            raise ManifestError(f"{store.name}: {manifest.id} needs {lost[0]} of {earlier}, which has no such pack")
        found += [
            Piece(prefix=prefix_of(base.name, base.id), place=base.id, entry=entry)
            for entry in base.objects
            if entry.file in needed
        ]
    return found


def missing(store: Store, manifest: Manifest) -> list[str]:
    """List each object that a restore needs and that is missing in the store or has another size."""
    problems = missing_objects(store, manifest)
    for earlier in manifest.depends_on:
        try:
            base = _earlier(store, manifest, earlier)
        except ManifestError as error:
            problems.append(f"{error}: {manifest.id} depends on it")
            continue
        wanted = manifest.source.packs_of(earlier)
        needed = base.model_copy(update={"objects": tuple(entry for entry in base.objects if entry.file in wanted)})
        problems += [f"{problem}: {manifest.id} depends on it" for problem in missing_objects(store, needed)]
    return problems


def base_of(stores: Iterable[Store], name: str, *, signer: str | None = None) -> Base:
    """Find the newest backup that is in every store, complete and with all its dependencies.

    A store that does not answer is left out: the backup fails there, and finds no base there the next time. With
    `signer` (the environment's key, an OpenSSH public line) only a backup that it signed can be a base. A backup dated
    in the future is never a base: it would be the newest until that time.
    """
    answering: list[Store] = []
    complete: list[set[str]] = []
    latest = datetime.now(UTC) + CLOCK_WRONG
    for store in stores:
        try:
            complete.append({e.id for e in entries(store, name) if e.complete and e.begun_at <= latest})
            answering.append(store)
        except StoreError:
            continue
    shared: set[str] = set.intersection(*complete) if complete else set()
    if not shared:
        some = any(complete)
        return Base(why="no earlier backup is in every store" if some else "there is no earlier backup")
    newest = max(shared)
    try:
        manifests = [read_manifest(store, name, newest) for store in answering]
        problems = [problem for store, m in zip(answering, manifests, strict=True) for problem in missing(store, m)]
    except (ManifestError, BackupNotFoundError, StoreError) as error:
        return Base(id=newest, why=f"{newest} cannot be the base: {error}")
    first = manifests[0]
    if problems:
        why = f"not complete: {problems[0]}"
    elif any(manifest.digest != first.digest for manifest in manifests):
        why = "not the same in every store"
    elif signer is not None and not first.signed_by(signer):
        why = "not signed by this environment"
    elif isinstance(first.source, BucketRecord):
        return Base(id=newest, record=first.source)
    else:
        why = "of another kind"
    return Base(id=newest, why=f"{newest} is {why}")


def _earlier(store: Store, manifest: Manifest, earlier: str) -> Manifest:
    """Read the manifest of a backup that another one depends on; if that is signed, the same key must have signed it.

    Raises:
        ManifestError: it is missing, or cannot be trusted.
    """
    base = read_manifest(store, manifest.name, earlier)
    if manifest.signer is not None and not base.signed_by(manifest.signer):
        raise ManifestError(f"{store.name}: {earlier} is not signed by the key that signed {manifest.id}")
    return base


@dataclass(frozen=True, kw_only=True)
class Base:
    """The backup that the next one builds on. If there is none, `record` is None and `why` gives the reason."""

    id: str = ""
    record: BucketRecord | None = None
    why: str = ""
