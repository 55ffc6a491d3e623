"""List and read backups from the store alone: there is no index that could be lost or wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ops.core.errors import BackupNotFoundError, ManifestError, ObjectMissingError
from ops.repository.manifest import MANIFEST_NAME, PAGE_NAME, Manifest, parse_manifest, time_of
from ops.repository.signed_objects import put_signed, read_signed
from ops.repository.stores.base import Store, StoredObject

MANIFEST_LIMIT = 64 << 20
"""Maximum bytes of a manifest; Ancla writes none that is larger."""

LATEST = "latest"

CLOCK_WRONG = timedelta(minutes=5)
"""Maximum skew of synchronised clocks. Beyond it a drill is red, and the date is no reason to delete the backup."""
CLOCK_MISLEADS = timedelta(hours=1)
"""A backup dated further ahead is not accepted as the latest: refusing a restore is worse than a red drill."""

ID_LENGTH = len("20260101T000000Z-000000")


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """A backup in the listing: `complete` if its manifest exists, `page` if its RESTORE.md does.

    `begun_at` is by the clock of the droplet that made it, `stored_at` by the store's: when the manifest arrived, or,
    without one, the newest object. `size` is in bytes.
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
    return sorted(listed, key=lambda entry: (entry.begun_at, entry.stored_at, entry.id, entry.name))  # ids: seconds


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The expected signer of a backup (one OpenSSH line; None: not checked) and its expected recipients.

    `recipients` are age public keys of which one must be among the backup's (none: it must be unencrypted; None: not
    compared).
    """

    signer: str | None = None
    recipients: Sequence[str] | None = None

    def differences(self, manifest: Manifest) -> list[str]:
        """Return how it differs from this environment's current configuration; empty if it matches."""
        found = [] if self.signer is None or manifest.signed_by(self.signer) else [UNSIGNED]
        if self.recipients is None:
            return found
        if manifest.recipients and not set(manifest.recipients) & set(self.recipients):
            found.append(f"encrypted for {', '.join(manifest.recipients)}, none of which is in backup.recipients")
        elif self.recipients and not manifest.recipients:
            found.append("not encrypted, though backup.recipients names who may read it")
        return found


UNSIGNED = "not signed with the environment's key"


