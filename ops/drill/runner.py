"""A drill: restore a backup into a scratch target, by the code and in the order of `ops restore`, and compare it.

It is given the store and an identity and no way to anything live. What a restore would refuse is a failed check; what
it would skip the drill skips too, and names: then the verdict is "in part". It goes on after a failure as far as it
can, so that the report names all that is wrong and not only the first. A negative control stops at its own check.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from pyrage import x25519  # pyright: ignore[reportMissingModuleSource]  # compiled in

from ops.core.errors import (
    BackupNotFoundError,
    IntegrityError,
    KeyProblemError,
    ManifestError,
    ObjectMissingError,
    OpsError,
    RestoreRefusedError,
    SpoolError,
    ToolError,
)
from ops.core.messages import say
from ops.core.progress import ProgressFactory, no_progress
from ops.core.workdir import mebibytes, spool
from ops.core.workers import run_all
from ops.drill import checks
from ops.drill.context import Findings, Report
from ops.drill.evidence.document import Choice, Evidence, SkippedObject, Status
from ops.drill.negative_controls import CAUGHT_BY, EXPLAINED, Damage, copy_backup, damage, link_backup, possible
from ops.drill.timed_store import TimedStore
from ops.drill.workdir import Kept, drill_folder, is_kept, keep, sweep
from ops.repository.catalog import LATEST, CatalogEntry, entries, find, read_manifest, why_not_latest
from ops.repository.download import Fetcher, Identities
from ops.repository.incremental import Piece, missing, own_pieces, pieces
from ops.repository.manifest import Manifest
from ops.repository.stores.base import Store
from ops.repository.stores.folder import FolderStore
from ops.repository.upload import WORKERS
from ops.restore.download import fetched
from ops.targets.kinds import Scratch, kind_of


@dataclass(frozen=True, kw_only=True)
class DrillJob:
    """The backup to drill, and the budgets.

    `signer` is the key that manifests must be signed with (None: none is recorded); `known` are the digests of the
    manifests that earlier drills have seen, by the backup's id; `rpo_minutes` is `max_age_hours`
    when None; `keep_hours` is how long the scratch of a red drill stays.
    """

    environment: str
    project: str
    name: str
    store: Store
    backup: str = LATEST
    choice: Choice = field(default_factory=lambda: Choice(way="named"))
    max_age_hours: float
    rto_minutes: float
    rpo_minutes: int | None = None
    signer: str | None = None
    known: Mapping[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])
    assertions: tuple[str, ...] = ()
    identities: Identities = ()
    may_be_empty: bool = False
    damage: Damage | None = None
    spool: Path | None = None
    keep_hours: float = 0

    @property
    def loss_budget(self) -> int:
        """The recovery point objective in seconds."""
        return round(self.max_age_hours * 3600) if self.rpo_minutes is None else self.rpo_minutes * 60


@dataclass(frozen=True, kw_only=True)
class DrillPlan:
    """What a drill would fetch and how much disk space it would use, with its budgets. Sizes are bytes."""

    name: str
    kind: str
    backup: str
    chosen: str
    store: str
    objects: int
    fetched_bytes: int
    scratch_bytes: int
    rto_budget_seconds: int
    rpo_budget_seconds: int


def plan(job: DrillJob) -> DrillPlan:
    """Plan a drill from the manifest alone; nothing is fetched, started or written.

    Raises:
        StoreUnreachableError: the store does not answer.
        BackupNotFoundError, ManifestError: there is no such backup, or its manifest cannot be trusted.
        KeyProblemError: no identity was given, and it is encrypted.
    """
    manifest = find(job.store, job.name, job.backup)
    _need_identity(job, manifest)
    wanted = _wanted(job, manifest)
    dumped = sum(piece.entry.file_size for piece in wanted)
    return DrillPlan(
        name=job.name,
        kind=manifest.source.kind,
        backup=manifest.id,
        chosen=job.choice.way,
        store=job.store.name,
        objects=len(wanted),
        fetched_bytes=_stored(wanted),
        scratch_bytes=dumped + kind_of(manifest).scratch_bytes(manifest.source, dumped),
        rto_budget_seconds=round(job.rto_minutes * 60),
        rpo_budget_seconds=job.loss_budget,
    )


def run(
    job: DrillJob, report: Report, *, original: FolderStore | None = None, meter: ProgressFactory = no_progress
) -> Evidence:
    """Drill, and return the evidence; a red verdict is a result, not an exception.

    Args:
        job: the backup and budgets.
        report: called with a line for each step.
        original: an untouched copy of the backup, for a negative control to begin with; fetched when None.
        meter: shown how much was fetched, and loaded.

    Raises:
        StoreUnreachableError: the store does not answer; nothing can be said about the backup.
        KeyProblemError: no identity was given, and it is encrypted.
        ToolError, SpoolError: this host cannot run a drill.
    """
    for gone in sweep(job.spool):
        report(f"removed {gone}: what a killed drill had left, or a red one past its time")
    started = datetime.now(UTC)
    findings = Findings(assertions=job.assertions, meter=meter)
    with drill_folder(job.spool) as folder:
        trial = job
        if job.damage is not None:
            report(f"negative control: {EXPLAINED[job.damage]}")
            findings.stop_after = CAUGHT_BY[job.damage]
            trial = _damaged(job, job.damage, folder, original)
        _drill(trial, findings, folder, started, report)
    return _evidence(job, findings, started)


def controls(job: DrillJob, report: Report, *, meter: ProgressFactory = no_progress) -> list[Evidence]:
    """Run every negative control that the backup allows; the backup is copied for all of them once.

    Raises:
        StoreUnreachableError, ToolError, SpoolError: see `run`.
    """
    manifest = find(job.store, job.name, job.backup)
    with drill_folder(job.spool) as folder:
        original = FolderStore(_private(folder / "original"))
        copy_backup(job.store, manifest, original)
        local = replace(job, backup=manifest.id)
        kinds = possible(manifest, signer=job.signer)
        return [run(replace(local, damage=kind), report, original=original, meter=meter) for kind in kinds]


def _damaged(job: DrillJob, kind: Damage, folder: Path, original: FolderStore | None) -> DrillJob:
    """Return the job on a copy that is made wrong; nothing of it is kept."""
    copy = FolderStore(_private(folder / "copy"))
    manifest = find(original or job.store, job.name, job.backup)
    if kind not in possible(manifest, signer=job.signer):
        raise RestoreRefusedError(f"{manifest.id}: there is nothing to damage in this way: {EXPLAINED[kind]}")
    if original is None:
        copy_backup(job.store, manifest, copy)
    else:
        link_backup(original, copy)
    damage(copy, manifest, kind, max_age_hours=job.max_age_hours)
    identities = [x25519.Identity.generate()] if kind is Damage.KEY else job.identities
    return replace(job, store=copy, identities=identities, keep_hours=0)


def _private(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def _drill(job: DrillJob, found: Findings, folder: Path, started: datetime, report: Report) -> None:
    with found.phase("manifest"):
        manifest = _look(job, found, started, report)
    if manifest is None or found.enough:
        return
    if job.damage is None and "origin" in {check.name for check in found.red}:
        return  # what somebody else may have made is not even fetched; a control is of a copy, and loses its signature
    _need_identity(job, manifest)
    begun = time.monotonic()
    wanted, kind = _wanted(job, manifest), kind_of(manifest)
    dumped = sum(piece.entry.file_size for piece in wanted)
    needed = dumped + kind.scratch_bytes(manifest.source, dumped)
    with spool(folder, needed=needed, what=f"the drill of {job.name}") as files, contextlib.ExitStack() as stack:
        report(f"fetching {len(wanted)} objects for {manifest.id}, {mebibytes(_stored(wanted))} MiB")
        fetched_all = _fetch(job, found, wanted, files, report) and not found.enough
        if fetched_all and _rehearse(found, files, manifest, stack, report):
            found.rto = round(time.monotonic() - begun, 3)
            found.add(checks.check_time(found.rto, job.rto_minutes))
        loss, basis = _loss(found, started)
        found.add(checks.check_loss(loss, basis, job.loss_budget))
        _keep(job, found, folder, report)
    if found.enough:
        return
    left = [str(path) for path in found.scratch if path.exists()]
    if left and job.keep_hours and found.red:
        found.add(checks.passed("clean", say("kept for {hours:g} h, because the drill is red", hours=job.keep_hours)))
    else:
        found.add(checks.failed("clean", say("not removed"), left) if left else checks.passed("clean", say("removed")))


def _need_identity(job: DrillJob, manifest: Manifest) -> None:
    if manifest.recipients and not job.identities:
        raise KeyProblemError(f"{manifest.id}: is encrypted: give the identity that reads it with --identity FILE")


def _rehearse(found: Findings, files: Path, manifest: Manifest, stack: contextlib.ExitStack, report: Report) -> bool:
    """Restore into the kind's scratch target and compare, as a restore does; return True if it could be used."""
    record, kind = manifest.source, kind_of(manifest)
    where = Scratch(files=files, parent=files.parent, kept=lambda: is_kept(files.parent))
    with found.phase("start scratch target"):
        target = stack.enter_context(kind.scratch(record, where))
    facts = target.facts()
    found.profile, found.look = facts.profile, facts.look
    found.scratch += facts.folders
    found.not_compared = list(named(record))
    if (identity := target.identity()) is not None:
        found.asks.add("identity")
        if not found.add(checks.check_identity(*identity)):
            return False
    report(f"restoring into a scratch target: {facts.profile}")
    begin = time.monotonic()
    try:
        planned = target.plan_restore(record)
        found.not_compared = list(dict.fromkeys([*found.not_compared, *planned.left_out]))
        total = sum(entry.file_size for entry in manifest.objects)
        streamed = sum(entry.file_size for entry in manifest.objects if target.streams(entry.file))
        with found.meter(f"loading {manifest.name}", total) as advance:
            found.skipped = target.restore(fetched(files, target, advance), record, found.meter)
            advance(total - streamed)  # nobody counts what goes by files
    except (OpsError, psycopg.Error) as error:
        if isinstance(error, SpoolError | ToolError):
            raise
        found.note_phase("load", begin, time.monotonic())
        found.add(checks.failed("restore", say("restore failed"), [" ".join(str(error).split())]))
        return False
    end = time.monotonic()
    indexing = getattr(target, "stages", {}).get("index", 0.0)
    found.note_phase("load", begin, end - indexing)
    if indexing:
        found.note_phase("index", end - indexing, end)
    found.not_compared += target.facts().not_compared
    report(f"restored in {end - begin:.1f} s; comparing with the snapshot")
    with found.phase("check"):
        differences = target.compare(record, found.skipped)
        examined = target.examine(record, found.skipped)
        found.add(checks.check_restore(examined.restored, found.skipped))
        found.tables = checks.compare_tables(*examined.tables)
        found.add(checks.check_content(examined.compared, differences))
        if examined.invalid is not None:
            found.asks.add("integrity")
            found.add(checks.check_integrity(examined.invalid))
        found.newest_row = target.newest_row()
        if found.assertions and (problems := target.ask(found.assertions)) is not None:
            found.asks.add("assertions")
            found.add(checks.check_assertions(len(found.assertions), problems))
    found.tools |= examined.tools
    return True


