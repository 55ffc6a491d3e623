"""Create a backup: dump → compress → encrypt → store, concurrently; the manifest last. A failed backup is removed."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ops.backup.restore_guide import build_page
from ops.backup.run_lock import only_run
from ops.core.errors import DeleteRefusedError, KeyProblemError, SourceError, StoreError
from ops.core.progress import ProgressFactory, no_progress
from ops.core.signing import Signer
from ops.core.workdir import mebibytes, spool
from ops.repository.catalog import MANIFEST_LIMIT, entries, prefix_of, put_manifest
from ops.repository.incremental import missing
from ops.repository.manifest import MANIFEST_NAME, PAGE_NAME, Manifest, time_of
from ops.repository.records import AnyRecord
from ops.repository.stores.base import Store
from ops.repository.upload import Destination, UploadPipeline
from ops.sources.base import Source

ORPHAN_HOURS = 24
"""Older uploads under our prefix were left by a killed backup; no run takes that long."""

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class BackupJob:
    """The source of a backup and its stores. Each of `stores` gets a copy of the same dump; `level` is zstd's."""

    environment: str
    project: str
    name: str
    source: Source[AnyRecord]
    stores: tuple[Store, ...]
    recipients: tuple[str, ...] = ()
    signer: Signer | None = None
    level: int = 3
    spool: Path | None = None


def create(job: BackupJob, report: Report, meter: ProgressFactory = no_progress) -> Manifest:
    """Create one backup and return its manifest, which is the same in every store.

    Args:
        job: source and stores.
        report: called for each step.
        meter: shows how much of the dump was uploaded.

    Raises:
        KeyProblemError: secrets would be stored unencrypted.
        BusyError: another run is backing up the same set, here or on another computer.
        SourceError: the source cannot be dumped.
        SpoolError: this computer's disk is full.
        StoreError: a store refused; the upload there is removed, the other stores keep their copy.
    """
    begun = datetime.now(UTC)
    backup_id = f"{begun:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    with only_run(f"backup-{job.project}-{job.environment}-{job.name}", backup_id) as died:
        return _create(job, _Run(id=backup_id, begun=begun, died=died), report, meter)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """State of this run, and the ids of backups left incomplete by runs since the last one that succeeded."""

    id: str
    begun: datetime
    died: tuple[str, ...]


def _create(job: BackupJob, this: _Run, report: Report, meter: ProgressFactory) -> Manifest:
    prefix = prefix_of(job.name, this.id)
    plan = job.source.plan()
    largest = plan.bytes_estimate if plan.largest is None else plan.largest
    estimate = plan.bytes_estimate if plan.sent is None else plan.sent
    report(f"{plan.what}: about {mebibytes(estimate)} MiB, " + ", ".join(f"{k} {v}" for k, v in plan.details.items()))
    if plan.must_be_encrypted:
        _refuse_clear(job, report)
    destinations = [Destination(store=store) for store in job.stores]
    for destination in destinations:  # also checks, before the dump, that it answers
        with _noted(destination):
            _clean_up(destination.store, job.name, this.died, report)
            _warn_of_later(destination.store, job.name, this.begun, report)
    _any_left(destinations)
    try:
        with (
            spool(job.spool, needed=plan.bytes_estimate, what=f"the dump of {job.name}") as folder,
            meter(f"backing up {job.name}", estimate, about=True) as advance,
        ):
            outgoing = UploadPipeline(
                destinations, prefix, recipients=job.recipients, level=job.level, largest=largest, advance=advance
            )
            try:
                dump = job.source.dump(folder / "dump", outgoing)
                report(f"dumped {len(dump.files)} files, {dump.record.rows} rows{_lain(dump.spool_bytes)}")
                objects = outgoing.settle(dump.files)
            finally:
                outgoing.stop()  # before the spool is removed
        report(f"stored {len(objects)} objects, {mebibytes(sum(entry.size for entry in objects))} MiB")
        manifest = Manifest(
            id=this.id,
            name=job.name,
            environment=job.environment,
            project=job.project,
            source=dump.record,
            started_at=this.begun,
            snapshot_at=dump.snapshot_at,
            finished_at=datetime.now(UTC),
            recipients=job.recipients,
            objects=objects,
            depends_on=dump.depends_on,
        )
        page = build_page(manifest).encode()
        manifest = manifest.model_copy(update={"page_sha256": hashlib.sha256(page).hexdigest()}).sealed(job.signer)
        _require_readable(manifest)
        for destination in destinations:
            if destination.error is None:
                with _noted(destination):
                    _refuse_torn(destination.store, manifest)
                    destination.store.put_bytes(prefix + PAGE_NAME, page)
                    put_manifest(destination.store, manifest)
                    report(f"complete: {destination.store.name}/{prefix}")
    except BaseException as error:  # an incomplete backup is worse than none
        if isinstance(error, KeyboardInterrupt):
            report("interrupted: removing the upload")
        for destination in destinations:
            _remove(destination.store, prefix)
        raise
    failures = [destination for destination in destinations if destination.error is not None]
    for destination in failures:
        _remove(destination.store, prefix)
    if failures:
        kept = len(destinations) - len(failures)
        texts = "; ".join(str(destination.error) for destination in failures)
        raise StoreError(f"{texts}; {kept} of {len(destinations)} stores have the backup {this.id}")
    return manifest