def find(
    store: Store,
    name: str,
    backup_id: str = LATEST,
    *,
    expected: Expected | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Return the manifest of a backup by its id, or of the latest complete one.

    Args:
        store: the store.
        name: the backup set.
        backup_id: an id, or `latest`.
        expected: requirements on the latest: others are skipped and reported. None: the newest, without requirements.
        report: called for each skipped backup with the reason.

    Raises:
        BackupNotFoundError: there is none, the named one is not complete, or a wrong clock hides which is the latest.
        ManifestError: it cannot be trusted.
    """
    known = entries(store, name)
    complete = [entry.id for entry in known if entry.complete]
    if backup_id == LATEST:
        return _latest(store, name, complete, expected, report)
    if backup_id not in complete:
        if not any(entry.id == backup_id for entry in known):
            raise unknown(store, name, backup_id)
        raise BackupNotFoundError(
            f"{store.name}: backup {backup_id} of {name} is not complete: its manifest is missing; "
            "`ops backup list` shows all backups"
        )
    return read_manifest(store, name, backup_id)


def _latest(
    store: Store, name: str, complete: Sequence[str], expected: Expected | None, report: Callable[[str], None]
) -> Manifest:
    if not complete:
        raise BackupNotFoundError(f"{store.name}: no complete backup of {name}; run `ops backup create`")
    skipped: list[str] = []
    for backup_id in reversed(complete):
        if expected is None:
            reject_future_dated(store, name, backup_id)
            return read_manifest(store, name, backup_id)
        try:
            manifest = read_manifest(store, name, backup_id)
            why = "; ".join(expected.differences(manifest))
        except ManifestError as error:
            manifest, why = None, str(error)
        if manifest is not None and not why:
            reject_future_dated(store, name, backup_id)
            return manifest
        skipped.append(f"{backup_id}: {why}")
        report(f"skipped {skipped[-1]}; it does not count as the latest")
    raise BackupNotFoundError(
        f"{store.name}: no trusted backup of {name} ({skipped[0]}); whoever can write to the bucket may "
        "have put it there: name a backup (`ops backup list`), or give --unsigned if you know who made it"
    )


def unknown(store: Store, name: str, backup_id: str) -> BackupNotFoundError:
    """Return the error for an unknown id, with suggestions."""
    advice = "`ops backup list` shows all"
    for entry in entries(store):
        if entry.name == name and entry.id.startswith(backup_id):
            advice = f"did you mean {entry.id}? Give the complete id"
        elif entry.id == backup_id:
            advice = f"it belongs to {entry.name}: give --name {entry.name}"
    return BackupNotFoundError(f"{store.name}: backup {backup_id} of {name} does not exist; {advice}")


def reject_future_dated(store: Store, name: str, backup_id: str) -> None:
    """Reject a future-dated backup as the latest: it would shadow newer ones until that time passes.

    Raises:
        BackupNotFoundError: it is dated in the future.
    """
    begun, now = time_of(backup_id), datetime.now(UTC)
    if begun is not None and begun > now + CLOCK_MISLEADS:
        raise BackupNotFoundError(
            f"{store.name}: backup {backup_id} of {name} is dated in the future (now: {now:%Y-%m-%d %H:%M} UTC): a "
            "clock is wrong, here or on the droplet that made it; fix the clock (timedatectl), or name a backup "
            "(`ops backup list` shows all)"
        )


def why_not_latest(
    manifest: Manifest, signer: str | None, now: datetime, recipients: Sequence[str] | None = None
) -> str:
    """Return why a backup does not count as the latest; empty if it does.

    Args:
        manifest: of the backup.
        signer: the environment's key (OpenSSH public line); None if it has none.
        now: the current time.
        recipients: of the stack; None: not compared.
    """
    if differs := Expected(signer=signer, recipients=recipients).differences(manifest):
        return f"{manifest.id} is {'; '.join(differs)}"
    dated = max(manifest.snapshot_at, time_of(manifest.id) or manifest.snapshot_at)
    if dated > now + CLOCK_MISLEADS:  # it would look fresh until that time, and hide newer ones
        return f"{manifest.id} is dated in the future: {dated:%Y-%m-%d %H:%M} UTC"
    return ""


def put_manifest(store: Store, manifest: Manifest) -> None:
    """Store a manifest after its signature: from then on the backup is complete.

    Raises:
        StoreError: the store refused.
    """
    put_signed(store, prefix_of(manifest.name, manifest.id) + MANIFEST_NAME, manifest.stored)


def read_manifest(store: Store, name: str, backup_id: str) -> Manifest:
    """Read and check one manifest.

    Raises:
        ManifestError: it is missing, too large, of a newer version, changed, or of another backup.
    """
    key = prefix_of(name, backup_id) + MANIFEST_NAME
    where = f"{store.name}/{key}"
    try:
        found = read_signed(store, key, limit=MANIFEST_LIMIT)
    except ObjectMissingError:
        raise ManifestError(f"{where}: there is no manifest: the backup was never completed") from None
    if len(found.content) > MANIFEST_LIMIT:
        raise ManifestError(f"{where}: larger than {MANIFEST_LIMIT >> 20} MiB; this is not a manifest")
    manifest = parse_manifest(found.content, where=where, backup_id=backup_id, signature=found.signature)
    if manifest.name != name:
        raise ManifestError(f"{where}: the manifest is of {manifest.name}, not of {name}")
    return manifest


def digests_of(store: Store, name: str, backups: Iterable[str]) -> dict[str, str]:
    """Return the digests of backups' manifests, by id; an unreadable one is left out.

    Raises:
        StoreError: the store does not answer.
    """
    found: dict[str, str] = {}
    for backup in backups:
        try:
            found[backup] = read_manifest(store, name, backup).digest
        except ManifestError:
            continue
    return found


def missing_objects(store: Store, manifest: Manifest) -> list[str]:
    """List the objects of the manifest that are missing in the store, or have another size."""
    prefix = prefix_of(manifest.name, manifest.id)
    sizes = {item.key.removeprefix(prefix): item.size for item in store.list(prefix)}
    problems: list[str] = []
    for entry in manifest.objects:
        if entry.key not in sizes:
            problems.append(f"{prefix}{entry.key} ({entry.holds}): missing")
        elif sizes[entry.key] != entry.size:
            problems.append(f"{prefix}{entry.key} ({entry.holds}): {sizes[entry.key]} bytes, not {entry.size}")
    return problems


def _entry(name: str, backup_id: str, items: Iterable[StoredObject]) -> CatalogEntry:
    listed = list(items)
    begun = time_of(backup_id)
    completed = [item.modified for item in listed if item.key.endswith(f"/{MANIFEST_NAME}")]
    assert begun is not None  # noqa: S101  # `entries` keeps names that are ids
    return CatalogEntry(
        id=backup_id,
        name=name,
        begun_at=begun,
        stored_at=max(completed or [item.modified for item in listed]),
        complete=bool(completed),
        page=any(item.key.endswith(f"/{PAGE_NAME}") for item in listed),
        objects=len(listed),
        size=sum(item.size for item in listed),
    )
