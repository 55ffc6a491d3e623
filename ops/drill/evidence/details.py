"""What only one kind of drill has in its document. A kind of drill is its class here and its steps in `drill.kinds`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from ops.core.formatting import duration, size, utc
from ops.core.messages import say
from ops.drill.evidence.document import DatabaseFacts, Detail, Document, Facts, TableComparison


def parse_document(content: bytes) -> Document:
    """Parse a stored document; the kinds of this module are known.

    Raises:
        ValidationError: it is no document of a drill, or of a kind that this Ancla does not know.
    """
    return Document.model_validate_json(content)


class Choice(Facts):
    """How the backup was chosen: `named`, or by a way of `ops.drill.selection`; `seed` repeats a random choice."""

    way: str
    seed: int | None = None


class BackupDetail(Detail):
    """A drill of a backup of ours.

    `source` is the kind of the backup's source. `present` are the complete backups of the set in the store, by id,
    with their manifests' digests: what vanishes later is missed by it.
    """

    kind: Literal["backup"] = "backup"
    source: str | None = None
    choice: Choice
    store: str
    manifest_digest: str | None = None
    manifest_signer: str | None = None
    snapshot_at: datetime | None = None
    objects: int = 0
    tables: list[TableComparison] = Field(default_factory=list)
    present: dict[str, str] = Field(default_factory=dict)

    @property
    def proves(self) -> str:
        """What a green drill proves."""
        return say("this backup, restored as `ops restore` does and compared with its snapshot")

    @property
    def measured(self) -> str:
        """From when to when the recovery time was measured."""
        return say("measured, from the first byte fetched to the last check of the copy")

    @property
    def unit(self) -> str:
        """The unit of the document's `rows`."""
        return {"secrets": say("files"), "bucket": say("objects")}.get(self.source or "", say("rows"))

    @property
    def data_at(self) -> datetime | None:
        """The time of the snapshot."""
        return self.snapshot_at

    @property
    def compared(self) -> list[TableComparison]:
        """The tables that were compared with those of the backup's snapshot."""
        return self.tables

    def series(self, document: Document) -> str:
        """Return the name of the environment's series."""
        return f"drill-{document.environment}"

    def label(self, document: Document) -> str:
        """Return the set, and the damage of a negative control."""
        return f"-{document.name}" + (f"-control-{document.damage}" if document.damage else "")

    def title(self, document: Document) -> str:
        """Return which stack's backups they are."""
        stack = f"{document.project} {document.environment}"
        if document.damage is not None:
            return say("Negative control: {stack}", stack=stack)
        return say("Restore drill: {stack}", stack=stack)

    def facts(self, document: Document) -> dict[str, str]:
        """Return what a person asks about the backup, by its name."""
        seed = "" if self.choice.seed is None else f", --seed {self.choice.seed}"
        return {
            "backup": say(
                "{backup} ({way}{seed})", backup=document.backup or "-", way=_way(self.choice.way), seed=seed
            ),
            "store": self.store,
            "snapshot": utc(self.snapshot_at) if self.snapshot_at else "-",
            "size": say("{count} objects, {size}", count=self.objects, size=size(document.stored_bytes)),
            "manifest": self.manifest_digest or "-",
            "by hand": say("RESTORE.md in the backup's folder describes a restore with stock tools"),
        }


def _way(way: str) -> str:
    known = {
        "named": say("named"),
        "latest": say("latest"),
        "random": say("random"),
        "oldest-unverified": say("oldest-unverified"),
    }
    return known.get(way, way)


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


