"""What a drill leaves behind: facts a person or an auditor can hold against the next drill, as one JSON document.

The document is canonical: its keys sorted, no space, UTF-8. The file holds exactly those bytes, so that a changed
character is seen even where it changes no fact. `ops.drill.evidence.chain` gives it its place and its signature.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ops.core.signing import Signature, Signer, same_key, signed_by
from ops.repository.records import TableFingerprint

EVIDENCE_VERSION = 2
EVIDENCE = Path("drills")
"""The folder where evidence goes, and is looked for, when none is named."""


class Status(StrEnum):
    """How a check ended. `skipped` says that what it needs was not reached."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Facts(BaseModel):
    """Base of every group."""

    model_config = ConfigDict(extra="forbid")


class Check(Facts):
    """One question with its answer. `problems` name the objects or tables that are wrong."""

    name: str
    question: str
    status: Status
    answer: str
    problems: list[str] = Field(default_factory=list)


class Questions(dict[str, str]):
    """What a kind of drill asks: the questions by the names of their checks, in the order they are shown in."""

    def passed(self, name: str, answer: str) -> Check:
        """Build a check that passed."""
        return Check(name=name, question=self[name], status=Status.PASSED, answer=answer)

    def failed(self, name: str, answer: str, problems: Iterable[str] = ()) -> Check:
        """Build a check that failed."""
        return Check(name=name, question=self[name], status=Status.FAILED, answer=answer, problems=list(problems))

    def skipped(self, name: str, answer: str = "not reached") -> Check:
        """Build a check that was not made."""
        return Check(name=name, question=self[name], status=Status.SKIPPED, answer=answer)

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


class Document(Facts):
    """Base of what a drill leaves. Each kind names its own fields, in its own order."""

    if TYPE_CHECKING:  # a field of a base would be written before theirs
        started_at: datetime
        checks: list[Check]
        signed: Signature | None

    @property
    def red(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.status is Status.FAILED]

    def summary(self) -> str:
        """Return what is wrong, in one line; empty for a green drill."""
        return " | ".join(f"{check.name}: {'; '.join(check.problems[:3]) or check.answer}" for check in self.red)

    def sealed(self, signer: Signer | None) -> Self:
        """Return a copy signed over all that it says; unsigned without a key."""
        if signer is None:
            return self.model_copy(update={"signed": None})
        signature = signer.sign(signed_content(self.model_dump(mode="json")))
        return self.model_copy(update={"signed": Signature(key=signer.public, signature=signature)})

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        return canonical(self.model_dump(mode="json"))


DatabaseT = TypeVar("DatabaseT", bound=DatabaseFacts)


class OtherDocument(Document, Generic[DatabaseT]):
    """Base of what a drill of somebody else's backup leaves: the provider's, pgBackRest's."""

    if TYPE_CHECKING:
        proves: str
        verdict: Literal["green", "red"]
        rto_seconds: float | None
        databases: list[DatabaseT]
        phases: list[Phase]
        page: Attachment | None

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


class SkippedObject(Facts):
    """One thing that the restore could not make, in the server's words, and what would mend it."""

    what: str
    why: str
    mend: str = ""


class Choice(Facts):
    """How the backup was chosen: `named`, or by a way of `ops.drill.selection`; `seed` repeats a random choice."""

    way: str
    seed: int | None = None


class Attachment(Facts):
    """A file beside the document that belongs to it; SHA-256 in hex."""

    file: str
    sha256: str


class Evidence(Document):
    """A drill of one backup. Times are UTC.

    `rto_seconds` was measured, from the first byte fetched to the last question about the copy. `rpo_seconds` is what
    would be lost if the source were gone when the drill began: computed from the newest backup's snapshot, or measured
    by the canary row in the copy. `sequence` counts the documents of an environment from 1, `previous` is the SHA-256
    of the one before.
    """

    evidence_version: Literal[2] = EVIDENCE_VERSION
    sequence: int = 0
    previous: str | None = None
    verdict: Literal["green", "in part", "red"]
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
    skipped: list[SkippedObject] = Field(default_factory=list)
    tools: dict[str, str] = Field(default_factory=dict)
    runner: str = ""
    log: Attachment | None = None
    page: Attachment | None = None
    signed: Signature | None = None


def canonical(document: Any) -> bytes:
    """Return JSON in the one way it can be written: sorted keys, no space, UTF-8, no NaN.

    Raises:
        ValueError: a number or a text that has no such form.
    """
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()  # fmt: skip


def signed_content(document: dict[str, Any]) -> bytes:
    """Return what a signature is over: the document without it."""
    return canonical({key: value for key, value in document.items() if key != "signed"})


def wrong_signature(signed: Signature | None, document: dict[str, Any], keys: Sequence[str]) -> str:
    """Say what is wrong with a signature; nothing for a right one."""
    if signed is None:
        return "not signed"
    if not any(same_key(signed.key, key) for key in keys):
        return f"signed by a key that is not believed: {signed.key[:80]}"
    exact = len(signed.key.split()) == 2 and _is_canonical_base64(signed.signature)
    if not exact or not signed_by(signed.key, signed.signature, signed_content(document)):
        return "changed after it was signed"
    return ""


def _is_canonical_base64(text: str) -> bool:
    """Say whether a text is the one way to write its bytes: the last character has bits that decoding ignores."""
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode() == text
    except ValueError:
        return False


def digest(content: bytes) -> str:
    """Return SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def stem(evidence: Evidence) -> str:
    """Return the name of the document's file, without the ending; names sort by their place in the chain."""
    control = f"-control-{evidence.damage}" if evidence.damage else ""
    moment = f"{evidence.started_at:%Y%m%dT%H%M%SZ}"
    return f"drill-{evidence.environment}-{evidence.sequence:06d}-{moment}-{evidence.name}{control}"
