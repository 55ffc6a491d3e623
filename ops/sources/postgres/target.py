"""Restore into a new database of a PostgreSQL server: create it, mark it, fill it, compare it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Container, Generator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import sql

from ops.core.errors import OpsError, RestoreError, RestoreRefusedError
from ops.core.progress import ProgressFactory
from ops.repository.records import LISTING, ROWS_FILE, STREAM_FILE, PostgresRecord
from ops.sources.base import Difference, Download, RestoreTarget, Skipped, TargetPlan, never
from ops.sources.postgres import catalog_queries, database
from ops.sources.postgres.archive import Entry, archive_in
from ops.sources.postgres.owner_roles import acting_for_owners, choose_role
from ops.sources.postgres.restore import restore_archive
from ops.sources.postgres.small_file_batches import is_pack, unpack
from ops.sources.postgres.source import JOBS, PostgresDatabase, server_version
from ops.sources.postgres.table_subset import Part
from ops.sources.postgres.tools import Connection, Endpoint, find_tool, one_line

LEAVING_SECONDS = 5
"""Seconds for a terminated session to end; PostgreSQL waits as long before it renames or drops."""
NAME_LENGTH = 63
"""Bytes; PostgreSQL truncates longer names silently."""
MARK_LENGTH = 2000
"""Maximum characters of a database's comment that list what was skipped."""


def cut(name: str, ending: str) -> str:
    """Return a name with an ending, within PostgreSQL's length; a character is never split."""
    kept = name.encode()[: NAME_LENGTH - len(ending.encode())].decode(errors="ignore")
    return kept + ending


def default_target(name: str, now: datetime, taken: Container[str] = ()) -> str:
    """Return `<database>_restore_<time>`, within PostgreSQL's length, or that with a number if it is `taken`."""
    suffix = f"_restore_{now:%Y%m%d%H%M%S}"
    endings = (suffix, *(f"{suffix}_{number}" for number in range(2, 100)))
    return next(new for end in endings if (new := cut(name, end)) not in taken)


def refuse_name(name: str) -> None:
    """Refuse an invalid database name.

    Raises:
        RestoreRefusedError: it is empty, has a zero byte, or is longer than 63 bytes.
    """
    if not name or "\0" in name or len(name.encode()) > NAME_LENGTH:
        raise RestoreRefusedError(f"{name}: not a database name: give 1 to {NAME_LENGTH} bytes, without a zero byte")


