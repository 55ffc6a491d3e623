"""Rows that go from the store straight into their table: no file between, and nothing stays unless all of it is right.

Each table is one transaction, committed when its bytes have been found to be what was dumped. An empty table is
truncated in it first, so that PostgreSQL may take its rows as frozen: no later read has to write its pages again.
pg_restore, asked for the script of an archive whose files are empty, gives the statement of each table.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import LiteralString, Protocol, cast

import psycopg

from ops.core.errors import RestoreError
from ops.repository.download import all_or_none
from ops.repository.records import LISTING, ROWS_FILE
from ops.repository.tail_reader import CancelledError
from ops.sources.postgres.tools import Endpoint, Tool, one_line, script, timeouts

Pour = Callable[[Callable[[bytes], object]], None]
"""Hands the bytes of a table's file to what it is given, and raises in the end if they are not what was dumped."""


class Delivery(Protocol):
    """What brings a dump that is not in its folder yet."""

    @property
    def pours(self) -> Mapping[str, Pour]:
        """What has the rows of each file that will not be in the folder, in the order to begin with."""
        ...

    def files(self, check: Callable[[], None]) -> None:
        """Wait until all other files are in the folder, or `check` raises. Raises `OpsError` when they do not come."""
        ...


_NAME = r'(?:"(?:[^"]|"")+"|[^\s".(]+)'
_STATEMENT = re.compile(
    rf"^-- File: (?P<file>{ROWS_FILE.pattern})\n--\n+"
    rf"COPY (?P<table>{_NAME}\.{_NAME}) (?P<columns>(?:\(.*\) )?)FROM stdin;$",
    re.MULTILINE,
)
_ENCODING = re.compile(r"^SET client_encoding = '(\w+)';$", re.MULTILINE)

_SESSION = "SET row_security = off; SET search_path = ''; SET xmloption = content; SET client_min_messages = warning"
"""What pg_restore's own sessions have set, and no more: a CHECK may depend on the database's time zone.

Timeouts are off too, whatever their names are on that server.
"""

_IS_TABLE = "SELECT relkind = 'r' FROM pg_catalog.pg_class WHERE oid = %s::text::regclass"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of one table on their way. `table` and `columns` are quoted as SQL wants them."""

    table: str
    columns: str
    encoding: str
    pour: Pour


def rows_of(tool: Tool, archive: Path, pours: Mapping[str, Pour], variables: Mapping[str, str]) -> dict[str, Rows]:
    """Return the rows that can go straight into their table, by file, in the order of `pours`.

    Args:
        tool: pg_restore.
        archive: the folder with the list of the archive.
        pours: what has the bytes of each file.
        variables: of the environment.

    Raises:
        RestoreError: pg_restore cannot read the archive.
    """
    with TemporaryDirectory(prefix="ancla-rows-") as temporary:
        folder = Path(temporary)
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


@contextmanager
def pouring(
    endpoint: Endpoint, rows: Iterable[Rows], *, jobs: int, session: Mapping[str, str]
) -> Generator[Callable[[], None]]:
    """Fill tables while the block works, and wait for all of them at its end.

    Yields what raises the error of a table that has failed. When anything fails, what is on its way is given up.

    Args:
        endpoint: the database, and the role that may fill them.
        rows: of different tables, in the order to begin with.
        jobs: how many at once, each over a connection of its own.
        session: settings of those connections.

    Raises:
        RestoreError: the server refused rows.
        OpsError: what `Rows.pour` raises.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(jobs, thread_name_prefix="rows") as pool:
        futures = [pool.submit(_fill, endpoint, one, session, stop) for one in rows]
        with all_or_none(futures, stop):
            yield partial(_raise_first, futures)


def _raise_first(futures: list[Future[None]]) -> None:
    for future in futures:
        if future.done():
            future.result()


def _fill(endpoint: Endpoint, rows: Rows, session: Mapping[str, str], stop: threading.Event) -> None:
    with endpoint.connect() as connection:
        try:
            connection.execute(_SESSION)
            off = dict.fromkeys(timeouts(connection), "0")
            for name, value in {**off, **session, "client_encoding": rows.encoding}.items():
                connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", [name, value])
            with connection.transaction(), connection.cursor() as cursor:
                freeze = ""
                if (
                    cursor.execute(_IS_TABLE, [rows.table]).fetchone() == (True,)
                    and not cursor.execute(_sql(f"SELECT FROM ONLY {rows.table} LIMIT 1")).fetchall()
                ):
                    cursor.execute(_sql(f"TRUNCATE ONLY {rows.table}"))
                    freeze = " WITH (FREEZE)"
                with cursor.copy(_sql(f"COPY {rows.table} {rows.columns}FROM STDIN{freeze}")) as copy:

                    def write(block: bytes) -> None:
                        if stop.is_set():
                            raise CancelledError("stopped")
                        copy.write(block)

                    rows.pour(write)
        except psycopg.Error as error:
            raise RestoreError(f"{endpoint}: rows of {rows.table}: {one_line(error)}") from None


def _sql(statement: str) -> LiteralString:
    return cast("LiteralString", statement)
