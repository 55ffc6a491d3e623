"""Restore a backup of any kind into a new place, compare it with the manifest, and rename it if it is equal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from ops.core.errors import (
    IntegrityError,
    KeyProblemError,
    ObjectMissingError,
    OpsError,
    RestoreError,
    RestoreRefusedError,
    SpoolError,
    StoreError,
)
from ops.core.progress import ProgressFactory, no_progress
from ops.core.workdir import mebibytes, spool
from ops.repository import incremental
from ops.repository.download import Fetcher, Identities
from ops.repository.manifest import Manifest
from ops.repository.stores.base import Store
from ops.restore.download import StreamingDownload, fetch, fetched
from ops.restore.estimate import Estimate, estimate
from ops.sources.base import Download, RestoreTarget, Skipped

Report = Callable[[str], None]

_OURS = (IntegrityError, KeyProblemError, StoreError, SpoolError, OSError)
"""Errors of the backup, the access to it, or this computer's disk: the target can be removed completely."""


@dataclass(frozen=True, kw_only=True)
class RestoreJob:
    """The backup, its store and the target. `evidence` is the drills' evidence, for the plan's estimate.

    `manifest` may be a part of the stored one (`ops.restore.table_subset_plan.part_of`); its objects are fetched.
    """

    store: Store
    manifest: Manifest
    target: RestoreTarget[Any]
    identities: Identities = ()
    spool: Path | None = None
    evidence: Path | None = None


@dataclass(frozen=True, kw_only=True)
class RestorePlan:
    """The effects of a restore. `depends_on` are the earlier backups whose packs are fetched too."""

    backup: str
    target: str
    bytes_to_fetch: int
    spool_bytes: int
    depends_on: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    left_out: tuple[str, ...]
    estimate: Estimate
    facts: Mapping[str, object]

    @property
    def document(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "backup": self.backup,
            "target": self.target,
            "bytes_to_fetch": self.bytes_to_fetch,
            "spool_bytes": self.spool_bytes,
            "depends_on": self.depends_on,
            "skipped": [each.document for each in self.skipped],
            "left_out": self.left_out,
            **self.facts,
            **self.estimate.facts,
        }


@dataclass(kw_only=True)
class RestoreReport:
    """The result of a restore. `rows` are rows, files or objects; `seconds` by phase.

    `skipped` could not be made: if there are any, the backup was *restored in part*; the rest was compared.
    `left_out` differs by nature and is not lost.
    """

    backup: str
    target: str
    snapshot_at: datetime
    rows: int
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    left_out: list[str] = field(default_factory=list[str])
    facts: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def in_part(self) -> bool:
        """Return True if something could not be made."""
        return bool(self.skipped)

    @property
    def document(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "backup": self.backup,
            "target": self.target,
            "snapshot_at": self.snapshot_at.isoformat(),
            "result": "in part" if self.in_part else "equal",
            "rows": self.rows,
            "seconds": self.seconds,
            "skipped": [each.document for each in self.skipped],
            "left_out": self.left_out,
            **self.facts,
        }


def plan(job: RestoreJob) -> RestorePlan:
    """Check all preconditions and plan; change nothing.

    Raises:
        RestoreRefusedError: the target is live, is not empty, or cannot hold the data.
        ObjectMissingError: an object of the backup, or of one it depends on, is not in the store.
        ManifestError: one it depends on cannot be trusted.
        ToolError: a program that reads the dump is missing.
    """
    into = job.target.plan_restore(job.manifest.source)
    problems = incremental.missing(job.store, job.manifest)
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise ObjectMissingError(f"{job.store.name}/{problems[0]}{more}; choose another backup")
    pieces = incremental.pieces(job.store, job.manifest)
    needed = sum(piece.entry.file_size for piece in pieces)
    if into.free is not None and into.free < needed:
        raise RestoreRefusedError(
            f"{job.target.name}: about {mebibytes(needed)} MiB are needed there, {mebibytes(into.free)} MiB are free; "
            "free some space, or choose another place with --into"
        )
    stored = sum(piece.entry.size for piece in pieces)
    return RestorePlan(
        backup=job.manifest.id,
        target=into.target,
        bytes_to_fetch=stored,
        spool_bytes=sum(piece.entry.file_size for piece in pieces if not job.target.streams(piece.entry.file)),
        depends_on=job.manifest.depends_on,
        skipped=into.skipped,
        left_out=into.left_out,
        estimate=estimate(job.manifest, job.evidence, stored=stored, dumped=needed),
        facts=into.facts,
    )


