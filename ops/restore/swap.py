"""Swap a restored database with the live one, and back, by renaming: no data moves.

Neither database can be renamed while somebody is connected to it, so sessions are ended and new ones refused for the
moment between the two renames (milliseconds; an app that reconnects sees one refused connection). Each step is done
from a session in the *other* database, so no third one is needed. The replaced database keeps its data and gets a
comment with its history, which `undo` reads. The comment is written before the first rename: the state left by a
killed swap shows in names and comments; the same command finishes the swap, or `undo` reverts it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from ops.core.errors import DatabaseError, RestoreError, RestoreRefusedError, SourceError
from ops.sources.postgres.target import comment, cut
from ops.sources.postgres.tools import Connection, Endpoint, one_line

VERIFIED = re.compile(
    r"ancla: restore of (\S+) \((.+?)\) begun \S+, verified(?: in part: without (?P<without>.+))?", re.DOTALL
)
"""Groups: the backup, the source database, and what could not be made."""
REPLACED = re.compile(r"ancla: was (.+?) until ([0-9T:Z-]+), replaced by (.+?)(?:; its comment was: (.+))?", re.DOTALL)
"""Groups: the live name, until when, the database that replaced it, and its former comment."""
ANYWHERE = ("defaultdb", "postgres", "template1")
"""Databases that exist on most servers, to connect to when both of the two refuse."""

QUIET_SECONDS = 15
"""Seconds for terminated sessions to end."""

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Swap:
    """The renames: `live` becomes `before`, and `copy` becomes `live`. `sessions` will be ended.

    Steps already done by a killed swap are not repeated. `copy` is `live` if it had not renamed anything yet.
    `without` lists what the copy lacks, if it was restored in part.
    """

    live: str
    copy: str
    before: str
    backup: str
    sessions: int
    without: str = ""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Endpoints: the administrator, who renames, and the app's role, whose sessions only it may end."""

    admin: Endpoint
    owner: Endpoint


def plan_promote(cluster: Cluster, live: str, copy: str, now: datetime) -> Swap:
    """Check all preconditions and plan; change nothing.

    Args:
        cluster: its endpoints.
        live: the live database.
        copy: the database to take its place.
        now: the current time.

    Raises:
        RestoreRefusedError: the copy does not exist, is the live one, was not verified by its restore, or is of another
            database.
    """
    suffix = f"_before_{now:%Y%m%d%H%M%S}"
    before = cut(live, suffix)
    with _anywhere(cluster, live, copy) as connection:
        comments = _comments(connection)
        sessions = len(_users(connection, live))
    if copy == live:
        raise RestoreRefusedError(f"{copy}: is the live database already")
    begun = max(_replaced(comments, live), default=None)  # perhaps by a killed swap
    if begun is not None and begun.name != live and live not in comments:
        before = begun.name
    bears_copy = copy
    if copy not in comments:
        if begun is None or begun.copy != copy or not VERIFIED.fullmatch(comments.get(live, "")):
            raise RestoreRefusedError(f"{copy}: no such database; there are: {', '.join(sorted(comments))}")
        before, bears_copy = begun.name, live
    verified = VERIFIED.fullmatch(comments[bears_copy])
    if verified is None and ", verified in part: " in comments[bears_copy]:
        raise RestoreRefusedError(
            f"{copy}: has only the rows of chosen tables; `ops restore` without --table makes a complete copy"
        )
    if verified is None:
        raise RestoreRefusedError(
            f"{copy}: no restore has verified it (its comment: {comments[copy] or 'none'}); `ops restore` makes one"
        )
    if verified[2] != live:
        raise RestoreRefusedError(f"{copy}: is a copy of {verified[2]} and must not replace {live}; give --name")
    return Swap(
        live=live, copy=copy, before=before, backup=verified[1], sessions=sessions, without=verified["without"] or ""
    )


def plan_undo(cluster: Cluster, live: str) -> Swap:
    """Find the former name of `live` and the name that the copy gets back; change nothing.

    Raises:
        RestoreRefusedError: nothing was replaced.
    """
    with _anywhere(cluster, live) as connection:
        replaced = _replaced(_comments(connection), live)
        sessions = len(_users(connection, live))
    if not replaced:
        raise RestoreRefusedError(f"{live}: it has replaced no database here; there is nothing to undo")
    last = max(replaced)
    return Swap(live=live, copy=last.name, before=last.copy, backup="", sessions=sessions)


def run(cluster: Cluster, swap: Swap, report: Report) -> None:
    """Rename both databases. If it is killed midway, run it again to finish, or `undo` to revert.

    Raises:
        RestoreError: a rename was refused; everything was reverted, or the message says what to run.
    """
    stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    with _anywhere(cluster, swap.copy, swap.before, swap.live) as connection:
        comments = _comments(connection)
        _open(cluster, connection, {swap.live, swap.copy, swap.before})
    into = swap.copy != swap.live and swap.copy in comments
    away = into and swap.live in comments
    if into and swap.backup:
        former = swap.live if away else swap.before
        text = f"ancla: was {swap.live} until {stamp}, replaced by {swap.copy}"
        if own := _own_comment(comments[former]):
            text += f"; its comment was: {own}"
        _comment(cluster, former, text, via=swap.copy)
    if away:
        try:
            _rename(cluster, away=swap.live, to=swap.before, via=swap.copy, report=report)
        except RestoreError:
            _comment(cluster, swap.live, comments[swap.live], via=swap.copy)
            raise
    if into:
        try:
            _rename(cluster, away=swap.copy, to=swap.live, via=swap.before, report=report)
        except RestoreError as error:
            if not away:
                raise
            _rename(cluster, away=swap.before, to=swap.live, via=swap.copy, report=report)
            _comment(cluster, swap.live, comments[swap.live], via=swap.copy)
            raise RestoreError(f"{error}; {swap.live} is unchanged") from None
    _conclude(cluster, swap, comments, stamp)


