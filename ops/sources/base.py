"""Protocols of a kind of backup: the source it is dumped from, and the target it is restored into.

Backup, restore and drill know no kind by name: a kind is one module that implements these protocols, and one entry in
`ops.targets.kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ops.core.progress import Meter
from ops.repository.records import TableFingerprint


@dataclass(frozen=True, kw_only=True)
class SourcePlan:
    """What a dump would do. `bytes_estimate` is what the spool must hold, `largest` the largest file's (None: no more).

    `sent` is what goes out, where that is not what the spool must hold. `must_be_encrypted` refuses a backup without
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
    """A dump in a folder. `files` maps each file to what it holds; `record` is the manifest's part of this kind.

    `depends_on` are ids of earlier backups of the same name without which this one cannot be restored; `spool_bytes` is
    the most that lay in the folder at once, where the source looked.
    """

    files: dict[Path, str]
    record: RecordT_co
    snapshot_at: datetime
    depends_on: tuple[str, ...] = field(default=())
    spool_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not as it was recorded: which table or object, what was found, what was expected."""

    what: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.what}: found {self.found}, expected {self.expected}"


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """One thing that a restore could not make; everything else was restored and compared.

    `what` names it as the record does, `why` is the server's or system's own words, `mend` the statement or action that
    would bring it back ("" where none is known).
    """

    what: str
    why: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" + (f"; {self.mend}" if self.mend else "")

    @property
    def document(self) -> dict[str, str]:
        """The same for a program."""
        return {"what": self.what, "why": self.why, "mend": self.mend}


class Outbox(Protocol):
    """Takes files on their way out, before they are whole. Files that never come through here go out after the dump."""

    def begin(self, path: Path) -> None:
        """Take a file that is being written, and grows at its end alone (or a pipe). It is removed when it is sent."""
        ...

    def finish(self, path: Path) -> None:
        """Take note that it is whole."""
        ...

    def check(self) -> None:
        """Raise what stopped the way out, so that nobody goes on to dump for nothing."""
        ...


class Source(Protocol[RecordT_co]):
    """A place that can be dumped from."""

    def plan(self) -> SourcePlan:
        """Look at it, change nothing. Raises `SourceError` or `ToolError` with the fix."""
        ...

    def dump(self, folder: Path, outbox: Outbox) -> Dump[RecordT_co]:
        """Write a consistent dump into `folder`, which does not exist yet. Raises `SourceError`, `SpoolError`."""
        ...

    def fingerprint(self) -> RecordT_co:
        """Describe what is in it now."""
        ...


Pour = Callable[[Callable[[bytes], object]], None]
"""Passes the bytes of one file of a dump to a function, and raises at the end unless they are what was dumped. It may
be called again."""


def never() -> None:
    """Check nothing."""


class Download(Protocol):
    """The files of a backup on their way into a folder, each verified against the manifest."""

    @property
    def folder(self) -> Path:
        """Where the files are, or will be."""
        ...

    @property
    def pours(self) -> Mapping[str, Pour]:
        """Files that will not be in `folder`, in the order to begin with: they are read from the store when needed."""
        ...

    def wait(self, check: Callable[[], None] = never) -> Path:
        """Wait until all other files are in `folder`, and return it; `check` is called every second and may raise.

        Raises:
            OpsError: a file is missing, damaged or cannot be decrypted.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class TargetPlan:
    """What a restore into a target would do.

    `skipped` cannot be made there, as far as that can be known before; `left_out` differs by nature (the database's
    owner, rows that were not chosen), which is no loss; `free` are the bytes that are free there (None: unknown).
    `facts` are more lines of the plan by name.
    """

    target: str
    skipped: tuple[Skipped, ...] = ()
    left_out: tuple[str, ...] = ()
    free: int | None = None
    facts: Mapping[str, object] = field(default_factory=dict[str, object])


class RestoreTarget(Protocol[RecordT_contra]):
    """An empty place for one kind of backup. Until it is verified it bears another name, or a mark."""

    left_out: tuple[str, ...] = ()
    """What the last `restore` left out by nature, beside what the plan names."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def partial(self) -> str:
        """Where a restore that did not finish has left what it made."""
        ...

    def plan_restore(self, record: RecordT_contra) -> TargetPlan:
        """Look at it and refuse; change nothing. Raises `RestoreRefusedError` unless it is empty and can hold it."""
        ...

    def restore(self, download: Download, record: RecordT_contra, progress: Meter) -> list[Skipped]:
        """Fill it, marked as unfinished; return what could not be made. Raises `RestoreError` where nothing could."""
        ...

    def compare(self, record: RecordT_contra, skipped: Sequence[Skipped]) -> list[Difference]:
        """Compare what is in it with what was recorded, except what was skipped; an empty list means equal."""
        ...

    def commit(self, skipped: Sequence[Skipped]) -> None:
        """Give it its name, or take the mark away: it is verified."""
        ...

    def streams(self, file: str) -> bool:
        """Return True for a file that `restore` reads by `Download.pours`, so that it need not be on the disk."""
        del file
        return False

    def needs_first(self, file: str) -> bool:
        """Return True for a file that `restore` needs before all others; none: it waits for all of them."""
        del file
        return False

    def mark(self, state: str) -> None:
        """Write on it that the restore failed, where its name does not show that already."""
        del state

    def discard(self) -> bool:
        """Remove what this restore has made, where that is safe; return True if nothing is left."""
        return False


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What a drill reports of a restored copy beside what `compare` found.

    `tables` are those of the record and those of the copy; `invalid` names constraints and indexes that are not valid
    and were in the source (None: the kind has none). `restored` (optional) and `compared` describe what was done.
    """

    restored: str = ""
    compared: str
    tables: tuple[Sequence[TableFingerprint], Sequence[TableFingerprint]] = ((), ())
    invalid: list[str] | None = None
    tools: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class ScratchFacts:
    """What a drill says of its scratch target.

    `profile` is where its times were measured, `look` how a person looks into it, should it be kept; `folders` are what
    may stay of it (nothing of secrets). `not_compared` is what it leaves out because it is a scratch target.
    """

    profile: str
    look: str = ""
    folders: Sequence[Path] = ()
    not_compared: Sequence[str] = ()


class ScratchTarget(RestoreTarget[RecordT_contra], Protocol[RecordT_contra]):
    """A target that a drill restores into, and what else the drill asks of it."""

    def facts(self) -> ScratchFacts:
        """Describe it."""
        ...

    def identity(self) -> tuple[str, list[str]] | None:
        """Prove that it is new: the answer, and what is wrong with it. None: it is a new file or folder."""
        return None

    def examine(self, record: RecordT_contra, skipped: Sequence[Skipped]) -> Examination:
        """Report what a drill asks of the copy beside `compare`."""
        ...

    def ask(self, assertions: Sequence[str]) -> list[str] | None:
        """Ask the app's assertions of the copy; return what is not true. None: the kind has no queries."""
        del assertions
        return None

    def newest_row(self) -> datetime | None:
        """Return the time of the canary row in the copy."""
        return None
