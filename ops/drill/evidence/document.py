"""What a drill leaves behind: facts that a person or an auditor can compare with the next drill, as one JSON document.

The document is canonical: its keys sorted, no space, UTF-8. `ops.drill.evidence.chain` gives it its place, and its
signature over the file's bytes, in a file beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ops.core.formatting import duration
from ops.core.messages import Message, say
from ops.core.signing import canonical
from ops.repository.records import TableFingerprint

EVIDENCE = Path("drills")
"""The folder where evidence goes, and is looked for, when none is named."""


Verdict = Literal["green", "in part", "red"]
"""`in part`: what could not be made is named, everything else was restored equal."""


class Status(StrEnum):
    """How a check ended. `skipped` says that what it needs was not reached."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Facts(BaseModel):
    """Base of every group. Fields that a later version adds are left out: its signature is over the file's bytes."""

    model_config = ConfigDict(extra="ignore")


class Phrase(Facts):
    """A message's template and values, from which it is rendered in another language. No code: a program's words."""

    code: str = ""
    values: dict[str, int | float | str | Phrase] = Field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Phrase:
        """Take a message apart; a text that is none has no code."""
        if not isinstance(text, Message):
            return cls()
        values = {n: cls.of(value) if isinstance(value, Message) else value for n, value in text.values.items()}
        return cls(code=text.code, values=values)

    def message(self) -> Message:
        """Put the message together again."""
        values = {n: value.message() if isinstance(value, Phrase) else value for n, value in self.values.items()}
        return Message(self.code, values)


class Check(Facts):
    """One question with its answer, in English. `problems` name the objects or tables that are wrong.

    `code` and `values` give the answer again, in any language and to programs; `phrases` does so for each problem.
    """

    name: str
    question: str
    status: Status
    answer: str
    code: str = ""
    values: dict[str, int | float | str | Phrase] = Field(default_factory=dict)
    problems: list[str] = Field(default_factory=list)
    phrases: list[Phrase] = Field(default_factory=list)

    @property
    def message(self) -> str:
        """The answer, for a translation."""
        return Phrase(code=self.code, values=self.values).message() if self.code else self.answer

    @property
    def problem_messages(self) -> list[str]:
        """The problems, for a translation."""
        phrases = self.phrases or [Phrase()] * len(self.problems)
        return [
            phrase.message() if phrase.code else problem for problem, phrase in zip(self.problems, phrases, strict=True)
        ]


class Questions(dict[str, str]):
    """What a kind of drill asks: the questions by the names of their checks, in the order they are shown in."""

    def passed(self, name: str, answer: str) -> Check:
        """Build a check that passed."""
        return self._check(name, Status.PASSED, answer)

    def failed(self, name: str, answer: str, problems: Iterable[str] = ()) -> Check:
        """Build a check that failed."""
        return self._check(name, Status.FAILED, answer, problems)

    def skipped(self, name: str, answer: str = say("not reached")) -> Check:
        """Build a check that was not made."""
        return self._check(name, Status.SKIPPED, answer)

    def _check(self, name: str, status: Status, answer: str, problems: Iterable[str] = ()) -> Check:
        said, listed = Phrase.of(answer), list(problems)
        phrases = [Phrase.of(problem) for problem in listed]
        return Check(
            name=name,
            question=self[name],
            status=status,
            answer=answer,
            code=said.code,
            values=said.values,
            problems=listed,
            phrases=phrases if any(phrase.code for phrase in phrases) else [],
        )

    def in_full(self, checks: Iterable[Check], asked: Iterable[str] | None = None) -> list[Check]:
        """Return the checks in their order; what was to be asked and was not is `skipped`, and not taken for passed.

        Args:
            checks: what was answered.
            asked: the names of what was to be asked; all of them when left out.
        """
        answered = {check.name: check for check in checks}
        expected = self.keys() if asked is None else set(asked)
        return [answered.get(name) or self.skipped(name) for name in self if name in answered or name in expected]


class Phase(Facts):
    """A stretch of the drill. `begin` is in seconds after the drill's start."""

    name: str
    begin: float
    seconds: float


class DatabaseFacts(Facts):
    """One database of a server that was restored whole, each table read to its last row."""

    database: str
    rows: int
    tables: list[TableFingerprint]


class Attachment(Facts):
    """A file beside the document that belongs to it; SHA-256 in hex."""

    file: str
    sha256: str


class SkippedObject(Facts):
    """One thing that the restore could not make, in the server's words, and what would mend it."""

    what: str
    why: str
    mend: str = ""


