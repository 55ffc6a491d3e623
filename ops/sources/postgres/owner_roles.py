"""Decide which roles make the objects of a dump, and hold the memberships that this takes.

From PostgreSQL 16 on, a member may be allowed to act as the role (SET: give it objects), to use its rights (INHERIT:
read and alter what it owns), or neither: a role that one has created is granted with ADMIN alone. Who has ADMIN may
grant itself the rest, so a restore does, and revokes it at the end. Until then the comment of the lent role says so, by
the same transaction: what a killed restore leaves is taken back by the next one of the same role. A role without
CREATEROLE may not write that comment; then a grant that a kill leaves behind stays.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

import psycopg
from psycopg import errors, sql
from pydantic import BaseModel, ValidationError

from ops.core.errors import OpsError, RestoreError, RestoreRefusedError
from ops.repository.records import PostgresRecord
from ops.sources.postgres.tools import Connection, Endpoint, one_line

SPLIT_SINCE = 160000
"""Version of the server whose memberships have the options SET and INHERIT."""


def may_act_as(connection: Connection, roles: Iterable[str]) -> set[str]:
    """Return those of these roles that the connected one may give objects to and then use as its own."""
    rights = ["SET", "USAGE"] if connection.info.server_version >= SPLIT_SINCE else ["MEMBER"]
    query = (
        "SELECT rolname FROM pg_catalog.pg_roles r WHERE rolname = ANY(%s) AND NOT EXISTS"
        " (SELECT FROM unnest(%s::text[]) needed WHERE NOT pg_catalog.pg_has_role(r.oid, needed))"
    )
    return {name for (name,) in connection.execute(query, [list(roles), rights]).fetchall()}


class _Options(BaseModel):
    """The options of a membership."""

    inherit: bool
    set: bool


_ALL = _Options(inherit=True, set=True)


@dataclass(frozen=True, kw_only=True)
class _Borrowed:
    """A role whose membership is lent to the connected one; `before` is what that one had granted itself before."""

    role: str
    before: _Options | None
    comment: str | None


class _Note(BaseModel):
    """What the comment of a lent role says: to whom, by which session, and what was before. `since` is its start."""

    lent_to: str
    session: int
    since: str
    before: _Options | None
    comment: str | None


_MARK = "ancla: "
_SESSION = "SELECT pid, backend_start::text FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()"


def _to_borrow(connection: Connection, roles: Iterable[str]) -> list[_Borrowed]:
    """List those of these roles over which the connected one has ADMIN, and so may grant itself the rest."""
    if connection.info.server_version < SPLIT_SINCE:
        return []
    query = (
        "SELECT r.rolname, own.inherit_option, own.set_option, pg_catalog.shobj_description(r.oid, 'pg_authid')"
        " FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_roles me ON me.rolname = current_user"
        " LEFT JOIN pg_catalog.pg_auth_members own"
        " ON own.roleid = r.oid AND own.member = me.oid AND own.grantor = me.oid"
        " WHERE r.rolname = ANY(%s) AND EXISTS (SELECT FROM pg_catalog.pg_auth_members a"
        " WHERE a.roleid = r.oid AND a.member = me.oid AND a.admin_option) ORDER BY 1"
    )
    return [
        _Borrowed(
            role=role, before=None if inherit is None else _Options(inherit=inherit, set=may_set), comment=comment
        )
        for role, inherit, may_set, comment in connection.execute(query, [list(roles)]).fetchall()
    ]


def _lacking(
    connection: Connection, record: PostgresRecord, owner: Endpoint | None
) -> tuple[list[_Borrowed], list[str]]:
    """Return the owners whose membership can be lent, and those that nothing here may act as."""
    lacking = {*record.owners} - may_act_as(connection, record.owners)
    borrowed = _to_borrow(connection, lacking - {owner.user if owner else ""})
    return borrowed, sorted(lacking - {one.role for one in borrowed})


def choose_role(connection: Connection, target: Endpoint, record: PostgresRecord, owner: Endpoint | None) -> Endpoint:
    """Return the role for objects that the target's role may not make; the target's own role if there are none.

    Args:
        connection: of the target's role, to any database of the server.
        target: the database to fill.
        record: describes the dump.
        owner: the app's own role there.

    Raises:
        RestoreRefusedError: no known role may restore all of it.
    """
    _, foreign = _lacking(connection, record, owner)
    if not foreign:
        return target
    if owner is not None and foreign == [owner.user]:
        return replace(owner, database=target.database)
    names, user = (sql.SQL(", ").join(map(sql.Identifier, given)).as_string() for given in (foreign, [target.user]))
    grant, by = f"GRANT {names} TO {user}", ""
    if connection.info.server_version >= SPLIT_SINCE:  # where CREATEROLE alone grants nothing
        grant, by = f"{grant} WITH INHERIT TRUE, SET TRUE", " as a role that has ADMIN over them, or as a superuser"
    raise RestoreRefusedError(
        f"{target}: {target.user} may not make objects of {', '.join(foreign)}; "
        f"run `{grant}`{by} first, or create the roles that are missing"
    )


@contextmanager
def acting_for_owners(target: Endpoint, record: PostgresRecord, owner: Endpoint | None) -> Generator[None]:
    """Hold the memberships that the target's role may grant itself; they are afterwards as they were before.

    Raises:
        RestoreError: the server refuses a grant.
    """
    with target.connect() as connection:
        _take_back(connection, target)
        borrowed, _ = _lacking(connection, record, owner)
    with ExitStack() as opened:
        if borrowed:
            _lend(opened.enter_context(_session(target)), target, borrowed)
        try:
            yield
        except BaseException:
            with suppress(OpsError, psycopg.Error):  # the first error is the one to report
                _give_back(target, borrowed)
            raise
        _give_back(target, borrowed)


@contextmanager
def _session(target: Endpoint) -> Generator[tuple[int, str]]:
    """Hold a session that shows that this restore is at work; yields its number and start. It may break meanwhile."""
    with ExitStack() as opened:
        row = opened.enter_context(target.connect()).execute(_SESSION).fetchone()
        kept = opened.pop_all()
    try:
        yield row or (0, "")
    finally:
        with suppress(OpsError, psycopg.Error):
            kept.close()


def _lend(session: tuple[int, str], target: Endpoint, borrowed: list[_Borrowed]) -> None:
    with target.connect() as connection:
        for one in borrowed:
            note = _Note(
                lent_to=target.user, session=session[0], since=session[1], before=one.before, comment=one.comment
            )
            with connection.transaction():
                if _note(one.comment) is None:
                    with suppress(errors.InsufficientPrivilege), connection.transaction():
                        _comment(connection, one.role, _MARK + note.model_dump_json())
                _grant(connection, target, one.role, _ALL)


def _give_back(target: Endpoint, borrowed: list[_Borrowed]) -> None:
    if not borrowed:
        return
    with target.connect() as connection:
        for one in borrowed:
            with connection.transaction():
                _grant(connection, target, one.role, one.before)
                if _note(one.comment) is None:
                    with suppress(errors.InsufficientPrivilege), connection.transaction():
                        _comment(connection, one.role, one.comment)


def _take_back(connection: Connection, target: Endpoint) -> None:
    """Take back what restores of this role lent themselves before they were killed."""
    if connection.info.server_version < SPLIT_SINCE:
        return
    query = (
        "SELECT rolname, pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_roles"
        " WHERE pg_catalog.starts_with(pg_catalog.shobj_description(oid, 'pg_authid'), %s) ORDER BY 1"
    )
    at_work = "SELECT FROM pg_catalog.pg_stat_activity WHERE pid = %s AND backend_start = %s::timestamptz"
    for role, text in connection.execute(query, [_MARK]).fetchall():
        note = _note(text)
        if note is None or note.lent_to != target.user:
            continue
        if connection.execute(at_work, [note.session, note.since]).fetchone() is None:
            # refused where its rights have changed since: that is no reason not to restore
            with suppress(RestoreError, psycopg.Error), connection.transaction():
                _grant(connection, target, role, note.before)
                _comment(connection, role, note.comment)


def _note(comment: str | None) -> _Note | None:
    """Return the note in a role's comment; None where that is another text."""
    try:
        return _Note.model_validate_json((comment or "").removeprefix(_MARK))
    except ValidationError:
        return None


def _comment(connection: Connection, role: str, text: str | None) -> None:
    connection.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(role), sql.Literal(text)))


def _grant(connection: Connection, target: Endpoint, role: str, options: _Options | None) -> None:
    """Grant the target's role these options of a membership, by itself; revoke what it granted itself if `None`."""
    names = {"role": sql.Identifier(role), "me": sql.Identifier(target.user)}
    if options is None:
        statement = sql.SQL("REVOKE {role} FROM {me} GRANTED BY {me}").format(**names)
    else:
        words = {name: sql.SQL("TRUE" if on else "FALSE") for name, on in options}
        template = sql.SQL("GRANT {role} TO {me} WITH INHERIT {inherit}, SET {set} GRANTED BY {me}")
        statement = template.format(**names, **words)
    try:
        connection.execute(statement)
    except psycopg.Error as error:
        raise RestoreError(f"{target}: cannot change its membership in {role}: {one_line(error)}") from None
