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
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import LiteralString

from psycopg import sql

from ops.backup.records import STREAM_FILE, PostgresRecord
from ops.backup.spool import full, says_full
from ops.errors import RestoreError, RestoreRefusedError, SpoolError
from ops.sources.pg_tools import Connection, Endpoint, Tool, find_tool, run_tool, tool_message, watch_tool

SESSION = {
    "synchronous_commit": "off",  # what a crash of the server would lose, the comparison after the restore would miss
    "maintenance_work_mem": "256MB",  # for each of the two jobs; indexes are sorted in it
}
"""Settings of the sessions that load, which any role may set."""

LISTING = "toc.dat"
"""The file of a directory archive that names all the others."""

_ROWS = re.compile(r"^(\d+); \d+ \d+ (TABLE DATA|BLOBS) ")
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


def restore_archive(  # noqa: PLR0913  # the last three have names at every call
    target: Endpoint,
    folder: Path,
    record: PostgresRecord,
    *,
    jobs: int,
    owner: Endpoint | None = None,
    watch: Callable[[str], None] | None = None,
    arriving: Iterator[object] | None = None,
) -> None:
    """Restore the directory archive `folder` into `target`; tables are loaded as their files come.

    Args:
        target: an empty database.
        folder: the archive.
        record: what the manifest says of it.
        jobs: parallel workers.
        owner: the app's own role there, for what belongs to it.
        watch: given each line that pg_restore says of its work, when it says it.
        arriving: asked for its next when a file is not there yet; comes back when more files are, or ends. Files that
            were waited for are removed when they are loaded.

    Raises:
        RestoreRefusedError: no role may restore all of it.
        RestoreError: pg_restore failed.
        ToolError: no pg_restore that reads the archive.
    """
    with target.connect() as connection:
        foreign = foreign_owners(connection, record)
    runner = choose_role(target, foreign, owner)
    # an archive needs a pg_restore as new as the pg_dump that made it
    tool = find_tool("pg_restore", at_least=record.readable_from)
    with target.environment() as variables:
        listing = run_tool(tool, ["--list", str(archive_in(folder))], variables)
    if listing.returncode != 0:
        raise RestoreError(f"{target}: the dump cannot be listed: {tool_message(listing.stderr)}")
    lines = [line for line in listing.stdout.splitlines() if not line.startswith(";") and not _NEVER.match(line)]
    if record.only_tables:
        _make_schemas(target, record)
    parallel = f"--jobs={jobs}"
    archive = _Archive(folder=folder, tool=tool, watch=watch)
    arriving = arriving or iter(())
    if runner == target:
        _run(archive, target, [line for line in lines if _FIRST.match(line)], [])
        for group in _as_they_come([line for line in lines if not _FIRST.match(line)], folder, arriving):
            _run(archive, target, group, [parallel])
        return
    rest = [line for line in lines if not _FIRST.match(line) or _is_of(line, runner.user)]
    _run(archive, target, [line for line in lines if line not in set(rest)], ["--no-owner"])
    with _lent(target, runner):
        for own, of_one in itertools.groupby(rest, key=lambda line: _is_of(line, runner.user)):
            for group in _as_they_come(list(of_one), folder, arriving):
                _run(archive, runner if own else target, group, [parallel, "--no-owner"])


def archive_in(folder: Path) -> Path:
    """Return the archive in a folder of fetched files: the one that went out as a stream, or the folder itself."""
    stream = folder / STREAM_FILE
    return stream if stream.exists() else folder


def _make_schemas(target: Endpoint, record: PostgresRecord) -> None:
    """Make the schemas of chosen tables, for the owners to make them in: `pg_dump --table` leaves schemas out."""
    owners = sql.SQL(", ").join(sql.Identifier(owner) for owner in record.owners)
    with target.connect() as connection:
        for name in sorted({table.table.partition(".")[0] for table in record.tables} - {"public"}):
            schema = sql.Identifier(name)
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
            connection.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(schema, owners))


def _is_of(line: str, role: str) -> bool:
    """Say whether a line of the listing is `role`'s to restore. Large objects' content is listed with no owner."""
    return line.rsplit(" ", 1)[-1] == role or " BLOBS " in line


def _as_they_come(lines: list[str], folder: Path, arriving: Iterator[object]) -> Iterator[list[str]]:
    """Divide lines of a listing into what can be restored at once; in one piece where every file is there.

    What comes before the rows in an archive needs no other file. What comes after them goes with the last of the rows:
    pg_restore begins with the indexes of a table when its own rows are there.
    """
    more = True
    while more:
        lacking = {line for line in lines if not _is_here(line, folder)}
        if not lacking:
            break
        rows = [line for line in lines if _ROWS.match(line)]
        first = lines.index(rows[0])
        here = lines[:first] + [line for line in rows if line not in lacking]
        if here:
            yield here
            for path in filter(None, (_file_of(line, folder) for line in here)):
                path.unlink(missing_ok=True)
            lines = [line for line in lines if line not in set(here)]
        else:
            more = next(arriving, None) is not None
    yield lines


def _is_here(line: str, folder: Path) -> bool:
    """Say whether what a line of the listing names can be restored from what is in the folder."""
    match = _ROWS.match(line)
    if match is None or not archive_in(folder).is_dir():
        return True
    file = _file_of(line, folder)
    if file is not None:
        return file.exists()
    listed = folder / "blobs.toc"
    return listed.exists() and all((folder / entry.split()[1]).exists() for entry in listed.read_text().splitlines())


def _file_of(line: str, folder: Path) -> Path | None:
    """Return the file of a table's rows; None for what is in several or in none."""
    match = _ROWS.match(line)
    return folder / f"{match[1]}.dat" if match and match[2] == "TABLE DATA" else None


@dataclass(frozen=True, kw_only=True)
class _Archive:
    """What is restored from, with what, and who wants to know of each table."""

    folder: Path
    tool: Tool
    watch: Callable[[str], None] | None


def _run(archive: _Archive, endpoint: Endpoint, lines: list[str], options: list[str]) -> None:
    if not lines:
        return
    with TemporaryDirectory(prefix="ancla-list-") as temporary, endpoint.environment() as variables:
        chosen = Path(temporary) / "list"
        chosen.write_text("\n".join(lines) + "\n")
        path = archive_in(archive.folder)
        form = "directory" if path.is_dir() else "custom"
        command = [f"--format={form}", "--exit-on-error", "--no-password", f"--use-list={chosen}", *options]
        command += [f"--dbname={endpoint.database}", str(path)]
        variables["PGOPTIONS"] = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
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
