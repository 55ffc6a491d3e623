"""Parse `pgbackrest info --output=json` into types, and check the age of its newest backup.

Its JSON is kept stable by pgBackRest and grows: unknown fields are ignored, missing ones are None.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ops.core.errors import StoreError, ToolError
from ops.pgbackrest.driver import Pgbackrest
from ops.repository.catalog import CLOCK_MISLEADS
from ops.repository.freshness import Freshness

OK, MISSING_PATH, NO_BACKUP, MISSING_DATA = 0, 1, 2, 3
"""Status codes of a repository; for 4 to 6 and 99 pgBackRest's own message is shown."""

MESSAGE_LENGTH = 300


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Span(_Part):
    """First and last WAL segment; None for a backup of a stopped server."""

    start: str | None = None
    stop: str | None = None


class Times(_Part):
    """Seconds since 1970, UTC."""

    start: int
    stop: int


class Repository(_Part):
    """Stored bytes: `size` with the backups it refers to (None if files are stored in blocks), `delta` its own."""

    size: int | None = None
    delta: int | None = None


class Sizes(_Part):
    """Bytes: `size` of the complete server, `delta` copied by this backup."""

    size: int
    delta: int
    repository: Repository = Repository()


class Of(_Part):
    """The server's number in the stanza's history, and the repository."""

    id: int
    repository: int = Field(default=1, alias="repo-key")


class Backup(_Part):
    """One backup. `error` means that pages of the server had wrong checksums during the backup."""

    label: str
    type: Literal["full", "diff", "incr"]
    error: bool | None = None
    timestamp: Times
    info: Sizes
    archive: Span | None = None
    prior: str | None = None
    database: Of

    @property
    def started_at(self) -> datetime:
        """Return when it started."""
        return datetime.fromtimestamp(self.timestamp.start, UTC)

    @property
    def stopped_at(self) -> datetime:
        """Return when it became consistent: the first moment that it can be recovered to."""
        return datetime.fromtimestamp(self.timestamp.stop, UTC)

    @property
    def timeline(self) -> int | None:
        """Return the server's timeline when it was made; a WAL segment's name begins with it."""
        return int(self.archive.stop[:8], 16) if self.archive and self.archive.stop else None


class Server(_Part):
    """A server of the stanza's history; the highest `id` of a repository is the current one."""

    id: int
    repository: int = Field(default=1, alias="repo-key")
    system: int = Field(alias="system-id")
    version: str


class Condition(_Part):
    """A status from pgBackRest."""

    code: int
    message: str
    lock: dict[str, Any] = Field(default_factory=dict)


class RepositoryState(_Part):
    """One repository of the stanza."""

    key: int
    status: Condition


class Archive(_Part):
    """The WAL of one server in a repository; there may be gaps."""

    id: str
    min: str | None = None
    max: str | None = None
    database: Of


class Stanza(_Part):
    """A stanza with its backups, oldest first."""

    name: str
    status: Condition
    backup: tuple[Backup, ...] = ()
    archive: tuple[Archive, ...] = ()
    db: tuple[Server, ...] = ()
    repo: tuple[RepositoryState, ...] = ()

    @property
    def running(self) -> bool:
        """Return True if a backup is being made on this computer."""
        return bool((self.status.lock.get("backup") or {}).get("held"))

    @property
    def repositories(self) -> tuple[int, ...]:
        """Return the keys of its repositories."""
        return tuple(state.key for state in self.repo) or tuple(sorted({s.repository for s in self.db})) or (1,)

    def server(self, backup: Backup) -> Server | None:
        """Return the server that a backup was made from."""
        of = backup.database
        return next((s for s in self.db if (s.id, s.repository) == (of.id, of.repository)), None)

    def usable(self, backup: Backup, now: datetime) -> str | None:
        """Return why a backup does not count; None if it does."""
        newest = max((s.id for s in self.db if s.repository == backup.database.repository), default=backup.database.id)
        if backup.database.id != newest:
            return f"{backup.label} is of an earlier server of this stanza"
        if backup.error:
            return f"{backup.label} has pages with wrong checksums: the server's files were damaged"
        if backup.stopped_at > now + CLOCK_MISLEADS:
            return f"{backup.label} is of the future: {backup.stopped_at:%Y-%m-%d %H:%M} UTC"
        return None


