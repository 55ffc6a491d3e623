"""Define the protocols of a kind of backup: the source it is dumped from, and the target it is restored into.

Backup, restore and drill name no kind: a kind is one module that implements these protocols, and one entry in
`ops.targets.kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ops.core.progress import ProgressFactory
from ops.repository.records import TableFingerprint


@dataclass(frozen=True, kw_only=True)
class SourcePlan:
    """Effects of a dump. `bytes_estimate` is the spool's maximum, `largest` the largest file's bytes (None: no more).

    `sent` are the bytes to upload, if they differ from the spool's. `must_be_encrypted` refuses a backup without
    recipients, whatever the store.
    """

    what: str
    bytes_estimate: int
    details: dict[str, str]
    largest: int | None = None
    sent: int | None = None
    must_be_encrypted: bool = False


RecordT_contra = TypeVar("RecordT_contra", contravariant=True)
RecordT_co = TypeVar("RecordT_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Dump(Generic[RecordT_co]):
    """A dump in a folder. `files` maps each file to its content; `record` is the manifest's part of this kind.

    `depends_on` are ids of earlier backups of the same name that this one needs for a restore; `spool_bytes` is
    the maximum in the folder at once, if the source measured it.
    """

    files: dict[Path, str]
    record: RecordT_co
    snapshot_at: datetime
    depends_on: tuple[str, ...] = field(default=())
    spool_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One difference from the record: the table or object, what was found, and what was expected."""

    what: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.what}: found {self.found}, expected {self.expected}"


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """One thing that a restore could not make; everything else was restored and compared.

    `what` names it as the record does, `why` is the server's or system's message, `mend` the statement or action that
    would restore it ("" if none is known).
    """

    what: str
    why: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" + (f"; {self.mend}" if self.mend else "")

    @property
    def document(self) -> dict[str, str]:
        """Return it as JSON values."""
        return {"what": self.what, "why": self.why, "mend": self.mend}


class Outbox(Protocol):
    """Uploads files before they are complete. Files that are never passed to it are uploaded after the dump."""

    def begin(self, path: Path) -> None:
        """Start to upload a file that is still growing at its end (or a pipe). It is removed when it is sent."""
        ...

    def finish(self, path: Path) -> None:
        """Record that the file is complete."""
        ...

    def check(self) -> None:
        """Raise the error that stopped the uploads, so that the dump does not continue in vain."""
        ...


class Source(Protocol[RecordT_co]):
    """A place that can be dumped."""

    def plan(self) -> SourcePlan:
        """Inspect the source; change nothing. Raises `SourceError` or `ToolError` with the fix."""
        ...

    def dump(self, folder: Path, outbox: Outbox) -> Dump[RecordT_co]:
        """Write a consistent dump into `folder`, which does not exist yet. Raises `SourceError`, `SpoolError`."""
        ...

    def fingerprint(self) -> RecordT_co:
        """Describe its current content."""
        ...


Pour = Callable[[Callable[[bytes], object]], None]
"""Passes the bytes of one file of a dump to a function, and raises at the end if they are not those dumped. It may
be called again."""


def never() -> None:
    """Check nothing."""


class Download(Protocol):
    """The files of a backup being fetched into a folder, each verified against the manifest."""

    @property
    def folder(self) -> Path:
        """Return the folder of the files."""
        ...

    @property
    def pours(self) -> Mapping[str, Pour]:
        """Return the files that are streamed from the store instead of saved in `folder`, in starting order."""
        ...

    def wait(self, check: Callable[[], None] = never) -> Path:
        """Wait until all other files are in `folder`, and return it; `check` is called every second and may raise.

        Raises:
            OpsError: a file is missing, damaged or cannot be decrypted.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class TargetPlan:
    """The effects of a restore into a target.

    `skipped` cannot be made there, as far as is known in advance; `left_out` differs by nature (the database's
    owner, rows that were not chosen), which is no loss; `free` are its free bytes (None: unknown).
    `facts` are more lines of the plan by name.
    """

    target: str
    skipped: tuple[Skipped, ...] = ()
    left_out: tuple[str, ...] = ()
    free: int | None = None
    facts: Mapping[str, object] = field(default_factory=dict[str, object])


class RestoreTarget(Protocol[RecordT_contra]):
    """An empty place for one kind of backup. Until it is verified it has another name, or a mark."""

    left_out: tuple[str, ...] = ()
    """Differences by nature that the last `restore` found, in addition to those in the plan."""

    @property
    def name(self) -> str:
        """Return its name in messages."""
        ...

    @property
    def partial(self) -> str:
        """Return where an unfinished restore has left its content."""
        ...

    def plan_restore(self, record: RecordT_contra) -> TargetPlan:
        """Check the target; change nothing. Raises `RestoreRefusedError` unless it is empty and large enough."""
        ...

    def restore(self, download: Download, record: RecordT_contra, progress: ProgressFactory) -> list[Skipped]:
        """Fill it, marked as unfinished; return what could not be made. Raises `RestoreError` if nothing could."""
        ...

    def compare(self, record: RecordT_contra, skipped: Sequence[Skipped]) -> list[Difference]:
        """Compare its content with the record, except what was skipped; an empty list means equal."""
        ...

    def commit(self, skipped: Sequence[Skipped]) -> None:
        """Rename it, or remove the mark: it is verified."""
        ...

    def streams(self, file: str) -> bool:
        """Return True for a file that `restore` streams by `Download.pours`, so it need not be on the disk."""
        del file
        return False

    def needs_first(self, file: str) -> bool:
        """Return True for a file that `restore` needs before all others; if there is none, it waits for all files."""
        del file
        return False

    def mark(self, state: str) -> None:
        """Mark it as a failed restore, unless its name shows that already."""
        del state

    def discard(self) -> bool:
        """Remove what this restore has made, if that is safe; return True if nothing is left."""
        return False


@dataclass(frozen=True, kw_only=True)
class Examination:
    """The checks that a drill makes on a restored copy in addition to `compare`.

    `tables` are those of the record and of the copy; `invalid` names constraints and indexes that are invalid
    but were valid in the source (None: the kind has none). `restored` (optional) and `compared` describe what was done.
    """

    restored: str = ""
    compared: str
    tables: tuple[Sequence[TableFingerprint], Sequence[TableFingerprint]] = ((), ())
    invalid: list[str] | None = None
    tools: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class ScratchFacts:
    """Facts about a drill's scratch target.

    `profile` is the environment of its times, `look` a command to inspect it if it is kept; `folders` are those that
    may stay (none with secrets). `not_compared` is what is not compared because it is a scratch target.
    """

    profile: str
    look: str = ""
    folders: Sequence[Path] = ()
    not_compared: Sequence[str] = ()


class ScratchTarget(RestoreTarget[RecordT_contra], Protocol[RecordT_contra]):
    """A target that a drill restores into, and the further checks that a drill needs."""

    def facts(self) -> ScratchFacts:
        """Describe the scratch target."""
        ...

    def identity(self) -> tuple[str, list[str]] | None:
        """Prove that it is new: the answer, and its problems. None: it is a new file or folder."""
        return None

    def examine(self, record: RecordT_contra, skipped: Sequence[Skipped]) -> Examination:
        """Report the drill's further checks of the copy."""
        ...

    def ask(self, assertions: Sequence[str]) -> list[str] | None:
        """Run the app's assertions on the copy; return those that are not true. None: the kind has no queries."""
        del assertions
        return None

    def newest_row(self) -> datetime | None:
        """Return the time of the canary row in the copy."""
        return None
