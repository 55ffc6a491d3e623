"""Putting back what is in no database server: a SQLite file, secrets, the objects of a bucket.

A new place is filled, then held against the manifest; until it is equal it bears another name, or a mark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from ops.core.errors import ObjectMissingError, OpsError, RestoreError, RestoreRefusedError
from ops.core.progress import Advance, Meter, ignored, unseen
from ops.core.workdir import mebibytes, spool
from ops.repository import incremental
from ops.repository.download import Fetcher, Identities
from ops.repository.manifest import Manifest
from ops.repository.stores.base import Store
from ops.repository.upload import WORKERS
from ops.restore.database import Stopwatch
from ops.restore.estimate import Estimate, estimate
from ops.sources.base import Difference, Skipped

Report = Callable[[str], None]


class Place(Protocol):
    """An empty place for one kind of backup. A source of that kind is one; see `ops.sources`."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def left(self) -> str:
        """Where a restore that failed has left what it made."""
        ...

    def ready(self) -> None:
        """Raise `RestoreRefusedError` unless it is empty."""
        ...

    def free(self) -> int | None:
        """Return the bytes that are free there; None where that cannot be known."""
        ...

    def restore(self, folder: Path, record: Any) -> list[Skipped]:
        """Fill it, under a name or a mark that says "not finished"; return what could not be made."""
        ...

    def check(self, expected: Any, skipped: Sequence[Skipped] = ()) -> list[Difference]:
        """Compare what is in it with what was recorded, less what was skipped."""
        ...

    def accept(self) -> None:
        """Give it its name, or take the mark away: it is equal."""
        ...


@dataclass(frozen=True, kw_only=True)
class PlaceJob:
    """What to restore, from where, and into which place. `evidence` is of drills, for the plan's estimate."""

    store: Store
    manifest: Manifest
    place: Place
    identities: Identities = ()
    spool: Path | None = None
    evidence: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PlacePlan:
    """What a restore would do. `depends_on` are the earlier backups whose packs are fetched too."""

    target: str
    bytes_to_fetch: int
    spool_bytes: int
    depends_on: tuple[str, ...]
    estimate: Estimate

    @property
    def facts(self) -> dict[str, Any]:
        """The same by name."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "estimate"}
        return own | self.estimate.facts


@dataclass(kw_only=True)
class PlaceReport:
    """What a restore did; `rows` are rows, files or objects. `seconds` by phase."""

    backup: str
    target: str
    snapshot_at: datetime
    rows: int
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    skipped: list[Skipped] = field(default_factory=list[Skipped])


def plan(job: PlaceJob) -> PlacePlan:
    """Look and refuse; change nothing.

    Raises:
        RestoreRefusedError: the place is not empty, or has too little room.
        ObjectMissingError: an object of the backup, or of one it depends on, is not in the store.
        ManifestError: one it depends on cannot be trusted.
    """
    job.place.ready()
    problems = incremental.missing(job.store, job.manifest)
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise ObjectMissingError(f"{job.store.name}/{problems[0]}{more}; choose another backup")
    pieces = incremental.pieces(job.store, job.manifest)
    free, needed = job.place.free(), sum(piece.entry.file_size for piece in pieces)
    if free is not None and free < needed:
        raise RestoreRefusedError(
            f"{job.place.name}: about {mebibytes(needed)} MiB are needed there, {mebibytes(free)} MiB are free; "
            "make room, or choose another place with --into"
        )
    stored = sum(piece.entry.size for piece in pieces)
    return PlacePlan(
        target=job.place.name,
        bytes_to_fetch=stored,
        spool_bytes=needed,
        depends_on=job.manifest.depends_on,
        estimate=estimate(job.manifest, job.evidence, stored=stored, dumped=needed),
    )


def run(job: PlaceJob, report: Report, meter: Meter = unseen) -> PlaceReport:
    """Restore, then compare with the manifest. `meter` is shown how much was fetched.

    Raises:
        RestoreRefusedError, ObjectMissingError, ManifestError: see `plan`; nothing was changed.
        IntegrityError, KeyProblemError: an object is not what was written, or stays closed; nothing was made.
        RestoreError: it could not be filled, or differs; what was made is left, and named.
    """
    planned = plan(job)
    manifest = job.manifest
    result = PlaceReport(
        backup=manifest.id, target=planned.target, snapshot_at=manifest.snapshot_at, rows=manifest.source.rows
    )
    clock = Stopwatch(result.seconds)
    with spool(job.spool, needed=planned.spool_bytes, what=f"the restore of {manifest.name}") as folder:
        report(f"fetching {mebibytes(planned.bytes_to_fetch)} MiB")
        with clock("fetch"), meter(f"fetching {manifest.name}", planned.bytes_to_fetch) as advance:
            fetch(job.store, manifest, folder, job.identities, advance)
        report(f"fetched and verified in {result.seconds['fetch']:.1f} s; restoring into {job.place.name}")
        try:
            with clock("restore"):
                result.skipped = job.place.restore(folder, manifest.source)
            report(f"restored in {result.seconds['restore']:.1f} s; comparing with the backup")
            with clock("check"):
                found = job.place.check(manifest.source, result.skipped)
        except OpsError as error:
            raise RestoreError(f"{error}; {job.place.left} is left as it is, do not use it") from None
    if found:
        first = "; ".join(str(difference) for difference in found[:3])
        raise RestoreError(
            f"{job.place.name}: restored, but not equal to {manifest.id}: {first}; {job.place.left} is left for a look"
        )
    job.place.accept()
    return result


def fetch(store: Store, manifest: Manifest, folder: Path, identities: Identities, advance: Advance = ignored) -> None:
    """Fetch and verify every object that a restore needs; those of earlier backups go into folders of their ids.

    Raises:
        IntegrityError, ObjectMissingError, KeyProblemError: see `ops.repository.download`.
    """

    def one(piece: incremental.Piece) -> None:
        fetcher = Fetcher(store=store, prefix=piece.prefix, identities=identities, advance=advance)
        fetcher.one(piece.entry, piece.folder(folder))

    pieces = sorted(incremental.pieces(store, manifest), key=lambda piece: -piece.entry.size)
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(one, piece) for piece in pieces]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