def _require_readable(manifest: Manifest) -> None:
    """Raise if the manifest is too large to be read.

    Raises:
        SourceError: it is too large.
    """
    size = len(manifest.stored.content)
    if size > MANIFEST_LIMIT:
        raise SourceError(
            f"{manifest.name}: its manifest has {mebibytes(size)} MiB, at most {mebibytes(MANIFEST_LIMIT)} MiB are "
            "read: too many objects for one backup; name several sources with a prefix each in backup.sources"
        )


def _refuse_torn(store: Store, manifest: Manifest) -> None:
    """Raise if a store lacks a backup that this one builds on: it did not answer when the base was chosen.

    Raises:
        StoreError: an object is missing there.
    """
    if manifest.depends_on and (problems := missing(store, manifest)):
        raise StoreError(f"{store.name}: lacks a backup that this one builds on ({problems[0]}); run it again")


def _lain(spool_bytes: int | None) -> str:
    return "" if spool_bytes is None else f"; the spool held at most {mebibytes(spool_bytes)} MiB"


def _refuse_clear(job: BackupJob, report: Report) -> None:
    if not job.recipients:
        raise KeyProblemError(
            f"{job.name}: secrets are only backed up encrypted: name recipients in backup.recipients "
            "(`ops backup keygen` makes a key)"
        )
    if len(job.recipients) == 1:
        report(f"warning: {job.name} has one recipient only; name a second one whose identity is kept in escrow")


def _clean_up(store: Store, name: str, died: tuple[str, ...], report: Report) -> None:
    """Remove incomplete backups of failed runs: known ones at once, others when no run can still be working on them."""
    store.abort_uploads(f"{name}/", older_than_hours=ORPHAN_HOURS)
    for each in died:
        if time_of(each) is None:
            continue
        prefix = prefix_of(name, each)
        store.abort_uploads(prefix)
        left = [item.key for item in store.list(prefix)]
        if left and prefix + MANIFEST_NAME not in left:
            what = f"{store.name}/{prefix}: a failed run left {len(left)} objects"
            try:
                store.delete(left)
            except DeleteRefusedError as error:  # a write-once store: still back up to it
                report(f"{what}, which cannot be deleted yet: {error}")
            else:
                report(f"{what}; removed")


def _warn_of_later(store: Store, name: str, begun: datetime, report: Report) -> None:
    """Warn of a backup dated after this one: this one is made nevertheless, but will not be the latest."""
    complete = [entry for entry in entries(store, name) if entry.complete]
    if complete and complete[-1].begun_at > begun:
        report(
            f"warning: {store.name} has {complete[-1].id}, which is dated after this run: a clock is wrong, here or "
            "where that was made; until that time, that one and not this one counts as the latest"
        )


@contextlib.contextmanager
def _noted(destination: Destination) -> Generator[None]:
    try:
        yield
    except StoreError as error:
        destination.error = error


def _any_left(destinations: list[Destination]) -> None:
    failed = [destination.error for destination in destinations if destination.error is not None]
    if len(failed) == len(destinations):
        raise StoreError("; ".join(str(error) for error in failed))


def _remove(store: Store, prefix: str) -> None:
    with contextlib.suppress(StoreError):  # the first error is the one to report
        store.abort_uploads(prefix)
        keys = [item.key for item in store.list(prefix)]
        store.delete(sorted(keys, key=lambda key: not key.endswith(MANIFEST_NAME)))
