"""What can be backed up. Each kind answers the same five verbs, so that backup, restore and drill know no kind by name.

`plan` looks and refuses; `dump` writes files into a folder; `restore` fills an empty place from such a folder;
`fingerprint` says what is in it; `check` compares that with what was recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar


@dataclass(frozen=True, kw_only=True)
class SourcePlan:
    """What a dump would do. `bytes_estimate` is what the spool must hold."""

    what: str
    bytes_estimate: int
    details: dict[str, str]


RecordT = TypeVar("RecordT")


@dataclass(frozen=True, kw_only=True)
class Dump(Generic[RecordT]):
    """A dump in a folder. `files` maps each file to what it holds; `record` is the manifest's part of this kind."""

    files: dict[Path, str]
    record: RecordT
    snapshot_at: datetime


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not as it was recorded: which table or object, what was found, what was expected."""

    what: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.what}: found {self.found}, expected {self.expected}"


class Source(Protocol[RecordT]):
    """A place that can be dumped from and restored into."""

    def plan(self) -> SourcePlan:
        """Look at it, change nothing. Raises `SourceError` or `ToolError` with the fix."""
        ...

    def dump(self, folder: Path) -> Dump[RecordT]:
        """Write a consistent dump into `folder`. Raises `SourceError`, `SpoolError`."""
        ...

    def restore(self, folder: Path, record: RecordT) -> None:
        """Fill this empty place. Raises `RestoreError`."""
        ...

    def fingerprint(self) -> RecordT:
        """Describe what is in it now."""
        ...

    def check(self, expected: RecordT) -> list[Difference]:
        """Compare what is in it with what was recorded; an empty list means equal."""
        ...
