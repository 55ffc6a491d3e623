"""Filling an empty database from a dump, as whoever may do it, with the owners and grants of the source.

Three ways, tried in this order:

1. The role may act as every owner (it is a superuser, or a member of them): owners and grants as recorded.
2. What it may not make belongs to one other role whose endpoint is given (`owner`): each role restores its own objects,
   in the order of the archive.
3. Neither: refused before anything is made, with the GRANT that would help.

Schemas, their grants and extensions go first: a non-superuser may give a table only to a role that has CREATE on the
schema already, and pg_dump puts grants last.
"""

from __future__ import annotations

import errno
import itertools
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import LiteralString

from psycopg import sql

from ops.core.errors import RestoreError, RestoreRefusedError, SpoolError
from ops.core.workdir import full, says_full
from ops.repository.records import STREAM_FILE, PostgresRecord
from ops.sources.postgres.copy_in import Delivery, Rows, pouring, rows_of
from ops.sources.postgres.database import keeps_tablespaces
from ops.sources.postgres.table_subset import Part
from ops.sources.postgres.tools import Connection, Endpoint, Tool, find_tool, run_tool, tool_message, watch_tool

SESSION = {
    "synchronous_commit": "off",  # what a crash of the server would lose, the comparison after the restore would miss
    "maintenance_work_mem": "256MB",  # for each of the two jobs; indexes are sorted in it
    "default_transaction_read_only": "off",
}
"""Settings of the sessions that load, which any role may set."""

_ROWS = re.compile(r"^(\d+); \d+ \d+ (TABLE DATA|BLOBS) ")
_LARGE_OBJECTS = re.compile(r"^\d+; \d+ \d+ BLOB METADATA ")
"""Makes empty ones, among the rows of tables, since 17; what went before has a BLOB for each, before all rows."""
_SCHEMA = re.compile(r"^\d+; \d+ \d+ SCHEMA ")
_PUBLIC = re.compile(r"^\d+; \d+ \d+ SCHEMA - public (.*)$")
"""Gives it an owner. Where that one is not recorded it is who made the cluster, as in the clusters before 15."""
_FIRST = re.compile(r"^\d+; \d+ \d+ (SCHEMA|ACL - SCHEMA|EXTENSION) ")
_NEVER = re.compile(r"^\d+; \d+ \d+ (COMMENT - EXTENSION|COMMENT - SCHEMA public|SUBSCRIPTION|EVENT TRIGGER) ?")


def foreign_owners(connection: Connection, record: PostgresRecord) -> list[str]:
    """Name the owners in the dump that the connected role may not act as; a role that does not exist is one of them."""
    query = (
        "SELECT owner FROM unnest(%s::text[]) owner LEFT JOIN pg_catalog.pg_roles r ON r.rolname = owner"
        " WHERE r.oid IS NULL OR NOT pg_catalog.pg_has_role(r.oid, 'MEMBER') ORDER BY 1"
    )
    return [row[0] for row in connection.execute(query, [list(record.owners)])]


def choose_role(target: Endpoint, foreign: list[str], owner: Endpoint | None) -> Endpoint:
    """Return the role that restores what the target's role may not make: the target's own when there is nothing.

    Raises:
        RestoreRefusedError: nobody that is known may restore all of it.
    """
    if not foreign:
        return target
    if owner is not None and set(foreign) == {owner.user}:
        return replace(owner, database=target.database)
    raise RestoreRefusedError(
        f"{target}: {target.user} may not make objects of {', '.join(foreign)}; "
        f"run `GRANT {', '.join(foreign)} TO {target.user}` first, or create the roles that are missing"
    )


