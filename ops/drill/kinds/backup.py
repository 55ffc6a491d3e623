"""A drill: restore a backup into a scratch target, by the code and in the order of `ops restore`, and compare it.

It is given the store and an identity and no way to anything live. What a restore would refuse is a failed check; what
it would skip the drill skips too, and names: then the verdict is "in part". It goes on after a failure as far as it
can, so that the report names all that is wrong and not only the first. A negative control stops at its own check.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

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
from ops.drill.context import Drill, Findings, Plan, Report
from ops.drill.evidence.details import BackupDetail, Choice
from ops.drill.evidence.document import Document, Questions
from ops.drill.negative_controls import CAUGHT_BY, EXPLAINED, Damage, copy_backup, damage, link_backup, possible
from ops.drill.runner import run
from ops.drill.timed_store import TimedStore
from ops.drill.workdir import drill_folder, is_kept
from ops.repository.catalog import LATEST, CatalogEntry, digests_of, entries, find, read_manifest, why_not_latest
from ops.repository.download import Fetcher, Identities
from ops.repository.incremental import Piece, missing, own_pieces, pieces
from ops.repository.manifest import Manifest
from ops.repository.stores.base import Store
from ops.repository.stores.folder import FolderStore
from ops.repository.upload import WORKERS
from ops.restore.download import fetched
from ops.targets.kinds import Scratch, kind_of


@dataclass(frozen=True, kw_only=True)
class BackupDrill(Drill):
    """The backup to drill, and the budgets.

    `signer` is the key that manifests must be signed with (None: none is recorded); `known` are the digests of the
    manifests that earlier drills have seen, by the backup's id; `rpo_minutes` is `max_age_hours` when None. `damage` is
    of a negative control, which begins with `original`, an untouched copy of the backup; it is fetched when None.
    """

    questions: ClassVar[Questions] = checks.QUESTIONS
    always: ClassVar[Collection[str]] = checks.ALWAYS

    environment: str
    project: str
    name: str
    store: Store
    backup: str = LATEST
    choice: Choice = field(default_factory=lambda: Choice(way="named"))
    max_age_hours: int
    rpo_minutes: int | None = None
    signer: str | None = None
    known: Mapping[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])
    assertions: tuple[str, ...] = ()
    identities: Identities = ()
    damage: Damage | None = None
    original: FolderStore | None = None

    @property
    def loss_budget(self) -> int:
        """The recovery point objective in seconds."""
        return self.max_age_hours * 3600 if self.rpo_minutes is None else self.rpo_minutes * 60

    def plan(self) -> Plan:
        """Plan from the manifest alone; nothing is fetched, started or written.

        Raises:
            StoreUnreachableError: the store does not answer.
            BackupNotFoundError, ManifestError: there is no such backup, or its manifest cannot be trusted.
            KeyProblemError: no identity was given, and it is encrypted.
        """
        manifest = find(self.store, self.name, self.backup)
        _need_identity(self, manifest)
        wanted = _wanted(self, manifest)
        dumped = sum(piece.entry.file_size for piece in wanted)
        return {
            "name": self.name,
            "kind": manifest.source.kind,
            "backup": manifest.id,
            "chosen": self.choice.way,
            "store": self.store.name,
            "objects": len(wanted),
            "fetched_bytes": _stored(wanted),
            "scratch_bytes": dumped + kind_of(manifest).scratch_bytes(manifest.source, dumped),
            "rto_budget_seconds": None if self.rto_minutes is None else self.rto_minutes * 60,
            "rpo_budget_seconds": self.loss_budget,
        }

    def run(self, found: Findings) -> None:
        """Restore the backup into a scratch target, and compare it.

        Raises:
            StoreUnreachableError: the store does not answer; nothing can be said about the backup.
            KeyProblemError: no identity was given, and it is encrypted.
            ToolError, SpoolError: this host cannot run a drill.
        """
        detail = BackupDetail(choice=self.choice, store=self.store.name)
        found.about(detail, name=self.name, backup=None, environment=self.environment, project=self.project)
        found.rpo_budget = self.loss_budget
        if self.damage is None:
            complete = [entry.id for entry in entries(self.store, self.name) if entry.complete]
            detail.present = digests_of(self.store, self.name, complete)
            _drill(self, found, detail)
            return
        found.report(f"negative control: {EXPLAINED[self.damage]}")
        found.damage, found.stop_after = self.damage, CAUGHT_BY[self.damage]
        _drill(_damaged(self, self.damage, found.folder), found, detail)


def controls(job: BackupDrill, report: Report, *, meter: ProgressFactory = no_progress) -> list[Document]:
    """Run every negative control that the backup allows; the backup is copied for all of them once.

    Raises:
        StoreUnreachableError, ToolError, SpoolError: see `BackupDrill.run`.
    """
    manifest = find(job.store, job.name, job.backup)
    with drill_folder(job.spool) as folder:
        original = FolderStore(_private(folder / "original"))
        copy_backup(job.store, manifest, original)
        local = replace(job, backup=manifest.id, original=original, keep_hours=0)
        kinds = possible(manifest, signer=job.signer)
        return [run(replace(local, damage=kind), report, meter=meter) for kind in kinds]


def _damaged(job: BackupDrill, kind: Damage, folder: Path) -> BackupDrill:
    """Return the job on a copy that is made wrong; nothing of it is kept."""
    copy = FolderStore(_private(folder / "copy"))
    manifest = find(job.original or job.store, job.name, job.backup)
    if kind not in possible(manifest, signer=job.signer):
        raise RestoreRefusedError(f"{manifest.id}: there is nothing to damage in this way: {EXPLAINED[kind]}")
    if job.original is None:
        copy_backup(job.store, manifest, copy)
    else:
        link_backup(job.original, copy)
    damage(copy, manifest, kind, max_age_hours=job.max_age_hours)
    identities = [x25519.Identity.generate()] if kind is Damage.KEY else job.identities
    return replace(job, store=copy, identities=identities)


def _private(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def _drill(job: BackupDrill, found: Findings, detail: BackupDetail) -> None:
    with found.phase("manifest"):
        looked = _look(job, found)
    if looked is None:
        return
    manifest, newest = looked
    detail.source, detail.manifest_digest = manifest.source.kind, manifest.digest
    detail.manifest_signer, detail.snapshot_at = manifest.stored.claimed_key, manifest.snapshot_at
    detail.objects = len(manifest.objects)
    found.backup, found.rows, found.stored_bytes = manifest.id, manifest.source.rows, manifest.stored_bytes
    found.rpo = _seconds(newest.snapshot_at, found)
    if found.enough or (job.damage is None and "origin" in {check.name for check in found.red}):
        return  # what somebody else may have made is not even fetched; a control is of a copy, and loses its signature
    _need_identity(job, manifest)
    begun = time.monotonic()
    wanted, kind = _wanted(job, manifest), kind_of(manifest)
    dumped = sum(piece.entry.file_size for piece in wanted)
    needed = dumped + kind.scratch_bytes(manifest.source, dumped)
    files = found.scratch.enter_context(spool(found.folder, needed=needed, what=f"the drill of {job.name}"))
    found.report(f"fetching {len(wanted)} objects for {manifest.id}, {mebibytes(_stored(wanted))} MiB")
    fetched_all = _fetch(job, manifest, found, wanted, files)
    if fetched_all and not found.enough and _rehearse(job, manifest, found, detail, files):
        found.recovered(begun)
    found.add(checks.check_loss(found.rpo, found.rpo_basis, job.loss_budget))


def _need_identity(job: BackupDrill, manifest: Manifest) -> None:
    if manifest.recipients and not job.identities:
        raise KeyProblemError(f"{manifest.id}: is encrypted: give the identity that reads it with --identity FILE")


def _rehearse(job: BackupDrill, manifest: Manifest, found: Findings, detail: BackupDetail, files: Path) -> bool:
    """Restore into the kind's scratch target and compare, as a restore does; return True if it could be used."""
    record, kind = manifest.source, kind_of(manifest)
    where = Scratch(files=files, parent=files.parent, kept=lambda: is_kept(files.parent))
    with found.phase("start scratch target"):
        target = found.scratch.enter_context(kind.scratch(record, where))
    facts = target.facts()
    found.profile, found.look = facts.profile, facts.look
    found.not_compared = list(named(record))
    if (identity := target.identity()) is not None:
        found.asks.add("identity")
        if not found.add(checks.check_identity(*identity)):
            return False
    found.report(f"restoring into a scratch target: {facts.profile}")
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
        found.answer("restore", say("restore failed"), [" ".join(str(error).split())])
        return False
    end = time.monotonic()
    indexing = getattr(target, "stages", {}).get("index", 0.0)
    found.note_phase("load", begin, end - indexing)
    if indexing:
        found.note_phase("index", end - indexing, end)
    found.not_compared += target.facts().not_compared
    found.report(f"restored in {end - begin:.1f} s; comparing with the snapshot")
    with found.phase("check"):
        differences = target.compare(record, found.skipped)
        examined = target.examine(record, found.skipped)
        found.add(checks.check_restore(examined.restored, found.skipped))
        detail.tables = checks.compare_tables(*examined.tables)
        found.add(checks.check_content(examined.compared, differences))
        if examined.invalid is not None:
            found.asks.add("integrity")
            found.add(checks.check_integrity(examined.invalid))
        row = target.newest_row()
        if row is not None and found.rpo == _seconds(manifest.snapshot_at, found):  # an older copy holds an older row
            found.rpo, found.rpo_basis = _seconds(row, found), "measured"
        if job.assertions and (problems := target.ask(job.assertions)) is not None:
            found.asks.add("assertions")
            found.add(checks.check_assertions(len(job.assertions), problems))
    found.tools |= examined.tools
    return True


