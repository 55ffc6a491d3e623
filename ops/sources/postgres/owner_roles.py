"""Decide which roles make the objects of a dump, and hold the memberships that this takes.

From PostgreSQL 16 on, a member may be allowed to act as the role (SET: give it objects), to use its rights (INHERIT:
read and alter what it owns), or neither: a role that one has created is granted with ADMIN alone. Who has ADMIN may
grant itself the rest, so a restore does, and revokes it at the end. A restore that is killed leaves the grant behind.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import LiteralString, cast

import psycopg
from psycopg import sql

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


@dataclass(frozen=True, kw_only=True)
class _Borrowed:
    """A role whose membership is lent to the connected one; `options` is what that one had granted itself before."""

    role: str
    options: str | None


def _to_borrow(connection: Connection, roles: Iterable[str]) -> list[_Borrowed]:
    """List those of these roles over which the connected one has ADMIN, and so may grant itself the rest."""
    if connection.info.server_version < SPLIT_SINCE:
        return []
    query = (
        "SELECT r.rolname, CASE WHEN own.oid IS NOT NULL THEN format('INHERIT %%s, SET %%s',"
        " CASE WHEN own.inherit_option THEN 'TRUE' ELSE 'FALSE' END,"
        " CASE WHEN own.set_option THEN 'TRUE' ELSE 'FALSE' END) END"
        " FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_roles me ON me.rolname = current_user"
        " LEFT JOIN pg_catalog.pg_auth_members own"
        " ON own.roleid = r.oid AND own.member = me.oid AND own.grantor = me.oid"
        " WHERE r.rolname = ANY(%s) AND EXISTS (SELECT FROM pg_catalog.pg_auth_members a"
        " WHERE a.roleid = r.oid AND a.member = me.oid AND a.admin_option) ORDER BY 1"
    )
    rows = connection.execute(query, [list(roles)]).fetchall()
    return [_Borrowed(role=role, options=options) for role, options in rows]


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
        borrowed, _ = _lacking(connection, record, owner)
        for one in borrowed:
            _grant(connection, target, one.role, "INHERIT TRUE, SET TRUE")
    try:
        yield
    except BaseException:
        with suppress(OpsError, psycopg.Error):  # the first error is the one to report
            _give_back(target, borrowed)
        raise
    _give_back(target, borrowed)


def _give_back(target: Endpoint, borrowed: list[_Borrowed]) -> None:
    with target.connect() as connection:
        for one in borrowed:
            _grant(connection, target, one.role, one.options)


def _grant(connection: Connection, target: Endpoint, role: str, options: str | None) -> None:
    """Grant the target's role these options of a membership, by itself; revoke what it granted itself if `None`."""
    names = {"role": sql.Identifier(role), "me": sql.Identifier(target.user)}
    if options is None:
        statement = sql.SQL("REVOKE {role} FROM {me} GRANTED BY {me}").format(**names)
    else:
        with_options = sql.SQL(cast("LiteralString", options))
        statement = sql.SQL("GRANT {role} TO {me} WITH {options} GRANTED BY {me}").format(**names, options=with_options)
    try:
        connection.execute(statement)
    except psycopg.Error as error:
        raise RestoreError(f"{target}: cannot change its membership in {role}: {one_line(error)}") from None
