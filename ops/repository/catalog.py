"""What is in the store, found again from the store alone: no index that could be lost or lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ops.core.errors import BackupNotFoundError, ManifestError, ObjectMissingError
from ops.repository.manifest import MANIFEST_NAME, PAGE_NAME, Manifest, parse_manifest, time_of
from ops.repository.stores.base import Store, StoredObject

MANIFEST_LIMIT = 64 << 20
"""Bytes. A larger manifest is not ours."""

LATEST = "latest"

CLOCK_WRONG = timedelta(minutes=5)
"""Clocks that are kept differ by less. From here on a drill is red, and what is dated so is no reason to delete."""
CLOCK_MISLEADS = timedelta(hours=1)
"""From here on what a machine has made is not taken for the latest: refusing a restore is worse than a red drill."""

ID_LENGTH = len("20260101T000000Z-000000")


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """A backup as the listing shows it: `complete` where its manifest is there, `page` where its RESTORE.md is.

    `begun_at` is by the clock of the machine that made it, `stored_at` by the store's: when the last object came.
    `size` is in bytes.
    """

    id: str
    name: str
    begun_at: datetime
    stored_at: datetime
    complete: bool
    page: bool
    objects: int
    size: int


def prefix_of(name: str, backup_id: str) -> str:
    """Return the prefix of one backup, with its last slash."""
    return f"{name}/{backup_id}/"


def entries(store: Store, name: str | None = None) -> list[CatalogEntry]:
    """List the backups, oldest first."""
    found: dict[tuple[str, str], list[StoredObject]] = {}
    for item in store.list(f"{name}/" if name else ""):
        parts = item.key.split("/")
        if len(parts) == 3 and time_of(parts[1]) is not None:
            found.setdefault((parts[0], parts[1]), []).append(item)
    listed = [_entry(name, key, items) for (name, key), items in found.items()]
    return sorted(listed, key=lambda entry: (entry.begun_at, entry.stored_at, entry.id, entry.name))  # ids say seconds


def find(store: Store, name: str, backup_id: str = LATEST) -> Manifest:
    """Return the manifest of a backup by its id, or of the latest complete one.

    Raises:
        BackupNotFoundError: there is none, the named one is not complete, or a clock hides which is the latest.
        ManifestError: it cannot be trusted.
    """
    known = entries(store, name)
    complete = [entry.id for entry in known if entry.complete]
    if backup_id == LATEST:
        if not complete:
            raise BackupNotFoundError(f"{store.name}: no complete backup of {name}; run `ops backup create`")
        backup_id = complete[-1]
        refuse_to_come(store, name, backup_id)
    elif backup_id not in complete:
        if not any(entry.id == backup_id for entry in known):
            raise unknown(store, name, backup_id)
        raise BackupNotFoundError(
            f"{store.name}: backup {backup_id} of {name} is not complete: its manifest is missing; "
            "`ops backup list` shows all"
        )
    return read_manifest(store, name, backup_id)


def unknown(store: Store, name: str, backup_id: str) -> BackupNotFoundError:
    """Return the error for an id that nothing is stored under, with what may have been meant."""
    advice = "`ops backup list` shows all"
    for entry in entries(store):
        if entry.name == name and entry.id.startswith(backup_id):
            advice = f"is it {entry.id}? An id is given whole"
        elif entry.id == backup_id:
            advice = f"it is of {entry.name}: give --name {entry.name}"
    return BackupNotFoundError(f"{store.name}: backup {backup_id} of {name} is not there; {advice}")


def refuse_to_come(store: Store, name: str, backup_id: str) -> None:
    """Refuse to take a backup for the latest that is dated to come: it hides newer ones until its time is there.

    Raises:
        BackupNotFoundError: it is.
    """
    begun, now = time_of(backup_id), datetime.now(UTC)
    if begun is not None and begun > now + CLOCK_MISLEADS:
        raise BackupNotFoundError(
            f"{store.name}: {backup_id} of {name} is dated to come, it is {now:%Y-%m-%d %H:%M} UTC here: a clock is "
            "wrong, here or where it was made, and which backup is the latest cannot be told; "
            "set the clock (timedatectl), or name a backup (`ops backup list` shows all)"
        )


def why_not_latest(manifest: Manifest, signer: str | None, now: datetime) -> str:
    """Say why a backup's date says nothing of how much would be lost; nothing where it does.

    Args:
        manifest: of the backup.
        signer: the environment's key (OpenSSH public line); None where it names none.
        now: the time here.
    """
    if signer is not None and not manifest.signed_by(signer):
        return f"{manifest.id} is not signed by this environment"
    dated = max(manifest.snapshot_at, time_of(manifest.id) or manifest.snapshot_at)
    if dated > now + CLOCK_MISLEADS:  # it would look fresh until its time has come, and hide newer ones
        return f"{manifest.id} is of the future: {dated:%Y-%m-%d %H:%M} UTC"
    return ""


def read_manifest(store: Store, name: str, backup_id: str) -> Manifest:
    """Read and check one manifest.

    Raises:
        ManifestError: it is missing, too large, of a newer version, changed, or of another backup.
    """
    key = prefix_of(name, backup_id) + MANIFEST_NAME
    where = f"{store.name}/{key}"
    try:
        with store.open(key) as body:
            raw = body.read(MANIFEST_LIMIT + 1)
    except ObjectMissingError:
        raise ManifestError(f"{where}: there is no manifest: the backup was never completed") from None
    if len(raw) > MANIFEST_LIMIT:
        raise ManifestError(f"{where}: larger than {MANIFEST_LIMIT >> 20} MiB; this is no manifest")
    manifest = parse_manifest(raw, where=where, backup_id=backup_id)
    if manifest.name != name:
        raise ManifestError(f"{where}: the manifest is of {manifest.name}, not of {name}")
    return manifest


def missing_objects(store: Store, manifest: Manifest) -> list[str]:
    """Name each object of the manifest that the store does not list, or lists with another size."""
    prefix = prefix_of(manifest.name, manifest.id)
    sizes = {item.key.removeprefix(prefix): item.size for item in store.list(prefix)}
    problems: list[str] = []
    for entry in manifest.objects:
        if entry.key not in sizes:
            problems.append(f"{prefix}{entry.key} ({entry.holds}): missing")
        elif sizes[entry.key] != entry.size:
            problems.append(f"{prefix}{entry.key} ({entry.holds}): {sizes[entry.key]} bytes, {entry.size} were written")
    return problems


def _entry(name: str, backup_id: str, items: Iterable[StoredObject]) -> CatalogEntry:
    listed = list(items)
    begun = time_of(backup_id)
    assert begun is not None  # noqa: S101  # `entries` keeps names that are ids
    return CatalogEntry(
        id=backup_id,
        name=name,
        begun_at=begun,
        stored_at=max(item.modified for item in listed),
        complete=any(item.key.endswith(f"/{MANIFEST_NAME}") for item in listed),
        page=any(item.key.endswith(f"/{PAGE_NAME}") for item in listed),
        objects=len(listed),
        size=sum(item.size for item in listed),
    )
