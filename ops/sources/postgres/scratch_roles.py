"""Create the roles of a scratch server: the recorded ones with memberships, and a login that restores like theirs.

A backup contains code that runs while it is loaded: a CHECK, an index or a trigger calls functions that any role of the
live database wrote. So no login here is a superuser, is in a role with access to files or programs of this computer, or
has CREATEROLE, which before 16 could join those. The superuser creates extensions, while nothing of the backup exists
except empty schemas; after that it does not connect to that database.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql
from pydantic import SecretStr

from ops.core.errors import RestoreError
from ops.repository.records import PostgresRecord
from ops.sources.postgres.catalog_queries import unquoted
from ops.sources.postgres.scratch_server import free_name
from ops.sources.postgres.tools import Connection, Endpoint, find_tool, one_line, script

LOADER = "ancla_drill_loader"
MAKERS = "ancla_drill_makers"
"""Role whose members may create in every schema: a non-superuser can only give objects to an owner with that right."""

LIMITS = ("must be superuser", "only superuser", "permission denied for language", "permission denied to ")
"""PostgreSQL's messages where only a superuser may make something."""
ADVICE = "a drill runs nothing of a backup as superuser: restore this one into a server of its own, and look there"

_NAME = r'(?:"(?:[^"]|"")+"|[^\s"(.;]+)'
_EXTENSION = re.compile(rf"^CREATE EXTENSION IF NOT EXISTS ({_NAME}) WITH SCHEMA ({_NAME});$", re.MULTILINE)
_ENTRY = re.compile(r"^\d+; \d+ \d+ (?P<kind>[A-Z ]*[A-Z]) (?P<schema>\S+) (?P<name>.*) \S*$")
_GRANTED = re.compile(
    "(TABLE|SEQUENCE|COLUMN|FUNCTION|PROCEDURE|TYPE|DOMAIN|SCHEMA|LANGUAGE|FOREIGN DATA WRAPPER|FOREIGN SERVER)"
    f" (?P<name>{_NAME})"
)
_LEFT_OUT = re.compile(r"EXTENSION |PUBLICATION |COMMENT PUBLICATION ")
_OF_OTHERS = {"ACL", "DEFAULT ACL", "COMMENT", "EXTENSION", "TABLE DATA", "SEQUENCE SET", "SECURITY LABEL"}
"""Kinds of entries that may belong to an object that is not in the archive."""
_PUBLIC = {("-", "public")}
"""It is in every database, and in an archive only if it differs from a new database's."""

_SCHEMAS = "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
_CONFIGURATION = (
    "SELECT n.nspname, c.relname FROM pg_catalog.pg_extension e, pg_catalog.unnest(e.extconfig) AS t(oid)"
    " JOIN pg_catalog.pg_class c ON c.oid = t.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
)


@dataclass(frozen=True, kw_only=True)
class Loader:
    """`server` is the superuser's endpoint of an empty database, `endpoint` the loader's of the one being loaded."""

    server: Endpoint
    endpoint: Endpoint
    owner: Endpoint | None
    roles: tuple[str, ...]
    name: str
    makers: str | None

    def take(self) -> None:
        """Make the loader the owner of the new, empty database."""
        database, name = sql.Identifier(self.endpoint.database), sql.Identifier(self.name)
        with _session(self.server) as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, name))
            if self.makers is not None:
                give = sql.SQL("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {} TO {}")
                connection.execute(give.format(database, sql.Identifier(self.makers)))
        with _session(self.server.on(self.endpoint.database)) as connection:
            if connection.info.server_version < 150000:  # the database's owner has had it since
                connection.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(name))

    def prepare(self, script: str, names: Iterable[str]) -> None:
        """Create the extensions as superuser; if a superuser dumped, let the recorded roles make what it could.

        An extension that cannot be created here is left to the restore, which names it.

        Args:
            script: pg_restore's script for the extensions, which has their schemas.
            names: the extensions that the restoring role may create; no other is created.
        """
        wanted = set(names)
        found = [(unquoted(name), unquoted(schema)) for name, schema in _EXTENSION.findall(script)]
        makers, loader = sql.Identifier(self.makers or self.name), sql.Identifier(self.name)
        with _session(self.server.on(self.endpoint.database)) as connection:
            for name, schema in found:
                if name in wanted:
                    make = sql.SQL("CREATE EXTENSION {} WITH SCHEMA {}")
                    with suppress(psycopg.Error):
                        connection.execute(make.format(sql.Identifier(name), sql.Identifier(schema)))
            if self.makers is None:
                return
            for (schema,) in connection.execute(_SCHEMAS).fetchall():
                give = sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}")
                connection.execute(give.format(sql.Identifier(schema), makers))
            for (wrapper,) in connection.execute("SELECT fdwname FROM pg_catalog.pg_foreign_data_wrapper").fetchall():
                give = sql.SQL("GRANT USAGE ON FOREIGN DATA WRAPPER {} TO {}")
                connection.execute(give.format(sql.Identifier(wrapper), makers))
            for table in connection.execute(_CONFIGURATION).fetchall():
                give = sql.SQL("GRANT SELECT, INSERT, UPDATE ON {} TO {}")
                connection.execute(give.format(sql.Identifier(*table), loader))

    def close(self) -> None:
        """Revoke the rights that the recorded roles did not have."""
        with _session(self.server) as connection:
            for role in self.roles if self.makers else ():
                take = sql.SQL("REVOKE {} FROM {}")
                connection.execute(take.format(sql.Identifier(self.makers or ""), sql.Identifier(role)))