def named(record: Any) -> list[str]:
    """Return what a record names that is not kept, not compared, or not restored."""
    return [line for field in ("not_kept", "not_compared", "not_restored") for line in getattr(record, field, ())]


def _look(job: DrillJob, found: Findings, started: datetime, report: Report) -> Manifest | None:
    """Ask what can be known without fetching; return the manifest where one can be trusted."""
    if job.signer is not None:
        found.asks.add("origin")
    try:
        manifest, newest = _manifests(job, started, report)
    except (BackupNotFoundError, ManifestError) as error:
        found.add(checks.failed("backup", say("no trusted backup"), [str(error)]))
        return None
    found.manifest, found.newest_snapshot = manifest, newest.snapshot_at
    found.add(checks.check_known(manifest, job.known.get(manifest.id, ())))
    if job.signer is not None:
        found.add(checks.check_origin(manifest, job.signer))
    if manifest.recipients:
        found.asks.add("key")
    found.add(checks.check_age(newest, started, job.max_age_hours))
    found.add(checks.check_objects(manifest, missing(job.store, manifest)))
    return manifest


def _manifests(job: DrillJob, started: datetime, report: Report) -> tuple[Manifest, Manifest]:
    """Return the manifest to drill, and that of the newest complete backup that can be trusted, whose age counts."""
    known = entries(job.store, job.name)
    complete = [entry.id for entry in known if entry.complete]
    if job.backup == LATEST and not complete:
        raise BackupNotFoundError(f"{job.store.name}: no complete backup of {job.name}; run `ops backup create`")
    wanted = complete[-1] if job.backup == LATEST else _known(job, known)
    manifest = read_manifest(job.store, job.name, wanted)
    later = complete[complete.index(wanted) + 1 :] if wanted in complete else complete
    for each in reversed(later):
        try:
            newest = read_manifest(job.store, job.name, each)
            why = why_not_latest(newest, job.signer, started)
        except ManifestError as error:
            newest, why = manifest, str(error)
        if not why:
            return manifest, newest
        report(f"its age does not count: {why}")
    return manifest, manifest


