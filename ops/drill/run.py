"""A drill: take a backup, restore it into a scratch PostgreSQL, and hold it against what was recorded.

It goes on after a failure as far as it can, so that the report names all that is wrong and not only the first.
"""

from __future__ import annotations

import contextlib
import platform
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from ops.backup.catalog import LATEST, entries, find, missing_objects, prefix_of, read_manifest
from ops.backup.manifest import Manifest, ObjectRecord
from ops.backup.pipeline import WORKERS, fetch_one
from ops.backup.spool import spool
from ops.drill import checks
from ops.drill.damage import Damage, copy_backup, damage
from ops.drill.evidence import Check, Evidence, Phase, Status, TableComparison
from ops.drill.scratch import PROFILE, scratch_server
from ops.errors import BackupNotFoundError, IntegrityError, ManifestError, ObjectMissingError, OpsError
from ops.restore import create_database, restore_grants
from ops.sources.pg_tools import Endpoint, find_tool
from ops.sources.postgres import PostgresDatabase, differences
from ops.stores.base import Store
from ops.stores.folder import FolderStore

Report = Callable[[str], None]
SCRATCH_DATABASE = "drill"


@dataclass(frozen=True, kw_only=True)
class DrillJob:
    """What to drill and the budgets it is held to."""

    environment: str
    project: str
    database: str
    store: Store
    backup: str = LATEST
    max_age_hours: int
    rto_minutes: int
    may_be_empty: bool = False
    damage: Damage | None = None
    spool: Path | None = None


@dataclass(kw_only=True)
class _Findings:
    """What a drill has found so far."""

    began: float = field(default_factory=time.monotonic)
    checks: list[Check] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    tables: list[TableComparison] = field(default_factory=list)
    manifest: Manifest | None = None
    rto: float | None = None
    tools: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str) -> Generator[None]:
        begin = time.monotonic()
        try:
            yield
        finally:
            seconds = round(time.monotonic() - begin, 3)
            self.phases.append(Phase(name=name, begin=round(begin - self.began, 3), seconds=seconds))

    def add(self, check: Check) -> bool:
        self.checks.append(check)
        return check.status is Status.PASSED


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
            original = find(job.store, job.database, job.backup)
            copy = FolderStore(Path(folder))
            copy_backup(job.store, original, copy)
            damage(copy, original, job.damage, max_age_hours=job.max_age_hours)
            report(f"negative control: a copy of {original.id} is damaged ({job.damage})")
            findings = _drill(job, copy, started, report)
    return _evidence(job, findings, started)


def _drill(job: DrillJob, store: Store, started: datetime, report: Report) -> _Findings:
    found = _Findings()
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
    with spool(job.spool, needed=needed, what=f"the drill of {job.database}") as folder:
        report(f"fetching {len(manifest.objects)} objects of {manifest.id}")
        with found.phase("fetch and verify"):
            whole = found.add(checks.check_digests(manifest, _fetch(store, manifest, folder)))
        found.add(checks.check_rows(manifest.source, may_be_empty=job.may_be_empty))
        if not whole:
            return found
        with contextlib.ExitStack() as stack:
            with found.phase("start scratch server"):
                server = stack.enter_context(
                    scratch_server(manifest.source.server_version, roles=manifest.source.roles, parent=job.spool)
                )
            report("restoring into a scratch PostgreSQL")
            if _restore(found, server, folder, manifest):
                found.rto = round(time.monotonic() - begun, 3)
                found.add(checks.check_time(found.rto, job.rto_minutes))
    gone = not Path(server.host).exists()
    found.add(
        checks.passed("clean", "stopped and removed") if gone else checks.failed("clean", f"{server.host} is left")
    )
    return found


def _restore(found: _Findings, server: Endpoint, folder: Path, manifest: Manifest) -> bool:
    target = PostgresDatabase(endpoint=server.on(SCRATCH_DATABASE))
    try:
        with found.phase("restore"):
            create_database(server, SCRATCH_DATABASE, manifest.source, any_locale=True)
            target.restore(folder, manifest.source)
            restore_grants(target.endpoint, manifest.source)
    except OpsError as error:
        found.add(checks.failed("restore", "it does not", [str(error)]))
        return False
    tool = find_tool("pg_restore", at_least=manifest.source.readable_from)
    found.add(checks.passed("restore", f"pg_restore {tool.version}, no error"))
    with found.phase("compare"):
        copy = target.fingerprint()
        found.tables = checks.compare_tables(copy, manifest.source)
        found.add(checks.check_content(manifest, differences(copy, manifest.source)))
        known = set(manifest.source.unsound)  # what was NOT VALID in the source already is so in the copy
        found.add(checks.check_integrity([problem for problem in copy.unsound if problem not in known]))
    found.tools = {
        "scratch server": copy.server_version,
        "source server": manifest.source.server_version,
        "pg_dump": manifest.source.dump_tool,
        "pg_restore": tool.version,
        "psycopg": psycopg.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }
    return True


def _manifest(store: Store, job: DrillJob) -> Manifest:
    if job.backup != LATEST:
        if not any(entry.id == job.backup for entry in entries(store, job.database)):
            raise BackupNotFoundError(f"{store.name}: backup {job.backup} of {job.database} is not there")
        return read_manifest(store, job.database, job.backup)
    return find(store, job.database)


def _fetch(store: Store, manifest: Manifest, folder: Path) -> list[str]:
    """Fetch every object; return what is wrong with each that is not right."""
    prefix = prefix_of(manifest.source.database, manifest.id)

    def one(entry: ObjectRecord) -> str | None:
        try:
            fetch_one(store, prefix, entry, folder)
        except (IntegrityError, ObjectMissingError) as error:
            return str(error)
        return None

    with ThreadPoolExecutor(WORKERS) as pool:
        return [problem for problem in pool.map(one, manifest.objects) if problem is not None]


def _evidence(job: DrillJob, found: _Findings, started: datetime) -> Evidence:
    manifest = found.manifest
    asked = checks.with_skipped(found.checks)
    return Evidence(
        verdict="green" if all(check.status is Status.PASSED for check in asked) else "red",
        damage=job.damage,
        environment=job.environment,
        project=job.project,
        database=job.database,
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
        profile=PROFILE,
        objects=len(manifest.objects) if manifest else 0,
        stored_bytes=manifest.stored_bytes if manifest else 0,
        rows=manifest.source.rows if manifest else 0,
        checks=asked,
        phases=found.phases,
        tables=found.tables,
        not_compared=list(manifest.source.not_compared) if manifest else [],
        tools=found.tools,
    )
