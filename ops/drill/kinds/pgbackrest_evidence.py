"""What a drill of pgBackRest's backups leaves behind. Times are UTC, sizes bytes."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from ops.core.formatting import duration, size, utc
from ops.core.messages import say
from ops.drill.evidence.document import Check, DatabaseFacts, Facts, OtherDocument, Phase, Questions, Status, Verdict

PROVES = "pgBackRest's backup and its WAL, restored by pgBackRest into a scratch server and read to the last row"

QUESTIONS = Questions(
    backup="Is there a valid backup within the age budget?",
    restore="Did pgBackRest restore every file with its checksum?",
    recovery="Did the server replay its WAL to the requested end, and open?",
    identity="Is it the stanza's server, on a new timeline?",
    moment="Does it contain nothing later than the requested time?",
    databases="Is every database readable to its last row?",
    rows="Does it contain any rows?",
    amcheck="Does pg_amcheck find heap and B-tree indexes in order?",
    time="Was it restored within the recovery time objective (RTO)?",
    clean="Is the scratch server stopped and its folder removed?",
)
MAY_BE_SKIPPED = frozenset({"moment", "amcheck", "time"})
"""What is asked only where there is something to ask: a time, the program, a budget."""


class RecoveredDatabase(DatabaseFacts):
    """One database of the copy. `unsound` names what is not valid in it, which the live one may have too."""

    unsound: list[str] = Field(default_factory=list)
    not_compared: list[str] = Field(default_factory=list)


class Recovered(Facts):
    """Who the copy is. `ended` is PostgreSQL's own reason in the timeline's history file.

    `last_transaction` is the commit time of the last one that was replayed; None when the WAL had none.
    """

    system: str
    timeline: int
    parent_timeline: int | None
    ended: str
    last_transaction: datetime | None


class BackrestEvidence(OtherDocument[RecoveredDatabase]):
    """A drill. `rto_seconds` from the restore's start until the last question; `asked_for` is None for the latest."""

    kind: Literal["pgbackrest"] = "pgbackrest"
    proves: str = PROVES
    verdict: Verdict
    environment: str | None
    stanza: str
    repository: int
    backup: str
    backup_type: str
    backup_stopped_at: datetime
    wal_start: str | None
    wal_stop: str | None
    system: str | None
    server_version: str
    asked_for: datetime | None
    started_at: datetime
    finished_at: datetime
    rto_seconds: float | None = None
    rto_budget_seconds: int | None = None
    size: int
    stored: int | None = None
    recovered: Recovered | None = None
    databases: list[RecoveredDatabase] = Field(default_factory=list)
    tools: dict[str, str] = Field(default_factory=dict)
    checks: list[Check]
    phases: list[Phase]

    @property
    def chain(self) -> str:
        """The name of the stanza's series."""
        return f"backrest-drill-{self.stanza}"

    @property
    def title(self) -> str:
        """Whose backup it was, in a few words."""
        return say("Drill of pgBackRest's backup: {stanza}", stanza=self.stanza)

    @property
    def subject(self) -> str:
        """The backup and its stanza."""
        return f"{self.backup} of {self.stanza}"

    @property
    def figures(self) -> str:
        """Rows and time, and what they prove."""
        return f"{self.rows} rows, RTO {duration(self.rto_seconds)}; proves {self.proves}"

    @property
    def budget(self) -> int | None:
        """Seconds that the recovery may take; None where no limit is set."""
        return self.rto_budget_seconds

    @property
    def facts(self) -> dict[str, str]:
        """What a person asks about the backup and the copy, by its name."""
        last = self.recovered.last_transaction if self.recovered else None
        return {
            "backup": say(
                "{backup} ({type}), repository {repository}",
                backup=self.backup,
                type=self.backup_type,
                repository=self.repository,
            ),
            "ended at": utc(self.backup_stopped_at),
            "size": size(self.size)
            if self.stored is None
            else say("{size}, {stored} stored", size=size(self.size), stored=size(self.stored)),
            "asked for": utc(self.asked_for) if self.asked_for else say("the latest"),
            "last transaction": utc(last) if last else "-",
            "server": self.server_version,
            **self.tools,
        }


def answered(check: Check) -> bool:
    """Return True if a check keeps a drill green."""
    return check.status is Status.PASSED or (check.status is Status.SKIPPED and check.name in MAY_BE_SKIPPED)
