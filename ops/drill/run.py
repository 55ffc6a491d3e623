"""A drill: take a backup, restore it into a scratch PostgreSQL, and hold it against what was recorded.

It goes on after a failure as far as it can, so that the report names all that is wrong and not only the first.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ops.backup.catalog import LATEST, entries, find, missing_objects, prefix_of, read_manifest
from ops.backup.fetch import Fetcher, Identities
from ops.backup.manifest import Manifest, ObjectRecord
from ops.backup.pipeline import WORKERS
from ops.backup.spool import spool
from ops.drill import checks, postgresql
from ops.drill.damage import Damage, copy_backup, damage
from ops.drill.evidence import Evidence, Status
from ops.drill.findings import Findings, Rehearsal, Report
from ops.errors import BackupNotFoundError, IntegrityError, KeyProblemError, ManifestError, ObjectMissingError
from ops.stores.base import Store
from ops.stores.folder import FolderStore

REHEARSALS: dict[str, Rehearsal] = {"postgresql": postgresql.rehearse}
"""How each kind of backup is restored and held against what was recorded."""


@dataclass(frozen=True, kw_only=True)
class DrillJob:
    """What to drill and the budgets it is held to."""

    environment: str
    project: str
    name: str
    store: Store
    backup: str = LATEST
    max_age_hours: int
    rto_minutes: int
    identities: Identities = ()
    may_be_empty: bool = False
    damage: Damage | None = None
    spool: Path | None = None


def run(job: DrillJob, report: Report) -> Evidence:
    """Drill, and return the evidence; a red verdict is a result, not an exception.

    Raises:
        StoreUnreachableError: the store does not answer; nothing can be said about the backup.
        ToolError, SpoolError: this machine cannot hold a drill.
    """
    started = datetime.now(UTC)
    if job.damage is None:
        findings = _drill(job, job.store, started, report)
    else:
        with tempfile.TemporaryDirectory(prefix="ancla-control-", dir=job.spool) as folder:
            original = find(job.store, job.name, job.backup)
            copy = FolderStore(Path(folder))
            copy_backup(job.store, original, copy)
            damage(copy, original, job.damage, max_age_hours=job.max_age_hours)
            report(f"negative control: a copy of {original.id} is damaged ({job.damage})")
            findings = _drill(job, copy, started, report)
    return _evidence(job, findings, started)


def _drill(job: DrillJob, store: Store, started: datetime, report: Report) -> Findings:
    found = Findings()
    with found.phase("manifest"):
        try:
            manifest = _manifest(store, job)
        except (BackupNotFoundError, ManifestError) as error:
            found.add(checks.failed("backup", "no backup that can be trusted", [str(error)]))
            return found
        found.manifest = manifest
        found.add(checks.passed("backup", f"{manifest.id}, manifest {manifest.digest[:16]}…"))
        found.add(checks.check_age(manifest, started, job.max_age_hours))
        found.add(checks.check_objects(manifest, missing_objects(store, manifest)))
    begun = time.monotonic()
    needed = sum(entry.file_size for entry in manifest.objects)
    with spool(job.spool, needed=needed, what=f"the drill of {job.name}") as folder:
        report(f"fetching {len(manifest.objects)} objects of {manifest.id}")
        with found.phase("fetch and verify"):
            whole = found.add(checks.check_digests(manifest, _fetch(store, manifest, folder, job.identities)))
        found.add(checks.check_rows(manifest.source, may_be_empty=job.may_be_empty))
        if not whole:
            return found
        with contextlib.ExitStack() as stack:
            rehearse = REHEARSALS[manifest.source.kind]
            if rehearse(found, folder, manifest, stack, report):
                found.rto = round(time.monotonic() - begun, 3)
                found.add(checks.check_time(found.rto, job.rto_minutes))
        left = [str(path) for path in found.scratch if path.exists()]
    found.add(checks.failed("clean", "something is left", left) if left else checks.passed("clean", "removed"))
    return found


def _manifest(store: Store, job: DrillJob) -> Manifest:
    if job.backup != LATEST:
        if not any(entry.id == job.backup for entry in entries(store, job.name)):
            raise BackupNotFoundError(f"{store.name}: backup {job.backup} of {job.name} is not there")
        return read_manifest(store, job.name, job.backup)
    return find(store, job.name)


def _fetch(store: Store, manifest: Manifest, folder: Path, identities: Identities) -> list[str]:
    """Fetch every object; return what is wrong with each that is not right."""
    fetcher = Fetcher(store=store, prefix=prefix_of(manifest.name, manifest.id), identities=identities)

    def one(entry: ObjectRecord) -> str | None:
        try:
            fetcher.one(entry, folder)
        except (IntegrityError, ObjectMissingError, KeyProblemError) as error:
            return str(error)
        return None

    with ThreadPoolExecutor(WORKERS) as pool:
        return [problem for problem in pool.map(one, manifest.objects) if problem is not None]


def _evidence(job: DrillJob, found: Findings, started: datetime) -> Evidence:
    manifest = found.manifest
    asked = checks.with_skipped(found.checks)
    return Evidence(
        verdict="green" if all(check.status is Status.PASSED for check in asked) else "red",
        damage=job.damage,
        environment=job.environment,
        project=job.project,
        database=job.name,
        backup=manifest.id if manifest else None,
        store=job.store.name,
        manifest_digest=manifest.digest if manifest else None,
        snapshot_at=manifest.snapshot_at if manifest else None,
        started_at=started,
        finished_at=datetime.now(UTC),
        rto_seconds=found.rto,
        rto_budget_seconds=job.rto_minutes * 60,
        rpo_seconds=round((started - manifest.snapshot_at).total_seconds(), 3) if manifest else None,
        rpo_budget_seconds=job.max_age_hours * 3600,
        profile=found.profile,
        objects=len(manifest.objects) if manifest else 0,
        stored_bytes=manifest.stored_bytes if manifest else 0,
        rows=manifest.source.rows if manifest else 0,
        checks=asked,
        phases=found.phases,
        tables=found.tables,
        not_compared=found.not_compared,
        tools=found.tools,
    )