def restore_archive(  # noqa: PLR0913  # all but three have names at every call
    target: Endpoint,
    folder: Path,
    record: PostgresRecord,
    *,
    jobs: int,
    owner: Endpoint | None = None,
    watch: Callable[[str], None] | None = None,
    delivery: Delivery | None = None,
    part: Part | None = None,
    prepare: Callable[[list[str]], list[str]] | None = None,
) -> None:
    """Restore the directory archive `folder` into `target`.

    Args:
        target: an empty database.
        folder: the archive.
        record: what the manifest says of it.
        jobs: parallel workers.
        owner: the app's own role there, for what belongs to it.
        watch: given each line that pg_restore says of its work, when it says it.
        delivery: brings what is not in `folder`, where the list of the archive is.
        part: the tables whose rows are restored, where it is not all; told what is left out with the others.
        prepare: asked with the archive's list, when only empty schemas are there; returns what of it is restored.

    Raises:
        RestoreRefusedError: no role may restore all of it.
        IntegrityError: the archive has no rows of a table of `part`.
        RestoreError: pg_restore failed.
        ToolError: no pg_restore that reads the archive.
    """
    with target.connect() as connection:
        foreign = foreign_owners(connection, record)
        options = () if keeps_tablespaces(connection, record) else ("--no-tablespaces",)
    runner = choose_role(target, foreign, owner)
    # an archive needs a pg_restore as new as the pg_dump that made it
    tool = find_tool("pg_restore", at_least=record.readable_from)
    with target.environment() as variables:
        listing = run_tool(tool, ["--list", str(archive_in(folder))], variables)
        if listing.returncode != 0:
            raise RestoreError(f"{target}: the dump cannot be listed: {tool_message(listing.stderr)}")
        lines = [line for line in listing.stdout.splitlines() if not line.startswith(";") and not _NEVER.match(line)]
        lines = [line for line in lines if not (public := _PUBLIC.match(line)) or public[1] in record.owners]
        if part is not None:
            lines = part.of(lines, tool, archive_in(folder), variables)
    archive = _Archive(
        folder=folder,
        tool=tool,
        options=options,
        watch=watch,
        jobs=jobs,
        rows=_straight(tool, folder, delivery, target),
        delivery=delivery,
    )
    if prepare is not None:
        schemas = [line for line in lines if _SCHEMA.match(line)]
        _run(archive, target, schemas, [])
        lines = [line for line in prepare(lines) if line not in schemas]
    if runner == target:
        _run(archive, target, [line for line in lines if _FIRST.match(line)], [])
        _load(archive, target, [line for line in lines if not _FIRST.match(line)], [])
        return
    rest = [line for line in lines if not _FIRST.match(line) or _is_of(line, runner.user)]
    of_runner = set(rest)
    _run(archive, target, [line for line in lines if line not in of_runner], ["--no-owner"])
    with _lent(target, runner):
        for own, of_one in itertools.groupby(rest, key=lambda line: _is_of(line, runner.user)):
            _load(archive, runner if own else target, list(of_one), ["--no-owner"])


def archive_in(folder: Path) -> Path:
    """Return the archive in a folder of fetched files: the one that went out as a stream, or the folder itself."""
    stream = folder / STREAM_FILE
    return stream if stream.exists() else folder


def _is_of(line: str, role: str) -> bool:
    """Say whether a line of the listing is `role`'s to restore. Before 17 large objects' content has no owner there."""
    return line.rsplit(" ", 1)[-1] == role or " BLOBS - BLOBS " in line


def _straight(tool: Tool, folder: Path, delivery: Delivery | None, target: Endpoint) -> dict[str, Rows]:
    """Return the rows that go straight into their table; what cannot is put into `folder`."""
    if delivery is None or not delivery.pours:
        return {}
    with target.environment() as variables:
        rows = rows_of(tool, folder, delivery.pours, variables)
    for file in delivery.pours.keys() - rows.keys():
        with (folder / file).open("wb") as written:
            delivery.pours[file](written.write)
    return rows


