"""Putting a restored database in the place of the live one, and back, by renaming: no data moves.

Neither database can be renamed while somebody is connected to it, so sessions are ended and new ones kept out for the
moment between the two renames (milliseconds; an app that reconnects sees one refused connection). Each step is done
from a session in the *other* database, so that no third one is needed. What was replaced keeps its data and a comment
that says what it was; `undo` reads it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from ops.errors import RestoreError, RestoreRefusedError
from ops.restore import NAME_LENGTH
from ops.sources.pg_tools import Connection, Endpoint, one_line

VERIFIED = re.compile(r"ancla: restore of (\S+) begun \S+, verified")
REPLACED = re.compile(r"ancla: was (\S+) until (\S+), replaced by (\S+)")
QUIET_SECONDS = 15
"""How long sessions that were told to end may take."""

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Swap:
    """What will be renamed: `live` becomes `before`, and `copy` becomes `live`. `sessions` will be ended."""

    live: str
    copy: str
    before: str
    backup: str
    sessions: int


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How to reach it: as the administrator, who renames, and as the app's role, whose sessions only it may end."""

    admin: Endpoint
    owner: Endpoint


def plan_promote(cluster: Cluster, live: str, copy: str, now: datetime) -> Swap:
    """Look and refuse; change nothing.

    Raises:
        RestoreRefusedError: the copy is not there, is the live one, or was not verified by the restore that made it.
    """
    suffix = f"_before_{now:%Y%m%d%H%M%S}"
    with cluster.admin.on(live).connect() as connection:
        comments = _comments(connection)
        sessions = _sessions(connection, live)
    if copy == live:
        raise RestoreRefusedError(f"{copy}: is the live database already")
    if copy not in comments:
        raise RestoreRefusedError(f"{copy}: no such database; there are: {', '.join(sorted(comments))}")
    verified = VERIFIED.fullmatch(comments[copy])
    if verified is None:
        raise RestoreRefusedError(
            f"{copy}: no restore has verified it (its comment: {comments[copy] or 'none'}); `ops restore` makes one"
        )
    before = live[: NAME_LENGTH - len(suffix)] + suffix
    return Swap(live=live, copy=copy, before=before, backup=verified[1], sessions=sessions)


def plan_undo(cluster: Cluster, live: str) -> Swap:
    """Find what `live` was before the last swap, and the name that goes back to the copy; change nothing.

    Raises:
        RestoreRefusedError: nothing was replaced.
    """
    with cluster.admin.on(live).connect() as connection:
        replaced = [
            (found[2], name, found[3])
            for name, text in _comments(connection).items()
            if (found := REPLACED.fullmatch(text)) and found[1] == live
        ]
        sessions = _sessions(connection, live)
    if not replaced:
        raise RestoreRefusedError(f"{live}: no database here was replaced by it; there is nothing to undo")
    _, former, copy = max(replaced)
    return Swap(live=live, copy=former, before=copy, backup="", sessions=sessions)


def run(cluster: Cluster, swap: Swap, report: Report) -> None:
    """Rename both. Killed or refused in between, it leaves one database too few by the live name, and says so.

    Raises:
        RestoreError: a rename was refused; everything was put back, or the message says what to type.
    """
    now = datetime.now(UTC)
    _rename(cluster, away=swap.live, to=swap.before, via=swap.copy, report=report)
    try:
        _rename(cluster, away=swap.copy, to=swap.live, via=swap.before, report=report)
    except RestoreError as error:
        _rename(cluster, away=swap.before, to=swap.live, via=swap.copy, report=report)
        raise RestoreError(f"{error}; {swap.live} is what it was") from None
    undoing = not swap.backup
    text = (
        f"ancla: restore of an earlier backup begun {now:%Y-%m-%dT%H:%M:%SZ}, put aside"
        if undoing
        else f"ancla: was {swap.live} until {now:%Y-%m-%dT%H:%M:%SZ}, replaced by {swap.copy}"
    )
    live_text = "" if undoing else f"ancla: restored from {swap.backup}, live since {now:%Y-%m-%dT%H:%M:%SZ}"
    with cluster.admin.on(swap.live).connect() as connection:
        for name, value in ((swap.before, text), (swap.live, live_text)):
            connection.execute(
                sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(value or None))
            )


def _rename(cluster: Cluster, *, away: str, to: str, via: str, report: Report) -> None:
    report(f"{away} becomes {to}")
    try:
        with cluster.admin.on(via).connect() as connection:
            _allow(connection, away, allowed=False)
            try:
                _end_sessions(cluster, connection, away, via)
                connection.execute(
                    sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(away), sql.Identifier(to))
                )
                away = to
            finally:
                _allow(connection, away, allowed=True)
    except psycopg.Error as error:
        raise RestoreError(f"{cluster.admin}: cannot rename {away} to {to}: {one_line(error)}") from None


def _allow(connection: Connection, database: str, *, allowed: bool) -> None:
    statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    connection.execute(statement.format(sql.Identifier(database), sql.Literal(allowed)))


def _end_sessions(cluster: Cluster, connection: Connection, database: str, via: str) -> None:
    """End them, as both roles: a managed administrator may not end those of a role it is no member of."""
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = current_user"
    deadline = time.monotonic() + QUIET_SECONDS
    while _sessions(connection, database):
        if time.monotonic() > deadline:
            raise RestoreError(f"{database}: sessions of other roles stay connected; end them and run this again")
        connection.execute(query, [database])
        if cluster.owner.user != cluster.admin.user:
            with cluster.owner.on(via).connect() as theirs:
                theirs.execute(query, [database])
        time.sleep(0.1)


def _sessions(connection: Connection, database: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    row = connection.execute(query, [database]).fetchone()
    return row[0] if row else 0


def _comments(connection: Connection) -> dict[str, str]:
    query = (
        "SELECT datname, coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE NOT datistemplate"
    )
    return {str(name): str(text) for name, text in connection.execute(query).fetchall()}