def _known(job: DrillJob, known: list[CatalogEntry]) -> str:
    if not any(entry.id == job.backup for entry in known):
        raise BackupNotFoundError(f"{job.store.name}: backup {job.backup} of {job.name} is not there")
    return job.backup


def _wanted(job: DrillJob, manifest: Manifest) -> list[Piece]:
    """Return what must be fetched: of the backup, and of those it depends on where they are there."""
    try:
        return pieces(job.store, manifest)
    except ManifestError:  # the check of the objects has named it
        return own_pieces(manifest)


def _stored(wanted: list[Piece]) -> int:
    return sum(piece.entry.size for piece in wanted)


def _fetch(job: DrillJob, found: Findings, wanted: list[Piece], folder: Path, report: Report) -> bool:
    """Fetch, decrypt and decompress every object; return True if all of them are intact."""
    manifest = found.manifest
    assert manifest is not None  # noqa: S101  # it was looked at before
    store = TimedStore(job.store)
    wrong: list[str] = []
    undecryptable: list[str] = []

    def one(piece: Piece) -> float:
        begun = time.monotonic()
        fetcher = Fetcher(store=store, prefix=piece.prefix, identities=job.identities, advance=advance)
        try:
            fetcher.one(piece.entry, piece.folder(folder))
        except KeyProblemError as error:
            undecryptable.append(str(error))
        except (IntegrityError, ObjectMissingError) as error:
            wrong.append(str(error))
        return time.monotonic() - begun

    begin = time.monotonic()
    with found.meter(f"fetching {job.name}", _stored(wanted)) as advance:
        largest_first = sorted(wanted, key=lambda piece: -piece.entry.size)
        busy = sum(run_all(one, largest_first, workers=WORKERS, name="fetch"))
    end = time.monotonic()
    # the threads fetch and decrypt at once: the stretch is divided as their own time was
    turn = begin + (end - begin) * min(store.seconds / busy, 1.0) if busy else end
    found.note_phase("fetch", begin, turn)
    found.note_phase("decrypt, decompress", turn, end)
    report(f"fetched {_stored(wanted)} bytes in {end - begin:.1f} s")
    if manifest.recipients:
        found.add(checks.check_key(manifest, sorted(undecryptable)))
    found.add(checks.check_digests(manifest, sorted(wrong if manifest.recipients else wrong + undecryptable)))
    found.add(checks.check_rows(manifest.source, may_be_empty=job.may_be_empty))
    return not wrong and not undecryptable


