"""What a drill of the provider's backup leaves behind, apart from the drills of our own backups: it proves theirs."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from ops.core.formatting import duration, utc
from ops.core.messages import say
from ops.drill.evidence.document import Check, DatabaseFacts, Facts, OtherDocument, Phase, Questions, Verdict

PROVES = "the provider's own backup of the cluster, restored by the provider; not a backup of ours"

QUESTIONS = Questions(
    points="Does the provider list restore points, the newest within the age budget?",
    online="Did the provider make a cluster from it in time?",
    closed="Can only the stack's own droplets reach it?",
    identity="Is it this cluster's data, recovered into another server?",
    moment="Is its data of the time asked for?",
    databases="Is every database of the stack in it, readable to the last row?",
    schema="Are its tables, columns, constraints and indexes those of the live databases?",
    rows="Does it contain any rows?",
    integrity="Are all constraints validated and all indexes valid, as in the live databases?",
    clean="Is the fork destroyed?",
)


class ForkedDatabase(DatabaseFacts):
    """One database of the fork."""

    schema_differences: list[str] = Field(default_factory=list)
    canary: datetime | None = None


class IdentityFacts(Facts):
    """The same system (initdb's number, copied with the data), on a timeline that recovery began."""

    system: str
    live_timeline: int
    fork_system: str
    fork_timeline: int


class ForkEvidence(OtherDocument[ForkedDatabase]):
    """A drill of the provider's restore points. Times are UTC, money in US dollars.

    `asked_for` is the moment the data should be of, `data_of` the newest commit or canary found in it, if it tells;
    `fork_seconds` from asking for the fork until it was online, `rto_seconds` until the last table was read.
    """

    kind: Literal["provider-restore-point"] = "provider-restore-point"
    proves: str = PROVES
    verdict: Verdict
    environment: str
    project: str
    cluster: str
    cluster_name: str
    region: str
    server_version: str | None = None
    fork: str | None = None
    fork_name: str
    asked_for: datetime
    data_of: datetime | None = None
    first_restore_point: datetime
    newest_restore_point: datetime
    newest_budget_hours: float
    started_at: datetime
    finished_at: datetime
    fork_seconds: float | None = None
    rto_seconds: float | None = None
    cost_at_most: float
    cost_limit: float
    prices_read: str
    identity: IdentityFacts | None = None
    databases: list[ForkedDatabase] = Field(default_factory=list)
    checks: list[Check]
    phases: list[Phase]

    @property
    def chain(self) -> str:
        """The name of the environment's series."""
        return f"fork-drill-{self.environment}"

    @property
    def title(self) -> str:
        """Whose backup it was, in a few words."""
        return say("Drill of the provider's backup: {stack}", stack=f"{self.project} {self.environment}")

    @property
    def subject(self) -> str:
        """The cluster whose backup it is."""
        return f"the provider's backup of {self.cluster_name}"

    @property
    def figures(self) -> str:
        """The moment its data is of, rows and time, and what they prove."""
        return (
            f"as of {utc(self.data_of or self.asked_for)}: "
            f"online after {duration(self.fork_seconds)}, {self.rows} rows; proves {self.proves}"
        )

    @property
    def facts(self) -> dict[str, str]:
        """What a person asks about the backup and the fork, by its name."""
        return {
            "cluster": f"{self.cluster_name}, {self.region}",
            "asked for": utc(self.asked_for),
            "data of": utc(self.data_of) if self.data_of else say("it does not tell"),
            "newest restore point": say(
                "{time}, budget {hours:g} h", time=utc(self.newest_restore_point), hours=self.newest_budget_hours
            ),
            "oldest restore point": utc(self.first_restore_point),
            "server": self.server_version or "-",
            "fork": self.fork_name,
            "online after": duration(self.fork_seconds),
            "cost": say(
                "at most {cost:.2f} US dollars, limit {limit:.2f} US dollars",
                cost=self.cost_at_most,
                limit=self.cost_limit,
            ),
        }
