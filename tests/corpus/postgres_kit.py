"""Put an odd database through backup, drill and restore, and compare with what PostgreSQL's own tools carry.

The four rules: a drill is a restore; one odd object never costs the rest; a sound source is never refused, and a right
copy never called wrong; nothing is lost without being named.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import Any

from ops.repository.age import read_identities
from ops.sources.postgres.source import PostgresDatabase
from ops.sources.postgres.tools import Endpoint, find_tool
from tests.ops.drill_kit import drill, make, silent
from tests.ops.restore_kit import RestoreJob, run

_ROLE = re.compile(r"^-- as (app|doadmin|superuser)$", re.MULTILINE)
_BLOCK = re.compile(r"^-- Name: (.*); Type: (.*); Schema: (.*); Owner: ?(.*)$", re.MULTILINE)
_NOT_OF_BLOCK = re.compile(r"^(--.*|SET .*|\\(un)?restrict.*|)$\n?", re.MULTILINE)

_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname), c.relkind = 'p' FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_|^information_schema$' ORDER BY 1
"""
_OBJECTS = "SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY 1"


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The ways to one database: the superuser's, the managed administrator's and the app's."""

    superuser: Endpoint
    doadmin: Endpoint
    app: Endpoint

    def on(self, database: str) -> Roles:
        return Roles(**{name: getattr(self, name).on(database) for name in ("superuser", "doadmin", "app")})


def create(roles: Roles, name: str) -> None:
    """Make an empty database as a managed cluster has it."""
    with roles.doadmin.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
        connection.execute(f"GRANT CREATE ON DATABASE {name} TO app")
    with roles.on(name).doadmin.connect() as connection:
        connection.execute("GRANT USAGE, CREATE ON SCHEMA public TO app")


def fill(roles: Roles, script: str) -> None:
    """Run a script whose lines `-- as ROLE` say who runs what follows."""
    parts = _ROLE.split(script)
    for role, statements in zip(parts[1::2], parts[2::2], strict=True):
        with getattr(roles, role).connect() as connection:
            connection.execute("SET search_path TO public; SET default_transaction_read_only = off")
            connection.execute(statements.encode())


def rows(endpoint: Endpoint) -> dict[str, Any]:
    """Return the rows of every table and all large objects, whatever the order of rows and columns."""
    found = dict[str, Any]()
    with endpoint.connect() as connection:
        connection.execute("SET search_path TO pg_catalog; SET timezone = 'UTC'; SET statement_timeout = 0")
        for name, is_tree in connection.execute(_TABLES).fetchall():
            only = "" if is_tree else "ONLY "
            query = (
                'SELECT count(*), md5(string_agg(to_jsonb(t)::text, chr(10) ORDER BY to_jsonb(t)::text COLLATE "C"))'
                f" FROM {only}{name} t"
            )
            found[name] = connection.execute(query.encode()).fetchone()
        found["large objects"] = connection.execute(_OBJECTS).fetchall()
    return found


def definitions(endpoint: Endpoint) -> dict[tuple[str, ...], str]:
    """Return what pg_dump writes for each object: its definition, owner, grants and comments."""
    with endpoint.environment() as variables:
        text = _run(["--schema-only"], variables, "pg_dump").decode()
    parts = _BLOCK.split(text)
    return {
        tuple(parts[at : at + 4]): _NOT_OF_BLOCK.sub("", parts[at + 4]).strip() for at in range(1, len(parts) - 1, 5)
    }


def stock_copy(roles: Roles, source: str, name: str) -> Roles:
    """Copy a database by a superuser's pg_dump and pg_restore, which go on after errors."""
    create(roles, name)
    with roles.on(source).superuser.environment() as variables:
        archive = _run(["--format=custom"], variables, "pg_dump")
    with roles.on(name).superuser.session_environment({"default_transaction_read_only": "off"}) as variables:
        _run([f"--dbname={name}"], variables, "pg_restore", stdin=archive, check=False)
    return roles.on(name)


def _run(arguments: list[str], variables: dict[str, str], program: str, *, stdin=b"", check=True) -> bytes:
    command = [find_tool(program, at_least="13").path, "--no-password", *arguments]
    return subprocess.run(command, env=variables, input=stdin, capture_output=True, check=check).stdout


def hold_to_the_rules(roles: Roles, database: str, store, identity) -> None:
    """Back up, drill and restore; raise AssertionError where one of the four rules is broken."""
    there = roles.on(database)
    source = PostgresDatabase(endpoint=there.app)
    source.plan()
    manifest = make(source, identity, store, name="odd")
    record = manifest.source
    evidence = drill(store, identity, name="odd", may_be_empty=True)
    assert evidence.verdict != "red", (evidence.summary(), evidence.skipped, evidence.not_compared)
    job = RestoreJob(
        store=store,
        manifest=manifest,
        admin=roles.doadmin,
        owner=roles.app,
        live=(database,),
        identities=read_identities(identity),
    )
    report = run(job, silent)
    skipped = [str(each) for each in report.skipped]
    assert {each.what for each in report.skipped} == {each.what for each in evidence.skipped}, (
        report.skipped,
        evidence.skipped,
    )
    named = [*record.not_restored, *record.not_compared, *record.warnings, *report.left_out, *skipped]
    copy = roles.on(report.target).superuser
    assert_named(rows(there.superuser), rows(copy), named)
    oracle = stock_copy(roles, database, f"{database}_stock").superuser
    assert_named(definitions(oracle), definitions(copy), named)


def assert_named(expected: dict, found: dict, named: list[str]) -> None:
    """Raise unless all that is expected is found, or named by one of its names."""
    lost = {key: value for key, value in expected.items() if found.get(key) != value}
    for key, value in lost.items():
        words = set(re.findall(r"\w+", key if isinstance(key, str) else key[0])) - {"public"}
        assert any(words & set(re.findall(r"\w+", text)) for text in named), (
            f"{key} is lost and not named: {value!r} became {found.get(key)!r}; named: {named}"
        )