class Document(Facts):
    """Base of what a drill leaves. Each kind has its own fields beside these.

    `sequence` counts the documents of a `series` from 1, `previous` is the SHA-256 of the one before; the chain gives
    all three.
    """

    series: str = ""
    sequence: int = 0
    previous: str | None = None
    log: Attachment | None = None
    page: Attachment | None = None
    skipped: list[SkippedObject] = Field(default_factory=list)
    if TYPE_CHECKING:
        verdict: Verdict
        started_at: datetime
        checks: list[Check]

    @property
    def chain(self) -> str:
        """The name of the series that it belongs to."""
        raise NotImplementedError

    @property
    def subject(self) -> str:
        """The backup that was drilled, for a title."""
        raise NotImplementedError

    @property
    def figures(self) -> str:
        """Times and amounts in one line."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """What the name of its file ends with."""
        return ""

    @property
    def red(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.status is Status.FAILED]

    def summary(self) -> str:
        """Return what is wrong, in one line; empty for a green drill."""
        return " | ".join(f"{check.name}: {'; '.join(check.problems[:3]) or check.answer}" for check in self.red)

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        return canonical(self.model_dump(mode="json"))


DatabaseT = TypeVar("DatabaseT", bound=DatabaseFacts)


class OtherDocument(Document, Generic[DatabaseT]):
    """Base of what a drill of somebody else's backup leaves: the provider's, pgBackRest's."""

    if TYPE_CHECKING:
        proves: str
        verdict: Verdict
        rto_seconds: float | None
        databases: list[DatabaseT]
        phases: list[Phase]

    @property
    def rows(self) -> int:
        """Rows of all databases."""
        return sum(database.rows for database in self.databases)

    @property
    def title(self) -> str:
        """Whose backup it was, in a few words."""
        raise NotImplementedError

    @property
    def budget(self) -> int | None:
        """Seconds that the recovery may take; None where no limit is set."""
        return None

    @property
    def facts(self) -> dict[str, str]:
        """What a person asks about the backup and the copy, by its name."""
        raise NotImplementedError


class TableComparison(Facts):
    """One table in the backup's snapshot and in the restored copy; None where it is absent."""

    table: str
    expected_rows: int | None
    found_rows: int | None
    method: str
    equal: bool


class Choice(Facts):
    """How the backup was chosen: `named`, or by a way of `ops.drill.selection`; `seed` repeats a random choice."""

    way: str
    seed: int | None = None


class Evidence(Document):
    """A drill of one backup. Times are UTC.

    `rto_seconds` was measured, from the first byte fetched to the last question about the copy. `rpo_seconds` is what
    would be lost if the source were gone when the drill began: computed from the newest backup's snapshot, or measured
    by the canary row in the copy. `present` are the complete backups of the set in the store, by id, with their
    manifests' digests: what vanishes later is missed by it.
    """

    verdict: Verdict
    damage: str | None
    environment: str
    project: str
    name: str
    kind: str | None
    backup: str | None
    choice: Choice
    store: str
    manifest_digest: str | None = None
    manifest_signer: str | None = None
    snapshot_at: datetime | None = None
    started_at: datetime
    finished_at: datetime
    rto_seconds: float | None = None
    rto_budget_seconds: int
    rpo_seconds: float | None = None
    rpo_basis: Literal["computed", "measured"] = "computed"
    rpo_budget_seconds: int
    profile: str
    objects: int = 0
    stored_bytes: int = 0
    rows: int = 0
    checks: list[Check]
    phases: list[Phase]
    tables: list[TableComparison] = Field(default_factory=list)
    not_compared: list[str] = Field(default_factory=list)
    tools: dict[str, str] = Field(default_factory=dict)
    runner: str = ""
    present: dict[str, str] = Field(default_factory=dict)

    @property
    def chain(self) -> str:
        """The name of the environment's series."""
        return f"drill-{self.environment}"

    @property
    def label(self) -> str:
        """The set, and the damage of a negative control."""
        return f"-{self.name}" + (f"-control-{self.damage}" if self.damage else "")

    @property
    def subject(self) -> str:
        """The backup and its set."""
        return f"{self.backup or 'no backup'} ({self.name})"

    @property
    def figures(self) -> str:
        """Both objectives with their budgets."""
        measured = " measured" if self.rto_seconds is not None else ""
        return (
            f"RTO {duration(self.rto_seconds)}{measured} (budget {duration(self.rto_budget_seconds)}), "
            f"RPO {duration(self.rpo_seconds)} {self.rpo_basis} (budget {duration(self.rpo_budget_seconds)})"
        )
