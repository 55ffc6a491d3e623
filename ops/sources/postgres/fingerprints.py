"""Fingerprint all tables over several connections that share one snapshot, largest first, in the background.

Each partition is read separately, and the sums of a tree's partitions are the table's: so a large table is read by
several connections, and no query locks a complete tree.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Self

import psycopg

from ops.repository.records import TableFingerprint
from ops.sources.postgres import catalog_queries
from ops.sources.postgres.tools import Connection


class Fingerprints:
    """Starts at once; it owns the connections until `result` has returned.

    `as_record` chooses the hash of a table by its root's name.
    """

    def __init__(
        self,
        connections: Sequence[Connection],
        tables: Sequence[catalog_queries.Table],
        as_record: Callable[[str], bool],
        *,
        large_objects: bool = True,
    ) -> None:
        self._connections, self._as_record = connections, as_record
        self._todo = queue.SimpleQueue[catalog_queries.Table | None]()
        if large_objects:
            self._todo.put(None)  # first, because no catalogue has their size
        for table in sorted((table for table in tables if table.kind == "r"), key=lambda table: -table.bytes):
            self._todo.put(table)
        self._lock = threading.Lock()
        self._done = {
            table.root: TableFingerprint(
                table=table.root, rows=0, method="record" if as_record(table.root) else "text", hash="0"
            )
            for table in tables
            if table.kind == "r" or (table.kind == "p" and table.name == table.root)
        }
        self._large_objects: TableFingerprint | None = None
        self._pool = ThreadPoolExecutor(len(connections), thread_name_prefix="fingerprint")
        self._futures = [self._pool.submit(self._work, connection) for connection in connections]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for future, connection in zip(self._futures, self._connections, strict=True):
            if not future.done():
                with contextlib.suppress(psycopg.Error):  # it then ends with its connection
                    connection.cancel_safe(timeout=5)
        self._pool.shutdown()

    def check(self) -> None:
        """Raise the first error so far: `psycopg.Error`."""
        for future in self._futures:
            if future.done():
                future.result()

    def result(self) -> tuple[tuple[TableFingerprint, ...], TableFingerprint | None]:
        """Wait, and return the tables by name, and the large objects if there are any."""
        wait(self._futures, return_when="FIRST_EXCEPTION")
        self.check()
        return tuple(self._done[name] for name in sorted(self._done)), self._large_objects

    def _work(self, connection: Connection) -> None:
        while True:
            try:
                table = self._todo.get_nowait()
            except queue.Empty:
                return
            if table is None:
                self._large_objects = catalog_queries.large_objects(connection)
            else:
                found = catalog_queries.fingerprint(connection, table, as_record=self._as_record(table.root))
                with self._lock:
                    self._done[table.root] = self._done[table.root].plus(found)