def _seconds(since: datetime, found: Findings) -> float:
    return round((found.started - since).total_seconds(), 3)


def named(record: Any) -> list[str]:
    """Return what a record names that is not kept, not compared, or not restored."""
    return [line for field in ("not_kept", "not_compared", "not_restored") for line in getattr(record, field, ())]


def _look(job: BackupDrill, found: Findings) -> tuple[Manifest, Manifest] | None:
    """Ask what can be known without fetching; return the manifest to drill, and the newest, if one can be trusted."""
    if job.signer is not None:
        found.asks.add("origin")
    try:
        manifest, newest = _manifests(job, found)
    except (BackupNotFoundError, ManifestError) as error:
        found.answer("backup", say("no trusted backup"), [str(error)])
        return None
    found.add(checks.check_known(manifest, job.known.get(manifest.id, ())))
    if job.signer is not None:
        found.add(checks.check_origin(manifest, job.signer))
    if manifest.recipients:
        found.asks.add("key")
    found.add(checks.check_age(newest, found.started, job.max_age_hours))
    found.add(checks.check_objects(manifest, missing(job.store, manifest)))
    return manifest, newest


def _manifests(job: BackupDrill, found: Findings) -> tuple[Manifest, Manifest]:
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
            why = why_not_latest(newest, job.signer, found.started)
        except ManifestError as error:
            newest, why = manifest, str(error)
        if not why:
            return manifest, newest
        found.report(f"its age does not count: {why}")
    return manifest, manifest


def _known(job: BackupDrill, known: list[CatalogEntry]) -> str:
    if not any(entry.id == job.backup for entry in known):
        raise BackupNotFoundError(f"{job.store.name}: backup {job.backup} of {job.name} is not there")
    return job.backup


def _wanted(job: BackupDrill, manifest: Manifest) -> list[Piece]:
    """Return what must be fetched: of the backup, and of those it depends on where they are there."""
    try:
        return pieces(job.store, manifest)
    except ManifestError:  # the check of the objects has named it
        return own_pieces(manifest)


def _stored(wanted: list[Piece]) -> int:
    return sum(piece.entry.size for piece in wanted)


def _fetch(job: BackupDrill, manifest: Manifest, found: Findings, wanted: list[Piece], folder: Path) -> bool:
    """Fetch, decrypt and decompress every object; return True if all of them are intact."""
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
    found.report(f"fetched {_stored(wanted)} bytes in {end - begin:.1f} s")
    if manifest.recipients:
        found.add(checks.check_key(manifest, sorted(undecryptable)))
    found.add(checks.check_digests(manifest, sorted(wrong if manifest.recipients else wrong + undecryptable)))
    found.answer_rows(manifest.source.rows)
    return not wrong and not undecryptable