def make_loader(server: Endpoint, database: str, record: PostgresRecord) -> Loader:
    """Create the recorded roles and the login, with a password that nobody else knows, on a new scratch server.

    Where a superuser dumped, one restores too: the login is a member of all recorded roles, and makes what they may
    no longer make. Otherwise it acts for the role that owned the database, with the memberships of that role, and
    objects it may not make are made by the app's own role, as in a restore.
    """
    names = {*record.named_roles, record.owner or record.dumped_as, record.dumped_as}
    names |= {one.role for one in record.memberships if one.member in names}
    recorded = tuple(sorted(names))
    by_superuser = record.dumped_as in record.superusers
    name, makers = free_name(LOADER, recorded), free_name(MAKERS, recorded) if by_superuser else None
    password = SecretStr(secrets.token_urlsafe(24))
    join, me = sql.SQL("GRANT {} TO {}"), sql.Identifier(name)
    with _session(server) as connection:
        for role in recorded:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
        for one in record.memberships:
            if {one.member, one.role} <= names and one.role not in record.superusers:
                connection.execute(join.format(sql.Identifier(one.role), sql.Identifier(one.member)))
        login = sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER {} NOCREATEROLE NOREPLICATION BYPASSRLS PASSWORD {}")
        create = sql.SQL("NOCREATEDB" if by_superuser else "CREATEDB")
        connection.execute(login.format(me, create, sql.Literal(password.get_secret_value())))
        connection.execute(
            sql.SQL("REVOKE CONNECT ON DATABASE {}, template1 FROM PUBLIC").format(sql.Identifier(server.database))
        )
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(server.database), me))
        if makers is not None:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(makers)))
            for member, group in [
                (name, makers),
                *((name, role) for role in recorded),
                *((r, makers) for r in recorded),
            ]:
                connection.execute(join.format(sql.Identifier(group), sql.Identifier(member)))
            if connection.info.server_version >= 140000:  # what an owner revoked from himself is compared too
                connection.execute(join.format(sql.Identifier("pg_read_all_data"), me))
            foreign = list[str]()
        else:
            owner = record.owner if record.owner and record.owner not in record.superusers else record.dumped_as
            connection.execute(join.format(sql.Identifier(owner), me))
            query = (
                "SELECT owner FROM unnest(%s::text[]) owner"
                " WHERE NOT pg_catalog.pg_has_role(%s::name, owner::name, 'MEMBER')"
            )
            foreign = [row[0] for row in connection.execute(query, [list(record.owners), name]).fetchall()]
        app = None
        if len(foreign) == 1 and foreign[0] not in record.superusers:
            alter = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")
            connection.execute(alter.format(sql.Identifier(foreign[0]), sql.Literal(password.get_secret_value())))
            app = replace(server, user=foreign[0], password=password, database=database)
    endpoint = replace(server, user=name, password=password, database=database)
    return Loader(server=server, endpoint=endpoint, owner=app, roles=recorded, name=name, makers=makers)


@contextmanager
def _session(endpoint: Endpoint) -> Generator[Connection]:
    with endpoint.connect() as connection:
        try:
            connection.execute("SET search_path = ''")
            yield connection
        except psycopg.Error as error:
            raise RestoreError(f"{endpoint}: the scratch server refuses: {one_line(error)}") from None


def restorable(lines: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the lines of an archive's list that the loader restores, and descriptions of what is not restored.

    The latter are entries without rows that only a superuser may make: publications, and grants on objects
    outside the archive, that is, PostgreSQL's own and those of extensions. Extensions already exist.
    """
    entries = [(line, _ENTRY.match(line)) for line in lines]
    there = {
        (entry["schema"], name)
        for _, entry in entries
        if entry and entry["kind"] not in _OF_OTHERS
        for name in (entry["name"], entry["name"].partition("(")[0])  # a function's name includes its arguments
    }
    kept: list[str] = []
    left_out: list[str] = []
    for line, entry in entries:
        kind, name = (entry["kind"], entry["name"]) if entry else ("", "")
        granted = _GRANTED.match(name) if kind == "ACL" else None
        if kind == "PUBLICATION":
            left_out.append(f"publication {name}: not restored, some are a superuser's to make")
        elif granted and entry and (entry["schema"], unquoted(granted["name"])) not in there | _PUBLIC:
            left_out.append(f"grants on {name}: not restored, it is PostgreSQL's own or an extension's")
        elif not _LEFT_OUT.match(f"{kind} {name}"):
            kept.append(line)
    return kept, left_out


def script_of(archive: Path, record: PostgresRecord, lines: Iterable[str]) -> str:
    """Return the SQL of the extensions among the lines of an archive's list.

    Raises:
        RestoreError: pg_restore cannot read the archive.
        ToolError: there is no pg_restore that can read the archive.
    """
    tool = find_tool("pg_restore", at_least=record.readable_from)
    extensions = [line for line in lines if _kind(line) == "EXTENSION"]
    return script(tool, archive, extensions, [], os.environ)


def _kind(line: str) -> str:
    entry = _ENTRY.match(line)
    return entry["kind"] if entry else ""
