"""Back up a PostgreSQL database. PostgreSQL's own tools dump and restore; this module orchestrates.

The dump and the fingerprints use one exported snapshot, so a copy must be equal, without any tolerance.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from psycopg import sql

from ops.core.errors import BusyError, SourceError
from ops.repository.records import PostgresRecord, SequenceState, TableFingerprint
from ops.sources.base import Difference, Dump, Outbox, Skipped, SourcePlan
from ops.sources.postgres import catalog_queries, table_filters
from ops.sources.postgres.database import database_facts
from ops.sources.postgres.dump import dumping, streaming
from ops.sources.postgres.fingerprints import Fingerprints
from ops.sources.postgres.load_warnings import load_warnings
from ops.sources.postgres.tools import SESSION_PID, Connection, Endpoint, Tool, find_tool

JOBS = 2
"""Parallel workers of pg_dump and pg_restore, if the server has connections for them: a dump uses JOBS + 3."""

_NOT_COMPARED = {
    "m": "materialized view, filled again by a restore",
    "f": "foreign table, its rows are elsewhere",
}
"""Differences by nature are named, so that nobody takes them for compared."""

DUMP_LOCK = 0x616E636C61
"""Key of a dump's advisory lock: "ancla"."""


@dataclass(frozen=True, kw_only=True)
class PostgresDatabase:
    """One database, reached by `endpoint`. `owner` is the app's own role there, for a restore of the objects it owns.

    `only_tables` and `without_tables` are patterns of tables whose rows are dumped, or not; `stream` dumps over one
    connection with no spool.
    """

    endpoint: Endpoint
    owner: Endpoint | None = None
    only_tables: tuple[str, ...] = ()
    without_tables: tuple[str, ...] = ()
    stream: bool = False

    def plan(self) -> SourcePlan:
        """Check versions, rights and size.

        Raises:
            SourceError: no connection, a pooler answers, or the role cannot read something that pg_dump reads.
            ToolError: pg_dump is missing, or older than the server.
        """
        with self._session() as connection:
            _, version = server_version(connection)
            tool = find_tool("pg_dump", at_least=version)
            missing = catalog_queries.unreadable(connection)
            if missing:
                name, mend = next(iter(missing.items()))
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise SourceError(
                    f"{self.endpoint}: {self.endpoint.user} may not read {name}{more}; run `{mend}` as its owner, "
                    "or make the role a member of the owner"
                )
            sizes = [table.bytes for table in self._taken(connection, catalog_queries.tables(connection))]
            _jobs(connection, self.endpoint)
        return SourcePlan(
            what=f"postgresql {self.endpoint.database}",
            bytes_estimate=0 if self.stream else sum(sizes),
            largest=sum(sizes),
            sent=sum(sizes),
            details={"server": version, "pg_dump": f"{tool.version} ({tool.path})", "role": self.endpoint.user},
        )

    def dump(self, folder: Path, outbox: Outbox) -> Dump[PostgresRecord]:
        """Dump into `folder`, which must not exist yet, and fingerprint the same snapshot meanwhile.

        Raises:
            SourceError: pg_dump or a query failed.
            SpoolError: the disk filled up.
        """
        with self._session() as connection, self.endpoint.session_environment() as variables:
            major, version = server_version(connection)
            tool = find_tool("pg_dump", at_least=version)
            _lock(connection, self.endpoint)
            # before pg_dump reads them: they are not part of snapshots, and a copy must not be behind the record
            sequences = catalog_queries.sequences(connection)
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            snapshot, snapshot_at = _export(connection)
            names = catalog_queries.sequence_names(connection)
            sequences = [state for state in sequences if state.sequence in names]
            found = catalog_queries.tables(connection)
            as_record = _as_record(found, major)
            taken = self._taken(connection, found)
            left = [table for table in found if table.kind == "r" and table not in taken]
            shown = [table for table in found if table not in left]
            options = [f"--snapshot={snapshot}", *table_filters.options(left, self.only_tables)]
            jobs, helpers = _jobs(connection, self.endpoint)
            with contextlib.ExitStack() as stack:
                sessions = [connection, *(stack.enter_context(self._session(snapshot)) for _ in range(helpers))]
                objects_too = not self.only_tables
                prints = stack.enter_context(Fingerprints(sessions, shown, as_record, large_objects=objects_too))
                running = stack.enter_context(
                    streaming(tool, self.endpoint, variables, folder, options, outbox)
                    if self.stream
                    else dumping(tool, self.endpoint, variables, folder, [*options, f"--jobs={jobs}"])
                )
                while running.look(outbox):
                    prints.check()
                    running.wait()
                tables, objects = prints.result()
                known = {table.table for table in tables}
                tables += tuple(
                    TableFingerprint(table=name, rows=0, method="record" if as_record(name) else "text", hash="0")
                    for name in {table.root for table in left} - known
                )
                record = self._record(connection, tool, found, tables, objects, sequences).model_copy(
                    update={"left_out": tuple(sorted(_left_out(left, taken)))}
                )
            files = running.conclude(tool, variables)
        return Dump(files=files, record=record, snapshot_at=snapshot_at, spool_bytes=running.spool_bytes)

    def _taken(self, connection: Connection, found: list[catalog_queries.Table]) -> list[catalog_queries.Table]:
        return table_filters.taken(connection, self.endpoint, found, self.only_tables, self.without_tables)

    def fingerprint(self, like: PostgresRecord | None = None) -> PostgresRecord:
        """Describe the current content, hashed as in the record it will be compared with."""
        with self._session() as connection:
            major, _ = server_version(connection)
            sequences = catalog_queries.sequences(connection)
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            snapshot, _ = _export(connection)
            found = catalog_queries.tables(connection)
            as_record = _as_record(found, major, like)
            with self._session(snapshot) as second, Fingerprints((connection, second), found, as_record) as prints:
                tables, objects = prints.result()
            return self._record(connection, None, found, tables, objects, sequences)

    def check(self, expected: PostgresRecord, skipped: Sequence[Skipped] = ()) -> list[Difference]:
        """Compare tables, rows, hashes, sequences and large objects with `expected`."""
        del skipped  # nothing is skipped here yet
        return differences(self.fingerprint(expected), expected)

    @contextlib.contextmanager
    def _session(self, snapshot: str | None = None) -> Generator[Connection]:
        """Connect, in a transaction on an exported snapshot if one is given."""
        with self.endpoint.connect(read_only=True) as connection:
            refuse_pooler(connection, self.endpoint)
            catalog_queries.prepare_session(connection)
            if snapshot is not None:
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
            yield connection

    def _record(  # noqa: PLR0913, PLR0917  # what a dump learns at different moments
        self,
        connection: Connection,
        tool: Tool | None,
        found: list[catalog_queries.Table],
        tables: tuple[TableFingerprint, ...],
        objects: TableFingerprint | None,
        sequences: list[SequenceState],
    ) -> PostgresRecord:
        major, version = server_version(connection)
        owners = catalog_queries.owners(connection)
        partitions = {table.name: list[str]() for table in found if table.kind == "p" and table.name == table.root}
        for table in found:
            if table.kind == "r" and table.name != table.root:
                partitions.setdefault(table.root, []).append(table.name)
        return PostgresRecord(
            database=self.endpoint.database,
            server_version=version,
            server_major=major,
            dump_tool=f"{tool.path.name} {tool.version}" if tool else "",
            dump_major=tool.major if tool else major,
            dumped_as=self.endpoint.user,
            owners=owners.required,
            special_owners=owners.special,
            roles=owners.roles,
            extensions=catalog_queries.extensions(connection),
            tables=tuple(sorted(tables, key=lambda table: table.table)),
            partitions={root: tuple(names) for root, names in partitions.items()},
            only_tables=self.only_tables,
            without_tables=self.without_tables,
            sequences=tuple(sequences),
            large_objects=objects,
            unsound=catalog_queries.unsound(connection),
            not_compared=(
                *(f"{table.name}: {_NOT_COMPARED[table.kind]}" for table in found if table.kind in _NOT_COMPARED),
                *(
                    f"{table.name}: generated column {column}, computed again by a restore"
                    for table in found
                    if table.name == table.root and table.kind in "rp"
                    for column in table.generated
                ),
                *(
                    f"{table.name}: rows left out by the stack file"
                    for table in found
                    if table.kind == "r" and not table_filters.is_taken(table, self.only_tables, self.without_tables)
                ),
                *catalog_queries.never_compared(connection),
            ),
            not_restored=catalog_queries.never_restored(connection),
            warnings=load_warnings(connection),
            **database_facts(connection),
        )