def _conclude(cluster: Cluster, swap: Swap, comments: dict[str, str], stamp: str) -> None:
    """Set the comments of both databases."""
    if swap.backup:
        _comment(cluster, swap.live, f"ancla: restored from {swap.backup}, live since {stamp}", via=swap.live)
        return
    put_aside = comments.get(swap.live if swap.before not in comments else swap.before, "")
    if not VERIFIED.fullmatch(put_aside) and not REPLACED.fullmatch(put_aside):
        text = f"ancla: restore of an earlier backup begun {stamp}, put aside"
        _comment(cluster, swap.before, text, via=swap.live)
    replaced = comments[swap.copy] if swap.copy in comments else comments.get(swap.live, "")
    _comment(cluster, swap.live, _own_comment(replaced), via=swap.live)


def _own_comment(text: str) -> str:
    """Return a database's comment from before a swap replaced it."""
    replaced = REPLACED.fullmatch(text)
    return text if replaced is None else replaced[4] or ""


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
    except DatabaseError as error:
        raise RestoreError(f"{cluster.admin}: cannot rename {away} to {to}: {one_line(error)}") from None


@contextmanager
def _anywhere(cluster: Cluster, *names: str) -> Generator[Connection]:
    """Connect to the first of these databases that accepts the login, or to any other: a name may be missing."""
    first: SourceError | None = None
    with ExitStack() as stack:
        for name in dict.fromkeys([*names, *ANYWHERE]):
            try:
                connection = stack.enter_context(cluster.admin.on(name).connect())
            except SourceError as error:
                first = first or error
                if "FATAL" not in str(error):  # the server did not even answer
                    break
                continue
            yield connection
            return
    raise first or SourceError(f"{cluster.admin}: no database accepts the login")


def _comment(cluster: Cluster, database: str, text: str, *, via: str) -> None:
    try:
        comment(cluster.admin, database, text, via=via)
    except DatabaseError as error:
        raise RestoreError(f"{cluster.admin}: cannot comment on {database}: {one_line(error)}") from None


def _allow(connection: Connection, database: str, *, allowed: bool) -> None:
    statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    connection.execute(statement.format(sql.Identifier(database), sql.Literal(allowed)))


def _open(cluster: Cluster, connection: Connection, names: set[str]) -> None:
    """Allow connections again, which a killed swap may have left forbidden."""
    query = "SELECT datname FROM pg_database WHERE NOT datallowconn AND datname = ANY(%s)"
    try:
        for (name,) in connection.execute(query, [list(names)]).fetchall():
            _allow(connection, name, allowed=True)
    except psycopg.Error as error:
        raise RestoreError(f"{cluster.admin}: cannot open a database again: {one_line(error)}") from None


def _end_sessions(cluster: Cluster, connection: Connection, database: str, via: str) -> None:
    """End their sessions, as both roles: a managed administrator may not end those of a role it is not a member of."""
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = current_user"
    deadline = time.monotonic() + QUIET_SECONDS
    while users := _users(connection, database):
        if time.monotonic() > deadline:
            raise RestoreError(
                f"{database}: sessions of {', '.join(dict.fromkeys(users))} stay connected, which neither "
                f"{cluster.admin.user} nor {cluster.owner.user} may end; end them and run this again"
            )
        connection.execute(query, [database])
        if cluster.owner.user != cluster.admin.user:
            with cluster.owner.on(via).connect() as theirs:
                theirs.execute(query, [database])
        time.sleep(0.1)


def _users(connection: Connection, database: str) -> list[str]:
    """Return the user of each other session there. The server's own workers have none, and end when it is renamed."""
    query = (
        "SELECT coalesce(usename, usesysid::text) FROM pg_stat_activity"
        " WHERE datname = %s AND usesysid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY 1"
    )
    return [str(name) for (name,) in connection.execute(query, [database]).fetchall()]


def _comments(connection: Connection) -> dict[str, str]:
    query = (
        "SELECT datname, coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE NOT datistemplate"
    )
    return {str(name): str(text) for name, text in connection.execute(query).fetchall()}


@dataclass(frozen=True, kw_only=True, order=True)
class _Replaced:
    """The content of a comment: this database was the live one until then, and `copy` replaced it or was about to."""

    until: str
    name: str
    copy: str


def _replaced(comments: dict[str, str], live: str) -> list[_Replaced]:
    found = {name: REPLACED.fullmatch(text) for name, text in comments.items()}
    return [_Replaced(until=m[2], name=name, copy=m[3]) for name, m in found.items() if m and m[1] == live]