def _loss(found: Findings, started: datetime) -> tuple[float, str]:
    """Return what would be lost, in seconds, and how that is known."""
    newest, manifest = found.newest_snapshot, found.manifest
    assert newest is not None and manifest is not None  # noqa: S101, PT018  # both are set before anything is fetched
    if found.newest_row is not None and manifest.snapshot_at == newest:  # an older copy holds an older row
        return (started - found.newest_row).total_seconds(), "measured"
    return (started - newest).total_seconds(), "computed"


def _keep(job: DrillJob, found: Findings, folder: Path, report: Report) -> None:
    """Let the scratch of a red drill stay for a while, for a person to look into it."""
    if not (found.red and found.scratch and job.keep_hours):
        return
    until = datetime.now(UTC) + timedelta(hours=job.keep_hours)
    why = "; ".join(f"{check.name}: {check.answer}" for check in found.red)
    backup = found.manifest.id if found.manifest else ""
    removal = keep(folder, Kept(backup=backup, why=why, expires_at=until, look=found.look))
    report(
        f"kept unencrypted until {until:%Y-%m-%d %H:%M} UTC: {folder} (kept.json says how to look into it); {removal}"
    )


def _evidence(job: DrillJob, found: Findings, started: datetime) -> Evidence:
    manifest = found.manifest
    asked = checks.QUESTIONS.in_full(found.checks, found.asks)
    loss, basis = _loss(found, started) if manifest else (None, "computed")
    unanswered = not job.damage and any(check.status is Status.SKIPPED for check in asked)  # a control stops early
    return Evidence(
        verdict="red" if found.red or unanswered else "in part" if found.skipped else "green",
        damage=job.damage,
        environment=job.environment,
        project=job.project,
        name=job.name,
        kind=manifest.source.kind if manifest else None,
        backup=manifest.id if manifest else None,
        choice=job.choice,
        store=job.store.name,
        manifest_digest=manifest.digest if manifest else None,
        manifest_signer=manifest.stored.claimed_key if manifest else None,
        snapshot_at=manifest.snapshot_at if manifest else None,
        started_at=started,
        finished_at=datetime.now(UTC),
        rto_seconds=found.rto,
        rto_budget_seconds=round(job.rto_minutes * 60),
        rpo_seconds=round(loss, 3) if loss is not None else None,
        rpo_basis="measured" if basis == "measured" else "computed",
        rpo_budget_seconds=job.loss_budget,
        profile=found.profile,
        objects=len(manifest.objects) if manifest else 0,
        stored_bytes=manifest.stored_bytes if manifest else 0,
        rows=manifest.source.rows if manifest else 0,
        checks=asked,
        phases=found.phases,
        tables=found.tables,
        not_compared=found.not_compared,
        skipped=[SkippedObject(what=each.what, why=each.why, mend=each.mend) for each in found.skipped],
        tools=found.tools,
        runner=platform.node(),
    )
