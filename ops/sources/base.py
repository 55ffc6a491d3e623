"""What can be backed up. Each kind answers the same verbs, so that backup, restore and drill know no kind by name.

`plan` looks and refuses; `dump` writes files into a folder, and hands each to the outbox as it grows; `restore` fills
an empty place from such a folder; `fingerprint` says what is in it; `check` compares that with what was recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar


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


RecordT = TypeVar("RecordT")
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


class Source(Protocol[RecordT]):
    """A place that can be dumped from and restored into."""

    def plan(self) -> SourcePlan:
        """Look at it, change nothing. Raises `SourceError` or `ToolError` with the fix."""
        ...

    def dump(self, folder: Path, outbox: Outbox) -> Dump[RecordT]:
        """Write a consistent dump into `folder`, which is not there yet. Raises `SourceError`, `SpoolError`."""
        ...

    def restore(self, folder: Path, record: RecordT) -> list[Skipped]:
        """Fill this empty place; return what could not be made. Raises `RestoreError` where nothing could."""
        ...

    def fingerprint(self) -> RecordT:
        """Describe what is in it now."""
        ...

    def check(self, expected: RecordT, skipped: Sequence[Skipped] = ()) -> list[Difference]:
        """Compare what is in it with what was recorded, less what was skipped; an empty list means equal."""
        ...
