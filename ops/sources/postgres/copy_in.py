"""Copy rows from the store directly into their tables, without a file in between, and only if all bytes are right.

Each table is one transaction, committed once its bytes have been verified against the dump. An empty table is
truncated in it first, so that PostgreSQL can load its rows frozen: no later read has to rewrite its pages.
For an archive whose files are empty, pg_restore prints the COPY statement of each table.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString, cast

import psycopg

from ops.core.errors import RestoreError
from ops.core.workdir import private_folder
from ops.core.workers import cancel_on_error
from ops.repository.records import LISTING, ROWS_FILE
from ops.repository.tail_reader import CancelledError
from ops.sources.base import Pour
from ops.sources.postgres.catalog_queries import full_name, unquoted
from ops.sources.postgres.mending import stops_everything
from ops.sources.postgres.tools import Connection, Endpoint, Tool, one_line, script, timeouts, with_parent_death_signal

_NAME = r'(?:"(?:[^"]|"")+"|[^\s".(]+)'
_STATEMENT = re.compile(
    rf"^-- File: (?P<file>{ROWS_FILE.pattern})\n--\n+"
    rf"COPY (?P<table>{_NAME}\.{_NAME}) (?P<columns>(?:\(.*\) )?)FROM stdin;$",
    re.MULTILINE,
)
_COPY = re.compile(
    rf"^COPY (?P<table>{_NAME}\.{_NAME}) (?P<columns>(?:\(.*\) )?)FROM stdin;$", re.MULTILINE | re.DOTALL
)
FROM_ENTRY = re.compile(r"from TOC entry (\d+);")
"""Matches pg_restore's name of the entry that it could not restore."""
_ENCODING = re.compile(r"^SET client_encoding = '(\w+)';$", re.MULTILINE)

_SESSION = "SET row_security = off; SET search_path = ''; SET xmloption = content; SET client_min_messages = warning"
"""The settings of pg_restore's own sessions, and no more: a CHECK may depend on the database's time zone."""

