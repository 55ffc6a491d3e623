"""What a drill leaves behind: facts a person or an auditor can hold against the next drill, as one JSON document."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EVIDENCE_VERSION = 1


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


class Phase(Facts):
    """A stretch of the drill. `begin` is in seconds after the drill's start."""

    name: str
    begin: float
    seconds: float


class TableComparison(Facts):
    """One table in the backup's snapshot and in the restored copy; None where it is absent."""

    table: str
    expected_rows: int | None
    found_rows: int | None
    method: str
    equal: bool


class Evidence(Facts):
    """A drill. Times are UTC.

    `rto_seconds` was measured, from the first byte fetched to the last table compared; `rpo_seconds` is computed: the
    age of the snapshot when the drill began.
    """

    evidence_version: Literal[1] = EVIDENCE_VERSION
    verdict: Literal["green", "red"]
    damage: str | None
    environment: str
    project: str
    database: str
    backup: str | None
    store: str
    manifest_digest: str | None = None
    snapshot_at: datetime | None = None
    started_at: datetime
    finished_at: datetime
    rto_seconds: float | None = None
    rto_budget_seconds: int
    rpo_seconds: float | None = None
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

    @property
    def red(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.status is Status.FAILED]

    def summary(self) -> str:
        """Return what is wrong, in one line; empty for a green drill."""
        parts = [f"{check.name}: {'; '.join(check.problems[:3]) or check.answer}" for check in self.red]
        return " | ".join(parts)


def write_json(evidence: Evidence, folder: Path) -> Path:
    """Write the document into `folder`, under a name that sorts by time; returns its path."""
    path = folder / f"{stem(evidence)}.json"
    path.write_text(evidence.model_dump_json(indent=2) + "\n")
    return path


def stem(evidence: Evidence) -> str:
    """Return the name of a drill's files, without the ending."""
    control = f"-control-{evidence.damage}" if evidence.damage else ""
    return f"drill-{evidence.environment}-{evidence.database}-{evidence.started_at:%Y%m%dT%H%M%SZ}{control}"
