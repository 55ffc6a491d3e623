"""What a drill finds: checks, phases, tables."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from ops.core.messages import say
from ops.core.progress import ProgressFactory, no_progress
from ops.drill.checks import NO_ROWS
from ops.drill.evidence.document import Check, Phase, Questions, Status, TableComparison
from ops.repository.manifest import Manifest
from ops.sources.base import Skipped

ALWAYS = ("backup", "age", "objects", "digests", "rows", "restore", "content", "rpo", "time", "clean")
"""The questions every drill asks; others are asked where there is something to ask."""


@dataclass(kw_only=True)
class Timed:
    """The checks of any drill, and its stretches, timed from its beginning (`time.monotonic`)."""

    began: float = field(default_factory=time.monotonic)
    checks: list[Check] = field(default_factory=list[Check])
    phases: list[Phase] = field(default_factory=list[Phase])

    @contextlib.contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Time a stretch of the drill."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.note_phase(name, begin, time.monotonic())

    def note_phase(self, name: str, begin: float, end: float) -> None:
        """Note a stretch by its two moments of `time.monotonic`."""
        self.phases.append(Phase(name=name, begin=round(begin - self.began, 3), seconds=round(end - begin, 3)))


@dataclass(kw_only=True)
class Asked(Timed):
    """The checks of a drill that asks the same questions always."""

    questions: ClassVar[Questions]

    def add(self, name: str, answer: str, problems: Sequence[str] | None = None) -> None:
        """Note an answer; with problems the check failed."""
        self.checks.append(
            self.questions.failed(name, answer, problems) if problems else self.questions.passed(name, answer)
        )

    def add_rows(self, rows: int, *, may_be_empty: bool) -> None:
        """Note how many rows there are; none is a failure unless it is allowed."""
        if rows:
            self.add("rows", say("{count} rows", count=rows))
        elif may_be_empty:
            self.add("rows", say("no rows (allowed by --may-be-empty)"))
        else:
            self.add("rows", NO_ROWS, [NO_ROWS])

    def skip(self, name: str, answer: str) -> None:
        """Note why a question is not asked."""
        self.checks.append(self.questions.skipped(name, answer))


@dataclass(kw_only=True)
class Findings(Timed):
    """What a drill has found so far.

    `rto` in seconds, from the first byte fetched. `asks` names the questions that must be answered for green.
    `scratch` are the folders of what was restored; `look` says how to look into them, should they be kept.
    `newest_row` is the time of the newest canary row in the copy. `meter` is shown how far its longer stretches are.
    """

    asks: set[str] = field(default_factory=lambda: set(ALWAYS))
    tables: list[TableComparison] = field(default_factory=list)
    manifest: Manifest | None = None
    rto: float | None = None
    tools: dict[str, str] = field(default_factory=dict)
    not_compared: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    scratch: list[Path] = field(default_factory=list)
    look: str = ""
    profile: str = ""
    assertions: tuple[str, ...] = ()
    meter: ProgressFactory = no_progress
    newest_row: datetime | None = None
    newest_snapshot: datetime | None = None
    stop_after: str | None = None

    def add(self, check: Check) -> bool:
        """Note a check; return True if it passed."""
        self.checks.append(check)
        return check.status is Status.PASSED

    @property
    def enough(self) -> bool:
        """Return True once the check is answered after which a negative control stops."""
        return self.stop_after is not None and self.stop_after in {check.name for check in self.checks}

    @property
    def red(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.status is Status.FAILED]


Report = Callable[[str], None]