def parse(text: str) -> list[Stanza]:
    """Parse the JSON of `pgbackrest info`.

    Raises:
        ToolError: it is not in pgBackRest's known format.
    """
    try:
        return [
            Stanza.model_validate(item) for item in json.loads(text, strict=False)
        ]  # it quotes bytes of files unchanged
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ToolError(f"pgbackrest info: {where}: {first['msg']}; is this pgbackrest newer than Ancla?") from None
    except (ValueError, TypeError):
        raise ToolError("pgbackrest info: printed no JSON; run `pgbackrest info` and see") from None


def read(pgbackrest: Pgbackrest, stanza: str) -> Stanza:
    """Read one stanza.

    Raises:
        StoreError: there is no such stanza, or no repository answers.
        OpsError: see `ops.pgbackrest.driver`.
    """
    found = parse(pgbackrest.run("info", "--output=json", stanza=stanza).stdout)
    chosen = next((item for item in found if item.name == stanza), None)
    if chosen is None or chosen.status.code in (MISSING_PATH, MISSING_DATA):
        raise StoreError(
            f"stanza {stanza}: {chosen.status.message if chosen else 'is not there'}; "
            f"see to its name, or run `pgbackrest --stanza={stanza} stanza-create`"
        )
    if not chosen.backup and chosen.status.code not in (OK, NO_BACKUP):
        raise StoreError(f"stanza {stanza}: {'; '.join(unwell(chosen)) or chosen.status.message}")
    return chosen


def unwell(stanza: Stanza) -> list[str]:
    """Return the unhealthy repositories in pgBackRest's words, except those that just have no backup yet."""
    return [
        f"repo{state.key}: {_short(state.status.message)}"
        for state in stanza.repo
        if state.status.code not in (OK, NO_BACKUP)
    ]


def freshness(stanza: Stanza, budget_hours: float, now: datetime) -> list[Freshness]:
    """Find the newest usable backup of each repository."""
    return [_newest(stanza, key, budget_hours * 3600, now) for key in stanza.repositories]


def counted(stanza: Stanza, now: datetime, repository: int | None = None) -> Sequence[Backup]:
    """Return the backups that count, oldest first; only of `repository` if it is given."""
    return sorted(
        (
            backup
            for backup in stanza.backup
            if repository in (None, backup.database.repository) and stanza.usable(backup, now) is None
        ),
        key=lambda backup: (backup.timestamp.stop, -backup.database.repository),
    )


def _short(message: str) -> str:
    """Return the first lines of a long message; with a wrong passphrase it quotes what it decrypted."""
    lines = [line.strip() for line in message.splitlines() if not line.startswith("HINT:")]
    said = "".join(c if c.isascii() and c.isprintable() else "?" for c in " ".join(lines[:2]))
    return said if len(said) <= MESSAGE_LENGTH else f"{said[:MESSAGE_LENGTH]}…"


def _newest(stanza: Stanza, repository: int, budget: float, now: datetime) -> Freshness:
    own = [backup for backup in stanza.backup if backup.database.repository == repository]
    newest = next(reversed(counted(stanza, now, repository)), None)
    after = own[own.index(newest) + 1 :] if newest else own
    return Freshness(
        name=stanza.name,
        store=f"repo{repository}",
        budget=budget,
        backup=newest.label if newest else None,
        age=max(0.0, (now - newest.stopped_at).total_seconds()) if newest else None,
        passed_over=tuple(reason for backup in after if (reason := stanza.usable(backup, now)))[-3:],
    )
