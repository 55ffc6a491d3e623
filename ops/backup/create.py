"""Making a restore point: dump → compress → encrypt → store, all at once; manifest last. What fails leaves nothing."""

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
from ops.core.progress import Meter, unseen
from ops.core.signing import Signer
from ops.core.workdir import mebibytes, spool
from ops.repository.catalog import MANIFEST_LIMIT, entries, prefix_of, put_manifest
from ops.repository.incremental import missing
from ops.repository.manifest import MANIFEST_NAME, PAGE_NAME, Manifest, time_of
from ops.repository.records import AnyRecord
from ops.repository.stores.base import Store
from ops.repository.upload import Destination, Outgoing
from ops.sources.base import Source

ORPHAN_HOURS = 24
"""Uploads under our prefix that are older were left by a killed backup; nothing runs that long."""

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class BackupJob:
    """What to back up and where to. `stores` get one copy each of the same dump; `level` is zstd's."""

    environment: str
    project: str
    name: str
    source: Source[AnyRecord]
    stores: tuple[Store, ...]
    recipients: tuple[str, ...] = ()
    signer: Signer | None = None
    level: int = 3
    spool: Path | None = None


def create(job: BackupJob, report: Report, meter: Meter = unseen) -> Manifest:
    """Make one restore point and return its manifest, which is the same in every store.

    Args:
        job: what and where to.
        report: told of each step.
        meter: shown how much of the dump has gone out.

    Raises:
        KeyProblemError: secrets would go out in the clear.
        BusyError: another run is at it, here or on another machine.
        SourceError: the source cannot be dumped.
        SpoolError: no room on this machine.
        StoreError: a store refused; what was sent there is removed again, the other stores keep their copy.
    """
    begun = datetime.now(UTC)
    backup_id = f"{begun:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    with only_run(f"backup-{job.project}-{job.environment}-{job.name}", backup_id) as died:
        return _create(job, _Run(id=backup_id, begun=begun, died=died), report, meter)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """This run, and the ids of the backups that runs may have left since one ended well."""

    id: str
    begun: datetime
    died: tuple[str, ...]


def _create(job: BackupJob, this: _Run, report: Report, meter: Meter) -> Manifest:
    prefix = prefix_of(job.name, this.id)
    plan = job.source.plan()
    largest = plan.bytes_estimate if plan.largest is None else plan.largest
    estimate = plan.bytes_estimate if plan.sent is None else plan.sent
    report(f"{plan.what}: about {mebibytes(estimate)} MiB, " + ", ".join(f"{k} {v}" for k, v in plan.details.items()))
    if plan.must_be_encrypted:
        _refuse_clear(job, report)
    destinations = [Destination(store=store) for store in job.stores]
    for destination in destinations:  # also: does it answer, before the dump
        with _noted(destination):
            _clean_up(destination.store, job.name, this.died, report)
            _warn_of_later(destination.store, job.name, this.begun, report)
    _any_left(destinations)
    try:
        with (
            spool(job.spool, needed=plan.bytes_estimate, what=f"the dump of {job.name}") as folder,
            meter(f"backing up {job.name}", estimate, about=True) as advance,
        ):
            outgoing = Outgoing(
                destinations, prefix, recipients=job.recipients, level=job.level, largest=largest, advance=advance
            )
            try:
                dump = job.source.dump(folder / "dump", outgoing)
                report(f"dumped {len(dump.files)} files, {dump.record.rows} rows{_lain(dump.spool_bytes)}")
                objects = outgoing.settle(dump.files)
            finally:
                outgoing.stop()  # before the spool goes
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
    except BaseException as error:  # half a backup is worse than none
        if isinstance(error, KeyboardInterrupt):
            report("interrupted: removing what was sent")
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
    """Raise if the manifest is too large to be read again.

    Raises:
        SourceError: it is.
    """
    size = len(manifest.stored.content)
    if size > MANIFEST_LIMIT:
        raise SourceError(
            f"{manifest.name}: its manifest would have {mebibytes(size)} MiB, {mebibytes(MANIFEST_LIMIT)} MiB are "
            "read: too many objects for one backup; name several sources with a prefix each in backup.sources"
        )


def _refuse_torn(store: Store, manifest: Manifest) -> None:
    """Refuse to call a backup complete in a store that lacks what it is built on: it was silent when that was chosen.

    Raises:
        StoreError: it lacks something.
    """
    if manifest.depends_on and (problems := missing(store, manifest)):
        raise StoreError(f"{store.name}: lacks what this backup is built on ({problems[0]}); run it again")


def _lain(spool_bytes: int | None) -> str:
    return "" if spool_bytes is None else f"; at most {mebibytes(spool_bytes)} MiB lay in the spool"


def _refuse_clear(job: BackupJob, report: Report) -> None:
    if not job.recipients:
        raise KeyProblemError(
            f"{job.name}: secrets go out encrypted or not at all: name who may read them in backup.recipients "
            "(`ops backup keygen` makes a key)"
        )
    if len(job.recipients) == 1:
        report(f"warning: {job.name} has one recipient only; name a second one whose identity lies in escrow")


def _clean_up(store: Store, name: str, died: tuple[str, ...], report: Report) -> None:
    """Remove what failed runs left: of those that are known at once, of others when nothing can run that long."""
    store.abort_uploads(f"{name}/", older_than_hours=ORPHAN_HOURS)
    for each in died:
        if time_of(each) is None:
            continue
        prefix = prefix_of(name, each)
        store.abort_uploads(prefix)
        left = [item.key for item in store.list(prefix)]
        if left and prefix + MANIFEST_NAME not in left:
            what = f"{store.name}/{prefix}: a run that failed left {len(left)} objects"
            try:
                store.delete(left)
            except DeleteRefusedError as error:  # a write-once store: no reason to go without a backup there
                report(f"{what}, which stay until they may go: {error}")
            else:
                report(f"{what}; removed")


def _warn_of_later(store: Store, name: str, begun: datetime, report: Report) -> None:
    """Tell of a backup that is dated after this one: it is made all the same, but will not be the latest."""
    complete = [entry for entry in entries(store, name) if entry.complete]
    if complete and complete[-1].begun_at > begun:
        report(
            f"warning: {store.name} has {complete[-1].id}, which is dated after this run: a clock is wrong, here or "
            "where that was made; until its time has come that one, and not this, is taken for the latest"
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
    with contextlib.suppress(StoreError):  # the first error is the one to tell
        store.abort_uploads(prefix)
        keys = [item.key for item in store.list(prefix)]
        store.delete(sorted(keys, key=lambda key: not key.endswith(MANIFEST_NAME)))