@dataclass(kw_only=True)
class DatabaseTarget(RestoreTarget[PostgresRecord]):
    """A new database, made by `admin`; `owner` is the app's own role, for the objects it owns.

    `backup` and `of` identify the backup and source, for the comment. `into` is its name (None: a new one).
    `live` are databases that are never touched. `tables` are those whose rows are restored (none: all); `complete` is
    then the record of the complete backup.
    """

    admin: Endpoint
    owner: Endpoint | None
    backup: str
    of: str
    into: str | None = None
    live: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    complete: PostgresRecord | None = None
    stages: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds that the last restore took to load and to index."""
    left_out: tuple[str, ...] = ()
    _exists: bool = False
    _begun: str = ""
    _record: PostgresRecord | None = None

    @property
    def name(self) -> str:
        """Return its name in messages."""
        return self.into or "a new database"

    @property
    def partial(self) -> str:
        """Return where an unfinished restore has left its content."""
        return f"the database {self.name}"

    @property
    def endpoint(self) -> Endpoint:
        """Return the administrator's endpoint of the database."""
        return self.admin.on(self.into or "")

    def streams(self, file: str) -> bool:
        """Return True for the rows of one table, which are copied directly into it."""
        return ROWS_FILE.fullmatch(file) is not None

    def needs_first(self, file: str) -> bool:
        """Return True for the list of the archive."""
        return file in (LISTING, STREAM_FILE)

    def plan_restore(self, record: PostgresRecord) -> TargetPlan:
        """Check all preconditions and plan; change nothing.

        Raises:
            RestoreRefusedError: the target is live or not empty, the server is older than the dump or lacks a role, or
                no role may restore it.
            ToolError: there is no suitable pg_restore here.
        """
        if self.into is not None:
            refuse_name(self.into)
            if self.into in self.live:
                raise RestoreRefusedError(
                    f"{self.into}: is a live database of this stack; restore into a new one (leave --into out)"
                )
        now = datetime.now(UTC)
        with self._connected() as connection:
            if self.into is None:
                taken = {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}
                self.into = default_target(record.database, now, taken)
            self._begun = f"ancla: restore of {self.backup} ({self.of}) begun {now:%Y-%m-%dT%H:%M:%SZ}"
            major, version = server_version(connection)
            if major < record.server_major:
                raise RestoreRefusedError(
                    f"{self.admin}: the server is PostgreSQL {version}, the dump is of {record.server_version}; "
                    "restore into the same major version or a newer one"
                )
            runner = choose_role(connection, self.endpoint, record, self.owner)
            self._refuse_lacking(connection, record)
            lost = [*record.not_restored, *self._lost(connection, record)]
            skipped = self._unavailable(connection, record)
            self._exists = _is_ours(connection, self.admin, self.into)
        if self._exists:
            lost += _refuse_used(self.endpoint, record)
        empty = left_empty(record, self.tables)
        facts: dict[str, object] = {
            "target_exists": self._exists,
            "objects_of_the_app_made_as": runner.user,
            "pg_restore": find_tool("pg_restore", at_least=record.readable_from).version,
            "tables": len(self.tables or record.tables),
            "only_tables": self.tables,
            "left_empty": empty,
        }
        complete = not_in_part(self.complete or record) if self.tables else ()
        return TargetPlan(target=self.into, left_out=(*complete, *lost), skipped=tuple(skipped), facts=facts)

    def restore(self, download: Download, record: PostgresRecord, progress: ProgressFactory) -> list[Skipped]:
        """Create the database, apply its settings, fill it; see `ops.sources.postgres.restore`."""
        del progress
        self._record = record
        part = Part(tables=record.leaves_of(self.tables)) if self.tables else None
        if not self._exists:
            self._create(record)
        self.mark("not finished")
        unpacked = _Unpacked(download)
        skipped = database.restore_settings(self.endpoint, record, by=self._superuser)
        with acting_for_owners(self.endpoint, record, self.owner):
            skipped += restore_archive(
                self.endpoint,
                unpacked,
                record,
                jobs=JOBS,
                owner=self.owner,
                part=part,
                prepare=self._prepare if self._superuser else None,
                clock=self._clock,
            )
        skipped += self._grants(record)
        self.left_out = tuple(part.left_out) if part else ()
        return skipped

    def compare(self, record: PostgresRecord, skipped: Sequence[Skipped]) -> list[Difference]:
        """Compare tables, rows, hashes, sequences and large objects with `record`, except what was skipped."""
        names = self.names(skipped)
        with acting_for_owners(self.endpoint, record, self.owner):
            return [each for each in self.copy().check(record, skipped) if each.what not in names]

    @staticmethod
    def names(skipped: Sequence[Skipped]) -> set[str]:
        """Return the skipped tables and sequences, as named in the manifest."""
        return {each.what.removeprefix(kind) for each in skipped for kind in ("rows of ", "table ", "sequence ")}

    def copy(self) -> PostgresDatabase:
        """Return the restored database, through a role that may read all of it."""
        with self.endpoint.connect() as connection:
            unreadable = catalog_queries.unreadable(connection)
        if unreadable and self.owner is not None and self.into is not None:
            return PostgresDatabase(endpoint=self.owner.on(self.into))
        return PostgresDatabase(endpoint=self.endpoint, owner=self.owner)

    def commit(self, skipped: Sequence[Skipped]) -> None:
        """Restore the connection limit, and mark the database's comment as verified, or as verified in part."""
        self._limit()
        if self.tables:
            self.mark(f"verified in part: rows of {', '.join(self.tables)} alone")
        elif skipped:
            lacking = ", ".join(each.what for each in skipped)
            self.mark(f"verified in part: without {lacking[:MARK_LENGTH]}")
        else:
            self.mark("verified")

    def mark(self, state: str) -> None:
        """Write the restore's state into the database's comment."""
        if self.into is not None and self._begun:
            comment(self.admin, self.into, f"{self._begun}, {state}")

    def discard(self) -> bool:
        """Drop the database that this restore has created; return True if nothing is left."""
        if self._exists:
            return False
        try:
            with self._connected() as connection:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(self.into or "")))
        except (OpsError, psycopg.Error):
            return False
        return True

    @property
    def _superuser(self) -> Endpoint | None:
        """Return a superuser's endpoint of another database of the server; known only for a scratch server."""
        return None

    def _connected(self) -> contextlib.AbstractContextManager[Connection]:
        return self.admin.connect()

    def _lost(self, connection: Connection, record: PostgresRecord) -> list[str]:
        return database.left_out(connection, record)

    def _unavailable(self, connection: Connection, record: PostgresRecord) -> list[Skipped]:
        return database.unavailable_extensions(connection, record)

    def _create(self, record: PostgresRecord) -> None:
        database.create_database(self.admin, self.name, record)

    def _prepare(self, entries: list[Entry]) -> list[Entry]:
        return entries

    def _grants(self, record: PostgresRecord) -> list[Skipped]:
        return database.restore_grants(self.endpoint, record)

    def _limit(self) -> None:
        database.restore_limit(self.endpoint, self.record)

    @property
    def record(self) -> PostgresRecord:
        """Return the record of the restored part."""
        assert self._record is not None  # noqa: S101  # `restore` comes first
        return self._record

    @contextlib.contextmanager
    def _clock(self, stage: str) -> Generator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.stages[stage] = self.stages.get(stage, 0) + time.monotonic() - begun

    def _refuse_lacking(self, connection: Connection, record: PostgresRecord) -> None:
        """Refuse if a role named in grants is missing; a missing owner of the database is only reported."""
        lacking = database.missing_roles(connection, {*record.named_roles} - ({record.owner} - {*record.roles}))
        if lacking:
            raise RestoreRefusedError(
                f"{self.admin}: there is no role {', '.join(lacking)}, which grants in the backup name; "
                + "; ".join(f"run `CREATE ROLE {sql.Identifier(role).as_string()}`" for role in lacking)
            )


