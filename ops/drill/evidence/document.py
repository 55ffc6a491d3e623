"""What a drill leaves behind: facts that a person or an auditor can compare with the next drill, as one JSON document.

Every kind of drill leaves the same document; what only one kind has is its `detail`. It is canonical: its keys sorted,
no space, UTF-8. `ops.drill.evidence.chain` gives it its place, and its signature over the file's bytes, in a file
beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainValidator, SerializeAsAny

from ops.core.formatting import duration
from ops.core.messages import Message, say
from ops.core.models import parse_kind
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
    """One database of a restored server, each table read to its last row."""

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


class TableComparison(Facts):
    """One table in the backup's snapshot and in the restored copy; None where it is absent."""

    table: str
    expected_rows: int | None
    found_rows: int | None
    method: str
    equal: bool


DETAILS: dict[str, type[Detail]] = {}
"""Every class of a detail by its kind; defining a class registers it."""


class Detail(Facts):
    """Base of what only one kind of drill has: its own fields, and how a person is shown the drill.

    A kind has its class in `ops.drill.evidence.details`. `measured` says from when to when its recovery time counts.
    """

    kind: Any  # each class narrows it to its own name

    @classmethod
    def __pydantic_init_subclass__(cls, **more: object) -> None:
        """Register the kind."""
        del more
        DETAILS[str(cls.model_fields["kind"].default)] = cls

    @property
    def proves(self) -> str:
        """What a green drill proves."""
        raise NotImplementedError

    @property
    def measured(self) -> str:
        """From when to when the recovery time was measured."""
        return say("measured, until the last table was read")

    @property
    def unit(self) -> str:
        """The unit of the document's `rows`."""
        return say("rows")

    @property
    def data_at(self) -> datetime | None:
        """The time that the restored data is of."""
        raise NotImplementedError

    @property
    def read(self) -> list[DatabaseFacts]:
        """The databases of the copy, each read to its last row."""
        return []

    @property
    def compared(self) -> list[TableComparison]:
        """The tables that were compared with those of the backup's snapshot."""
        return []

    def series(self, document: Document) -> str:
        """Return the name of the series that its documents belong to."""
        raise NotImplementedError

    def label(self, document: Document) -> str:
        """Return what the name of a document's file ends with, in addition to its place in the series."""
        del document
        return ""

    def title(self, document: Document) -> str:
        """Return whose backup it was, in a few words."""
        raise NotImplementedError

    def facts(self, document: Document) -> dict[str, str]:
        """Return what a person asks about the backup and the copy, by its name."""
        raise NotImplementedError


def _parse_detail(value: object) -> Detail:
    return parse_kind(value, DETAILS, Detail, "drill")


class Document(Facts):
    """A drill, of any kind. Times are UTC.

    `sequence` counts the documents of a `series` from 1, `previous` is the SHA-256 of the one before; the chain gives
    all three. `name` is of the backup set, stanza or cluster; `backup` of its backup, or of the provider's fork.
    `damage` is that of a negative control. `rto_seconds` was measured, until the last question about the copy.
    `rpo_seconds` is what would be lost if the source were gone when the drill began: computed from the newest backup's
    snapshot, or measured by the canary row in the copy; None where the kind does not ask. `profile` is the environment
    of the times. `rows` were restored and read.
    """

    series: str = ""
    sequence: int = 0
    previous: str | None = None
    log: Attachment | None = None
    page: Attachment | None = None
    environment: str | None
    project: str | None = None
    name: str
    backup: str | None
    damage: str | None = None
    verdict: Verdict
    proves: str = ""
    started_at: AwareDatetime
    finished_at: AwareDatetime
    rto_seconds: float | None = None
    rto_budget_seconds: int | None = None
    rpo_seconds: float | None = None
    rpo_basis: Literal["computed", "measured"] = "computed"
    rpo_budget_seconds: int | None = None
    profile: str = ""
    rows: int = 0
    stored_bytes: int = 0
    checks: list[Check]
    phases: list[Phase] = Field(default_factory=list)
    skipped: list[SkippedObject] = Field(default_factory=list)
    not_compared: list[str] = Field(default_factory=list)
    tools: dict[str, str] = Field(default_factory=dict)
    runner: str = ""
    detail: Annotated[SerializeAsAny[Detail], PlainValidator(_parse_detail)]

    @property
    def chain(self) -> str:
        """The name of the series that it belongs to."""
        return self.detail.series(self)

    @property
    def subject(self) -> str:
        """The backup that was drilled, for a title."""
        return f"{self.backup or 'no backup'} of {self.name}"

    @property
    def figures(self) -> str:
        """Times and amounts in one line."""
        objectives = [("RTO", self.rto_seconds, "measured", self.rto_budget_seconds)]
        if self.rpo_budget_seconds is not None:
            objectives.append(("RPO", self.rpo_seconds, self.rpo_basis, self.rpo_budget_seconds))
        texts = [
            f"{name} {duration(seconds)}"
            + (f" {basis}" if seconds is not None else "")
            + (f" (budget {duration(budget)})" if budget is not None else "")
            for name, seconds, basis, budget in objectives
        ]
        return ", ".join([*texts, f"{self.rows} {self.detail.unit}"]) + f"; proves {self.proves}"

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