def _load(archive: _Archive, endpoint: Endpoint, lines: list[str], options: list[str]) -> None:
    """Restore lines in parallel; rows that go straight into their table between what is before and after all rows."""
    parallel = [f"--jobs={archive.jobs}", *options]
    rows = [line for line in lines if _ROWS.match(line)]
    if archive.delivery is None or not rows:
        _run(archive, endpoint, lines, parallel)
        return
    first, files = lines.index(rows[0]), set(map(_file_of, rows))
    rest = [line for line in lines[first:] if not _ROWS.match(line)]
    empty = [line for line in rest if _LARGE_OBJECTS.match(line)]
    _run(archive, endpoint, lines[:first] + empty, parallel)
    straight = [of_one for file, of_one in archive.rows.items() if file in files]
    # one more at once than processors are counted on: the table that is last is then seldom left alone
    with pouring(endpoint, straight, jobs=archive.jobs + 1, session=SESSION) as check:

        def watch(line: str) -> None:
            check()
            if archive.watch is not None:
                archive.watch(line)

        archive.delivery.files(check)
        _run(replace(archive, watch=watch), endpoint, [r for r in rows if _file_of(r) not in archive.rows], parallel)
    _run(archive, endpoint, [line for line in rest if line not in empty], parallel)


def _file_of(line: str) -> str | None:
    """Return the name of the file of a table's rows; None for what is in several or in none."""
    match = _ROWS.match(line)
    return f"{match[1]}.dat" if match and match[2] == "TABLE DATA" else None


@dataclass(frozen=True, kw_only=True)
class _Archive:
    """What is restored from, with what and how, who wants to know of each table, and the rows that are in no file."""

    folder: Path
    tool: Tool
    options: tuple[str, ...]
    watch: Callable[[str], None] | None
    jobs: int
    rows: Mapping[str, Rows]
    delivery: Delivery | None


def _run(archive: _Archive, endpoint: Endpoint, lines: list[str], options: list[str]) -> None:
    if not lines:
        return
    with TemporaryDirectory(prefix="ancla-list-") as temporary, endpoint.session_environment(SESSION) as variables:
        chosen = Path(temporary) / "list"
        chosen.write_text("\n".join(lines) + "\n")
        path = archive_in(archive.folder)
        form = "directory" if path.is_dir() else "custom"
        command = [
            f"--format={form}",
            "--exit-on-error",
            "--no-password",
            f"--use-list={chosen}",
            *archive.options,
            *options,
        ]
        command += [f"--dbname={endpoint.database}", str(path)]
        if archive.watch is None:
            done = run_tool(archive.tool, command, variables)
        else:
            done = watch_tool(archive.tool, ["--verbose", *command], variables, archive.watch)
    if done.returncode != 0:
        if says_full(done.stderr, done.returncode) and "ERROR:" not in done.stderr:  # that would be the server's disk
            raise SpoolError(full(archive.folder.parent)) from OSError(errno.ENOSPC, "full")
        raise RestoreError(f"{endpoint}: pg_restore failed: {tool_message(done.stderr)}")


@contextmanager
def _lent(target: Endpoint, runner: Endpoint) -> Generator[None]:
    """Give the runner the rights to make its objects, and take back what it did not have before."""
    database, public, role = sql.Identifier(target.database), sql.Identifier("public"), sql.Identifier(runner.user)
    rights: dict[LiteralString, sql.Composed] = {
        "SELECT pg_catalog.has_database_privilege(%s, pg_catalog.current_database(), 'CREATE')": (
            sql.SQL("CREATE ON DATABASE {}").format(database)
        ),
        "SELECT pg_catalog.has_schema_privilege(%s, 'public', 'CREATE')": sql.SQL("CREATE ON SCHEMA {}").format(public),
        "SELECT pg_catalog.has_schema_privilege(%s, 'public', 'USAGE')": sql.SQL("USAGE ON SCHEMA {}").format(public),
    }
    with target.connect() as connection:
        lacking = [right for query, right in rights.items() if not _true(connection, query, runner.user)]
        for right in lacking:
            connection.execute(sql.SQL("GRANT {} TO {}").format(right, role))
    yield
    with target.connect() as connection:
        for right in lacking:
            connection.execute(sql.SQL("REVOKE {} FROM {}").format(right, role))


def _true(connection: Connection, query: LiteralString, user: str) -> bool:
    row = connection.execute(query, [user]).fetchone()
    return row is not None and bool(row[0])