def server_version(connection: Connection) -> tuple[int, str]:
    """Return the server's major version and its full version."""
    number = connection.info.server_version
    return number // 10000, f"{number // 10000}.{number % 10000}"


def refuse_pooler(connection: Connection, endpoint: Endpoint) -> None:
    """Refuse PgBouncer: it may run each transaction on another backend, and a snapshot cannot be shared.

    A pooler invents the process id that it gives to its client; a server gives its own. So this works through a
    tunnel as well, where the port proves nothing.
    """
    real = connection.execute(SESSION_PID).fetchone()
    if real is None or real[0] != connection.info.backend_pid:
        raise SourceError(
            f"{endpoint}: a connection pooler answers there, which cannot share a snapshot; use the direct port (25060)"
        )


def _as_record(
    found: list[catalog_queries.Table], major: int, like: PostgresRecord | None = None
) -> Callable[[str], bool]:
    """Choose a table's hash: hash_record_extended exists since 14, and both sides of a comparison need the same."""
    texts = {table.table for table in like.tables if table.method == "text"} if like else set[str]()
    texts |= {table.root for table in found if table.kind == "r" and not table.hashable}
    return lambda root: major >= 14 and root not in texts


def _left_out(left: list[catalog_queries.Table], taken: list[catalog_queries.Table]) -> set[str]:
    """Return the tables without rows in the dump; for a partly dumped table, its other partitions."""
    partly = {table.root for table in taken}
    return {table.name if table.root in partly else table.root for table in left}


