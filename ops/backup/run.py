"""Making a restore point: dump → compress → upload → manifest last. What fails leaves nothing in the store."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ops.backup.catalog import prefix_of
from ops.backup.manifest import MANIFEST_NAME, Manifest, PostgresRecord
from ops.backup.pipeline import ship
from ops.backup.spool import mebibytes, spool
from ops.errors import OpsError, StoreError
from ops.sources.base import Dump, Source
from ops.stores.base import Store

ORPHAN_HOURS = 24
"""Uploads under our prefix that are older were left by a killed backup; nothing runs that long."""

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class BackupJob:
    """What to back up and where to. `stores` get one copy each of the same dump."""

    environment: str
    project: str
    database: str
    source: Source[PostgresRecord]
    stores: tuple[Store, ...]
    spool: Path | None = None


@dataclass(frozen=True, kw_only=True)
class _Begun:
    id: str
    at: datetime


def create(job: BackupJob, report: Report) -> Manifest:
    """Make one restore point and return its manifest, which is the same in every store.

    Raises:
        SourceError: the database cannot be dumped.
        SpoolError: no room on this machine.
        StoreError: a store refused; what was uploaded to it is removed again, the other stores keep their copy.
    """
    now = datetime.now(UTC)
    begun = _Begun(id=f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}", at=now)
    plan = job.source.plan()
    report(
        f"{plan.what}: {mebibytes(plan.bytes_estimate)} MiB, " + ", ".join(f"{k} {v}" for k, v in plan.details.items())
    )
    for store in job.stores:
        store.abort_uploads(f"{job.database}/", older_than_hours=ORPHAN_HOURS)  # also: does it answer, before the dump
    with spool(job.spool, needed=plan.bytes_estimate, what=f"the dump of {job.database}") as folder:
        dump = job.source.dump(folder / "dump")
        report(f"dumped {len(dump.files)} files, {dump.record.rows} rows in {len(dump.record.tables)} tables")
        manifest: Manifest | None = None
        failures: list[OpsError] = []
        for store in job.stores:
            try:
                manifest = _store(job, store, dump, begun, report)
            except StoreError as error:
                failures.append(error)
    if manifest is None or failures:
        raise _all(failures, len(job.stores))
    return manifest


def _store(job: BackupJob, store: Store, dump: Dump[PostgresRecord], begun: _Begun, report: Report) -> Manifest:
    prefix = prefix_of(job.database, begun.id)
    try:
        objects = ship(store, prefix, dump.files, lambda o: report(f"stored {o.key} ({o.holds}), {o.size} bytes"))
        manifest = Manifest(
            id=begun.id,
            environment=job.environment,
            project=job.project,
            source=dump.record,
            started_at=begun.at,
            snapshot_at=dump.snapshot_at,
            finished_at=datetime.now(UTC),
            objects=tuple(objects),
        ).sealed()
        store.put_bytes(prefix + MANIFEST_NAME, manifest.to_bytes())
    except BaseException:  # an interrupt too: half a backup is worse than none
        with contextlib.suppress(StoreError):  # the first error is the one to tell
            store.abort_uploads(prefix)
            store.delete([item.key for item in store.list(prefix)])
        raise
    report(f"complete: {store.name}/{prefix}")
    return manifest


def _all(failures: Iterable[OpsError], stores: int) -> StoreError:
    texts = [str(failure) for failure in failures]
    kept = stores - len(texts)
    return StoreError("; ".join(texts) + (f"; {kept} of {stores} stores have the backup" if kept else ""))
