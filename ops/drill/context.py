"""What every kind of drill is given and gives: its arguments, its plan and steps, and what it finds on the way."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal

from ops.core.messages import say
from ops.core.progress import ProgressFactory, no_progress
from ops.core.signals import defer_interrupts
from ops.drill.evidence.document import Check, Detail, Phase, Questions, Status
from ops.sources.base import Skipped

Report = Callable[[str], None]
Plan = Mapping[str, int | float | str | None]
"""What a drill would do, by name, for `--dry-run`: `…_bytes` and `…_seconds` are numbers of those."""
NO_ROWS = say("no rows in any table; give --may-be-empty if that is expected")


@dataclass(frozen=True, kw_only=True)
class Drill(ABC):
    """The protocol of a kind of drill, and the arguments that all kinds have. `ops.drill.runner.run` holds one.

    A kind is one module with a subclass, and one class of `ops.drill.evidence.document.Detail`.

    `rto_minutes` is the recovery time objective, None where there is none; `spool` is the folder for its scratch
    folder; `keep_hours` is how long that stays when the drill is red.
    """

    questions: ClassVar[Questions]
    """All that it may ask, in their order."""
    always: ClassVar[Collection[str]]
    """The names of the questions that must be answered for green; others are asked where there is something to ask."""

    rto_minutes: int | None = None
    may_be_empty: bool = False
    spool: Path | None = None
    keep_hours: float = 0

    @abstractmethod
    def plan(self) -> Plan:
        """Look and refuse; nothing is fetched, started or made.

        Raises:
            OpsError: it cannot be held.
        """

    @abstractmethod
    def run(self, found: Findings) -> None:
        """Take the steps. What is wrong with the backup is a failed check; it says first what it drills (`about`).

        Raises:
            OpsError: it cannot be held: nothing can be said about the backup.
        """


@dataclass(kw_only=True)
class Findings:
    """What a drill has found so far, and the means to find it.

    `folder` is its private scratch folder, which the runner removes after it has left `scratch`, where servers and
    folders that may be kept are entered. `rto` is in seconds, until the last question
    about the copy. `asks` names the questions that must be answered for green. `look` says how to look into the
    scratch folder, should it be kept ("": it holds nothing to look into, and never is). After `stop_after` is answered
    a negative control has seen enough. `report` is called with a line for each step, `meter` shows how far the longer
    ones are.
    """

    questions: Questions
    folder: Path
    scratch: contextlib.ExitStack
    may_be_empty: bool = False
    report: Report
    meter: ProgressFactory = no_progress
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.monotonic)
    checks: list[Check] = field(default_factory=list[Check])
    phases: list[Phase] = field(default_factory=list[Phase])
    asks: set[str] = field(default_factory=set[str])
    environment: str | None = None
    project: str | None = None
    name: str = ""
    backup: str | None = None
    damage: str | None = None
    detail: Detail | None = None
    rows: int = 0
    stored_bytes: int = 0
    rto: float | None = None
    rpo: float | None = None
    rpo_basis: Literal["computed", "measured"] = "computed"
    rpo_budget: int | None = None
    profile: str = ""
    tools: dict[str, str] = field(default_factory=dict[str, str])
    not_compared: list[str] = field(default_factory=list[str])
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    look: str = ""
    stop_after: str | None = None

    def about(
        self, detail: Detail, *, name: str, backup: str | None, environment: str | None, project: str | None = None
    ) -> None:
        """Note what is drilled; `detail` is filled in on the way."""
        self.detail, self.name, self.backup = detail, name, backup
        self.environment, self.project = environment, project

    @contextlib.contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Time a stretch of the drill."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.note_phase(name, begin, time.monotonic())

    @contextlib.contextmanager
    def uninterrupted(self, name: str, why: str) -> Generator[None]:
        """Time a stretch that Ctrl-C and SIGTERM do not end: they count after it. `why` is shown then."""
        with defer_interrupts(self.report, why), self.phase(name):
            yield

    def note_phase(self, name: str, begin: float, end: float) -> None:
        """Note a stretch by its two moments of `time.monotonic`."""
        self.phases.append(Phase(name=name, begin=round(begin - self.began, 3), seconds=round(end - begin, 3)))

    def recovered(self, begin: float) -> None:
        """Note the recovery time: from a moment of `time.monotonic` until now."""
        self.rto = round(time.monotonic() - begin, 3)

    def add(self, check: Check) -> bool:
        """Note a check; return True if it passed."""
        self.checks.append(check)
        return check.status is Status.PASSED

    def answer(self, name: str, answer: str, problems: Sequence[str] | None = None) -> bool:
        """Note an answer; with problems the check failed. Return True if it passed."""
        ask = self.questions
        return self.add(ask.failed(name, answer, problems) if problems else ask.passed(name, answer))

    def answer_rows(self, rows: int) -> None:
        """Note how many rows there are: an empty database restores without error, and so does a wrong one."""
        if rows:
            self.answer("rows", say("{count} rows", count=rows))
        elif self.may_be_empty:
            self.answer("rows", say("no rows (allowed by --may-be-empty)"))
        else:
            self.answer("rows", NO_ROWS, [NO_ROWS])

    def skip(self, name: str, answer: str) -> None:
        """Note why a question is not asked."""
        self.checks.append(self.questions.skipped(name, answer))

    @property
    def enough(self) -> bool:
        """Return True once the check is answered after which a negative control stops."""
        return self.stop_after is not None and self.stop_after in {check.name for check in self.checks}

    @property
    def red(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.status is Status.FAILED]