def run(job: RestoreJob, report: Report, meter: ProgressFactory = no_progress) -> RestoreReport:
    """Restore, then compare with the manifest. `meter` shows how much was fetched and loaded.

    Raises:
        RestoreRefusedError, ObjectMissingError, ManifestError, ToolError: see `plan`; nothing was changed.
        IntegrityError, KeyProblemError: an object is damaged or cannot be decrypted; nothing was made.
        RestoreError: the restore failed, or the copy differs; it is left, marked, and named in the message.
    """
    planned = plan(job)
    manifest, target = job.manifest, job.target
    result = RestoreReport(
        backup=manifest.id,
        target=planned.target,
        snapshot_at=manifest.snapshot_at,
        rows=manifest.source.rows,
        left_out=list(planned.left_out),
        facts=planned.facts,
    )
    clock = Stopwatch(result.seconds)
    report(f"fetching {mebibytes(planned.bytes_to_fetch)} MiB and restoring into {target.name}")
    with (
        spool(job.spool, needed=planned.spool_bytes, what=f"the restore of {manifest.name}") as folder,
        _download(job, folder, clock, meter) as download,
        _guarded(target, report),
    ):
        with clock("restore", without="fetch"):
            result.skipped = target.restore(download, manifest.source, meter)
            result.left_out += target.left_out
        report(f"fetched and restored in {sum(result.seconds.values()):.1f} s; comparing with the backup")
        with clock("check"):
            found = target.compare(manifest.source, result.skipped)
    if found:
        with contextlib.suppress(OpsError, psycopg.Error):
            target.mark("DIFFERS from the backup")
        first = "; ".join(str(difference) for difference in found[:3])
        raise RestoreError(
            f"{target.name}: restored, but not equal to {manifest.id}: {first}; {target.partial} is left for inspection"
        )
    with _guarded(target, report):
        target.commit(result.skipped)
    return result


@contextlib.contextmanager
def _download(job: RestoreJob, folder: Path, clock: Stopwatch, meter: ProgressFactory) -> Generator[Download]:
    """Fetch the backup: completely first, or while the target is filled if it supports that."""
    manifest, target = job.manifest, job.target
    pieces = incremental.pieces(job.store, manifest)
    stored = sum(piece.entry.size for piece in pieces)
    if not any(target.needs_first(piece.entry.file) for piece in pieces):
        with clock("fetch"), meter(f"fetching {manifest.name}", stored) as advance:
            fetch(job.store, pieces, folder, job.identities, advance)
        yield fetched(folder, target)
        return
    total = stored + sum(piece.entry.file_size for piece in pieces)
    with meter(f"restoring {manifest.name}", total) as advance:
        (prefix,) = {piece.prefix for piece in pieces}
        fetcher = Fetcher(store=job.store, prefix=prefix, identities=job.identities, advance=advance)
        entries = [piece.entry for piece in pieces]
        with StreamingDownload(fetcher, entries, folder, target, waiting=partial(clock, "fetch")) as download:
            yield download


@contextlib.contextmanager
def _guarded(target: RestoreTarget[Any], report: Report) -> Generator[None]:
    """Mark the target if the restore fails, so that nobody takes an unfinished one for complete."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, _OURS) and target.discard():
            raise
        with contextlib.suppress(OpsError, psycopg.Error):  # the first error is the one to report
            target.mark("FAILED")
        if isinstance(error, KeyboardInterrupt):
            report(f"interrupted: {target.partial} is left as it is, do not use it")
        if isinstance(error, OpsError):
            raise RestoreError(f"{error}; {target.partial} is left as it is, do not use it") from None
        raise


class Stopwatch:
    """Measures the seconds of phases into a dict: `with clock("fetch"): …`."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds

    @contextlib.contextmanager
    def __call__(self, phase: str, *, without: str | None = None) -> Generator[None]:
        """Measure one phase, without the time that another one took meanwhile."""
        begun, other = time.monotonic(), self._seconds.get(without or "", 0)
        try:
            yield
        finally:
            spent = time.monotonic() - begun - self._seconds.get(without or "", 0) + other
            self._seconds[phase] = round(self._seconds.get(phase, 0) + spent, 3)