def differences(found: PostgresRecord, expected: PostgresRecord) -> list[Difference]:
    """List each table, partition, sequence or large object that differs from the record."""
    result: list[Difference] = []
    have = {table.table: table for table in found.tables}
    want = {table.table: table for table in expected.tables}
    for name in sorted(have.keys() | want.keys()):
        result += _table_difference(name, have.get(name), want.get(name))
    there = {leaf for leaves in found.partitions.values() for leaf in leaves}
    result += [
        Difference(what=leaf, found="no such table", expected=f"a partition of {root}")
        for root, leaves in expected.partitions.items()
        for leaf in leaves
        if leaf not in there and root in have
    ]
    result += _table_difference("(large objects)", found.large_objects, expected.large_objects)
    states = {state.sequence: state for state in found.sequences}
    for state in expected.sequences:
        result += _sequence_difference(states.get(state.sequence), state)
    return result


def _table_difference(name: str, found: TableFingerprint | None, expected: TableFingerprint | None) -> list[Difference]:
    if found == expected:
        return []
    if found is None or expected is None:
        return [
            Difference(
                what=name,
                found="no such table" if found is None else f"{found.rows} rows",
                expected="no such table" if expected is None else f"{expected.rows} rows",
            )
        ]
    if found.rows != expected.rows:
        return [Difference(what=name, found=f"{found.rows} rows", expected=f"{expected.rows} rows")]
    return [
        Difference(
            what=name,
            found=f"content hash {found.hash} ({found.method})",
            expected=f"{expected.hash} ({expected.method})",
        )
    ]


def _sequence_difference(found: SequenceState | None, expected: SequenceState) -> list[Difference]:
    if found is None:
        return [Difference(what=expected.sequence, found="no such sequence", expected=f"at {expected.last_value}")]
    if expected.last_value is None:
        return []
    behind = found.last_value is None or (found.last_value - expected.last_value) * expected.increment < 0
    if not behind:
        return []
    return [Difference(what=expected.sequence, found=f"at {found.last_value}", expected=f"at {expected.last_value}")]


def _lock(connection: Connection, endpoint: Endpoint) -> None:
    """Take the lock on dumps of this database, which ends with the session."""
    row = connection.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", [DUMP_LOCK]).fetchone()
    if row is None or not row[0]:
        raise BusyError(f"{endpoint}: another backup of this database is running, maybe on another machine")


def _jobs(connection: Connection, endpoint: Endpoint) -> tuple[int, int]:
    """Return the number of pg_dump's workers and of fingerprinting sessions that the server's connections allow.

    Raises:
        SourceError: there is not even one.
    """
    free, most = catalog_queries.free_connections(connection)
    if free < 1:
        raise SourceError(
            f"{endpoint}: of {most} connections none is left for {endpoint.user}, a dump needs 2 to {JOBS + 3}; "
            "close some, or dump at another time"
        )
    if free >= JOBS + 2:  # pg_dump's own, its workers', and the helper's
        return JOBS, 1
    return 1, min(1, free - 1)


def _export(connection: Connection) -> tuple[str, datetime]:
    row = connection.execute("SELECT pg_export_snapshot(), now()").fetchone()
    if row is None:
        raise SourceError("pg_export_snapshot gave nothing")
    return str(row[0]), row[1]
