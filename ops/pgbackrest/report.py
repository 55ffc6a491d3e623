"""Define the reports of `ops backrest`: printed here, and parsed when the command ran on the droplet."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from ops.pgbackrest import info


class _Report(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NewBackup(_Report):
    """A new backup."""

    stanza: str
    label: str
    type: str
    seconds: float
    size: int
    stored: int | None
    warnings: tuple[str, ...] = ()


class Answer(_Report):
    """The result of `check` or `verify`; without problems it is positive."""

    stanza: str
    problems: tuple[str, ...]
    seconds: float


class ListedBackup(_Report):
    """A backup of a stanza. Sizes in bytes; `not_counted` is the reason if it does not count as a complete backup."""

    label: str
    type: str
    repo: int
    started_at: AwareDatetime
    stopped_at: AwareDatetime
    size: int
    copied: int
    stored: int | None
    wal_start: str | None
    wal_stop: str | None
    prior: str | None
    error: bool | None
    not_counted: str | None


class ArchivedWal(_Report):
    """First and last WAL segment of one server version in one repository."""

    id: str
    repo: int
    min: str | None
    max: str | None


class RepositoryFreshness(_Report):
    """The newest complete backup of a repository, and whether it is within the age budget."""

    repo: str
    backup: str | None
    age_seconds: float | None
    fresh: bool


class StanzaReport(_Report):
    """A stanza's backups and archive; without problems each repository is healthy and has a recent backup."""

    stanza: str
    status: str
    running: bool
    budget_hours: float
    backups: tuple[ListedBackup, ...]
    archive: tuple[ArchivedWal, ...]
    freshness: tuple[RepositoryFreshness, ...]
    problems: tuple[str, ...]

    @classmethod
    def of(cls, stanza: info.Stanza, budget: float, now: datetime) -> Self:
        """Build the report of a stanza; `budget` is the newest backup's maximum age in hours."""
        looked = info.freshness(stanza, budget, now)
        return cls(
            stanza=stanza.name,
            status=stanza.status.message,
            running=stanza.running,
            budget_hours=budget,
            backups=tuple(
                ListedBackup(
                    label=backup.label,
                    type=backup.type,
                    repo=backup.database.repository,
                    started_at=backup.started_at,
                    stopped_at=backup.stopped_at,
                    size=backup.info.size,
                    copied=backup.info.delta,
                    stored=backup.info.repository.delta,
                    wal_start=backup.archive.start if backup.archive else None,
                    wal_stop=backup.archive.stop if backup.archive else None,
                    prior=backup.prior,
                    error=backup.error,
                    not_counted=stanza.usable(backup, now),
                )
                for backup in stanza.backup
            ),
            archive=tuple(
                ArchivedWal(id=wal.id, repo=wal.database.repository, min=wal.min, max=wal.max)
                for wal in stanza.archive
                if wal.max
            ),
            freshness=tuple(
                RepositoryFreshness(repo=item.store, backup=item.backup, age_seconds=item.age, fresh=item.fresh)
                for item in looked
            ),
            problems=(*info.unwell(stanza), *(str(item) for item in looked if not item.fresh)),
        )