_IS_TABLE = "SELECT relkind = 'r' FROM pg_catalog.pg_class WHERE oid = %s::text::regclass"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of one table to be copied. `table` and `columns` are quoted for SQL."""

    table: str
    columns: str
    encoding: str
    pour: Pour


def rows_of(tool: Tool, archive: Path, pours: Mapping[str, Pour], variables: Mapping[str, str]) -> dict[str, Rows]:
    """Return the rows that can be copied directly into their tables, by file, in the order of `pours`.

    Args:
        tool: pg_restore.
        archive: the folder with the list of the archive.
        pours: streams of the files' bytes.
        variables: environment variables.

    Raises:
        RestoreError: pg_restore cannot read the archive.
    """
    with private_folder() as temporary:
        folder = temporary
        shutil.copy(archive / LISTING, folder)
        for file in pours:
            (folder / file).touch()
        chosen = [f"{file.removesuffix('.dat')};" for file in pours]
        text = script(tool, folder, chosen, ["--data-only", "--verbose", "--format=directory"], variables)
    encoding = _ENCODING.search(text)
    found = {match["file"]: match for match in _STATEMENT.finditer(text)} if encoding else {}
    return {
        file: Rows(table=match["table"], columns=match["columns"], encoding=encoding[1], pour=pour)
        for file, pour in pours.items()
        if encoding and (match := found.get(file)) and (encoding[1] == "UTF8" or match[0].isascii())
    }


def archived_rows(tool: Tool, archive: Path, line: str, variables: Mapping[str, str]) -> Rows:
    """Return the rows of one entry of an archive's list, read by pg_restore.

    Raises:
        RestoreError: pg_restore cannot read them.
    """
    with _script_of(tool, archive, line, variables) as lines:
        head = _head(lines)
    match = _COPY.search(head)
    encoding = _ENCODING.search(head)
    if match is None or encoding is None:
        raise RestoreError(f"{archive.name}: pg_restore gives no rows of: {line}")

    def pour(write: Callable[[bytes], object]) -> None:
        with _script_of(tool, archive, line, variables) as lines:
            _head(lines)
            for row in lines:
                if row == b"\\.\n":
                    return
                write(row)

    return Rows(table=match["table"], columns=match["columns"], encoding=encoding[1], pour=pour)


@contextmanager
def _script_of(tool: Tool, archive: Path, line: str, variables: Mapping[str, str]) -> Generator[Iterator[bytes]]:
    with private_folder() as temporary:
        chosen = temporary / "list"
        chosen.write_text(f"{line}\n")
        command = [*with_parent_death_signal(), tool.path, "--data-only", f"--use-list={chosen}", "--file=-", archive]
        with subprocess.Popen(
            command, env=dict(variables), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        ) as process:
            try:
                yield iter(process.stdout or ())
            finally:
                process.kill()


def _head(lines: Iterator[bytes]) -> str:
    """Read up to the first row; a name in the statement may contain a line break."""
    head = b""
    for line in lines:
        head += line
        if line.endswith(b"FROM stdin;\n") and b"\nCOPY " in head:
            break
    return head.decode(errors="replace")


@dataclass(kw_only=True)
class Pouring:
    """Tables being filled. `refused` are those whose rows the server refused: they are empty again."""

    futures: list[Future[None]] = field(default_factory=list[Future[None]])
    refused: list[Rows] = field(default_factory=list[Rows])

    def check(self) -> None:
        """Raise the error of a table that failed for another reason."""
        for future in self.futures:
            if future.done():
                future.result()


@contextmanager
def pouring(endpoint: Endpoint, rows: Iterable[Rows], *, jobs: int, session: Mapping[str, str]) -> Generator[Pouring]:
    """Fill tables while the block runs, and wait for all of them at its end.

    On any error except the server's check of a row, the copies in progress are aborted.

    Args:
        endpoint: the database, and the role that may fill them.
        rows: of different tables, in the order to start.
        jobs: how many at once, each over its own connection.
        session: settings of those connections.

    Raises:
        RestoreError: the server or the connection failed.
        OpsError: errors of `Rows.pour`.
    """
    stop, result = threading.Event(), Pouring()

    def one(of_one: Rows) -> None:
        with endpoint.connect() as connection:
            try:
                fill(connection, of_one, session, stop=stop)
            except psycopg.Error as error:
                if stops_everything(error):
                    raise RestoreError(f"{endpoint}: rows of {of_one.table}: {one_line(error)}") from None
                result.refused.append(of_one)

    with ThreadPoolExecutor(jobs, thread_name_prefix="rows") as pool:
        result.futures = [pool.submit(one, of_one) for of_one in rows]
        with cancel_on_error(result.futures, stop):
            yield result


def prepare(connection: Connection) -> None:
    """Prepare a session like pg_restore's own, without any timeout, whatever its name on that server."""
    connection.execute(_SESSION)
    for name in timeouts(connection):
        connection.execute("SELECT pg_catalog.set_config(%s, '0', false)", [name])


def fill(
    connection: Connection,
    rows: Rows,
    session: Mapping[str, str],
    *,
    path: str = "",
    stop: threading.Event | None = None,
) -> None:
    """Fill one table in one transaction, with `path` as its search path; raises `psycopg.Error`."""
    prepare(connection)
    for name, value in {**session, "client_encoding": rows.encoding}.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", [name, value])
    with connection.transaction():
        copy(connection, rows, path=path, stop=stop)


def copy(connection: Connection, rows: Rows, *, path: str = "", stop: threading.Event | None = None) -> None:
    """Copy the rows of one table inside a transaction; raises `psycopg.Error`, and what `Rows.pour` raises."""
    connection.execute("SELECT pg_catalog.set_config('search_path', %s, true)", [path])
    with connection.cursor() as cursor:
        freeze = ""
        if (
            cursor.execute(_IS_TABLE, [rows.table]).fetchone() == (True,)
            and not cursor.execute(_sql(f"SELECT FROM ONLY {rows.table} LIMIT 1")).fetchall()
        ):
            cursor.execute(_sql(f"TRUNCATE ONLY {rows.table}"))
            freeze = " WITH (FREEZE)"
        with cursor.copy(_sql(f"COPY {rows.table} {rows.columns}FROM STDIN{freeze}")) as copying:

            def write(block: bytes) -> None:
                if stop is not None and stop.is_set():
                    raise CancelledError("stopped")
                copying.write(block)

            rows.pour(write)


def recorded_name(table: str) -> str:
    """Return the name of a table as in manifests, from its quoted SQL name."""
    match = re.fullmatch(rf"({_NAME})\.({_NAME})", table)
    return full_name(unquoted(match[1]), unquoted(match[2])) if match else table


def _sql(statement: str) -> LiteralString:
    return cast("LiteralString", statement)