class _Unpacked:
    """A download that unpacks the packs of small files."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self.folder, self.pours = download.folder, download.pours
        if not archive_in(self.folder).is_file() and not (self.folder / LISTING).exists():
            self.wait()

    def wait(self, check: Callable[[], None] = never) -> Path:
        folder = self._download.wait(check)
        if any(is_pack(path.name) for path in folder.iterdir()):
            unpack(folder)
        return folder


def left_empty(record: PostgresRecord, tables: tuple[str, ...]) -> tuple[str, ...]:
    """List the tables that get no rows: those not chosen, and those whose rows are not in the backup."""
    missing = set(record.left_out)
    empty = [t.table for t in record.tables if t.table in missing or (tables and t.table not in tables)]
    return (*empty, *sorted(missing - {t.table for t in record.tables}))  # partitions of tables that have others


def not_in_part(record: PostgresRecord) -> tuple[str, ...]:
    """List what is not in a part of a database, whatever its tables; for foreign keys see `table_subset`."""
    return (
        *(["large objects"] if record.large_objects else []),
        *(f"rows of {view.partition(': ')[0]}" for view in record.not_compared if "materialized view" in view),
    )


def comment(admin: Endpoint, name: str, text: str, *, via: str | None = None) -> None:
    """Set the comment of a database, which tells a person what it is; an empty text removes it.

    Args:
        admin: its owner, or a member of that role.
        name: the database.
        text: the comment.
        via: another database to connect to, if nobody may connect to that one.

    Raises:
        RestoreError: the server refused.
    """
    statement = sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(text or None))
    with admin.on(via or name).connect() as connection:
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            raise RestoreError(f"{admin}: cannot comment on {name}: {one_line(error)}") from None


def _is_ours(connection: Connection, admin: Endpoint, database: str) -> bool:
    """Return True if a database of that name exists.

    Raises:
        RestoreRefusedError: it is the server's own, or somebody else's.
    """
    query = (
        "SELECT datistemplate OR datname = 'postgres', pg_has_role(datdba, 'USAGE'), pg_get_userbyid(datdba)"
        " FROM pg_database WHERE datname = %s"
    )
    row = connection.execute(query, [database]).fetchone()
    if row is None:
        return False
    if row[0]:
        raise RestoreRefusedError(f"{database}: is the server's own database; leave --into out for a new one")
    if not row[1]:
        raise RestoreRefusedError(
            f"{database}: belongs to {row[2]}, and {admin.user} may not fill it; leave --into out for a new one"
        )
    return True


def _refuse_used(target: Endpoint, record: PostgresRecord) -> list[str]:
    """Refuse unless it is empty and unused; return its differences to the source."""
    with target.connect() as connection:
        mark = _mark(connection)
        if mark:  # though it may be empty: another restore may be at work in it
            raise RestoreRefusedError(
                f"{target.database}: is not empty ({mark}): drop it when no restore is at work, "
                "or leave --into out for a new database"
            )
        if not catalog_queries.is_empty(connection):
            raise RestoreRefusedError(f"{target.database}: is not empty; leave --into out for a new database")
        if _others(connection):
            raise RestoreRefusedError(f"{target.database}: somebody is connected to it; leave --into out for a new one")
        return database.unlike(connection, record)


def _mark(connection: Connection) -> str:
    """Return the mark that an unsuccessful restore has left on the database."""
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    row = connection.execute(query).fetchone()
    text = str(row[0]) if row else ""
    return text if text.startswith("ancla: restore of ") and not text.endswith("verified") else ""


def _others(connection: Connection) -> bool:
    query = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database()"
        " AND usesysid IS NOT NULL AND pid <> pg_backend_pid()"  # the server's own workers have no user
    )
    deadline = time.monotonic() + LEAVING_SECONDS
    while connection.execute(query).fetchone() is not None:
        if time.monotonic() > deadline:
            return True
        time.sleep(0.05)
    return False