class ForkDetail(Detail):
    """A drill of the provider's restore points. Money is in US dollars.

    `asked_for` is the moment the data should be of, `data_of` the newest commit or canary found in it, if it tells;
    `fork_seconds` from asking for the fork until it was online.
    """

    kind: Literal["provider-restore-point"] = "provider-restore-point"
    cluster: str
    region: str
    server_version: str | None = None
    fork: str | None = None
    asked_for: datetime
    data_of: datetime | None = None
    first_restore_point: datetime
    newest_restore_point: datetime
    newest_budget_hours: int
    fork_seconds: float | None = None
    cost_at_most: float
    cost_limit: float
    prices_read: str
    identity: IdentityFacts | None = None
    databases: list[ForkedDatabase] = Field(default_factory=list)

    @property
    def proves(self) -> str:
        """What a green drill proves."""
        return say("the provider's own backup of the cluster, restored by the provider; not a backup of ours")

    @property
    def data_at(self) -> datetime | None:
        """The time that the data is of, or should be."""
        return self.data_of or self.asked_for

    @property
    def read(self) -> list[DatabaseFacts]:
        """The databases of the fork."""
        return [*self.databases]

    def series(self, document: Document) -> str:
        """Return the name of the environment's series."""
        return f"fork-drill-{document.environment}"

    def title(self, document: Document) -> str:
        """Return whose backup it was."""
        return say("Drill of the provider's backup: {stack}", stack=f"{document.project} {document.environment}")

    def facts(self, document: Document) -> dict[str, str]:
        """Return what a person asks about the backup and the fork, by its name."""
        return {
            "cluster": f"{document.name}, {self.region}",
            "asked for": utc(self.asked_for),
            "data of": utc(self.data_of) if self.data_of else say("it does not tell"),
            "newest restore point": say(
                "{time}, budget {hours} h", time=utc(self.newest_restore_point), hours=self.newest_budget_hours
            ),
            "oldest restore point": utc(self.first_restore_point),
            "server": self.server_version or "-",
            "fork": document.backup or "-",
            "online after": duration(self.fork_seconds),
            "cost": say(
                "at most {cost:.2f} US dollars, limit {limit:.2f} US dollars",
                cost=self.cost_at_most,
                limit=self.cost_limit,
            ),
        }


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


class PgbackrestDetail(Detail):
    """A drill of pgBackRest's backups. `asked_for` is None for the latest; sizes are bytes."""

    kind: Literal["pgbackrest"] = "pgbackrest"
    repository: int
    backup_type: str
    backup_stopped_at: datetime
    wal_start: str | None = None
    wal_stop: str | None = None
    system: str
    server_version: str
    asked_for: datetime | None
    size: int
    recovered: Recovered | None = None
    databases: list[RecoveredDatabase] = Field(default_factory=list)

    @property
    def proves(self) -> str:
        """What a green drill proves."""
        return say(
            "pgBackRest's backup and its WAL, restored by pgBackRest into a scratch server and read to the last row"
        )

    @property
    def data_at(self) -> datetime | None:
        """The time of the last transaction; without one, that of the backup."""
        return (self.recovered and self.recovered.last_transaction) or self.backup_stopped_at

    @property
    def read(self) -> list[DatabaseFacts]:
        """The databases of the copy."""
        return [*self.databases]

    def series(self, document: Document) -> str:
        """Return the name of the stanza's series."""
        return f"backrest-drill-{document.name}"

    def title(self, document: Document) -> str:
        """Return whose backup it was."""
        return say("Drill of pgBackRest's backup: {stanza}", stanza=document.name)

    def facts(self, document: Document) -> dict[str, str]:
        """Return what a person asks about the backup and the copy, by its name."""
        last = self.recovered.last_transaction if self.recovered else None
        return {
            "backup": say(
                "{backup} ({type}), repository {repository}",
                backup=document.backup or "-",
                type=self.backup_type,
                repository=self.repository,
            ),
            "ended at": utc(self.backup_stopped_at),
            "size": say("{size}, {stored} stored", size=size(self.size), stored=size(document.stored_bytes))
            if document.stored_bytes
            else size(self.size),
            "asked for": utc(self.asked_for) if self.asked_for else say("the latest"),
            "last transaction": utc(last) if last else "-",
            "server": self.server_version,
        }
