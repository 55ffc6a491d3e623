"""Provide a scratch PostgreSQL as the target of a drill: the restore's own code, on a server with recorded roles."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import psycopg

from ops.core.errors import SpoolError
from ops.core.files import reports_full_disk
from ops.core.messages import say
from ops.core.progress import ProgressFactory
from ops.core.workdir import full
from ops.repository.records import PostgresRecord
from ops.sources.base import Difference, Download, Examination, ScratchFacts, Skipped, TargetPlan
from ops.sources.postgres import database
from ops.sources.postgres.archive import Entry, archive_in
from ops.sources.postgres.assertions import ask
from ops.sources.postgres.canary import read_canary
from ops.sources.postgres.scratch_roles import ADVICE, LIMITS, Loader, make_loader, restorable, script_of
from ops.sources.postgres.scratch_server import PROFILE, how_to_look, scratch_server
from ops.sources.postgres.source import differences
from ops.sources.postgres.target import DatabaseTarget
from ops.sources.postgres.tools import Connection, Endpoint, find_tool

DATABASE = "drill"
TIMES_THE_DUMP = 2.5
"""Bytes of data and indexes on a scratch server per byte of the dump: docs/benchmarks/backup.md
has 5,645 MiB of drill for a dump of 2,420 MiB, the dump itself included."""


@dataclass(kw_only=True)
class ScratchDatabase(DatabaseTarget):
    """A database of a scratch server. `not_compared` lists what is not compared because it is one."""

    server: Endpoint
    nonce: str
    folder: Path
    look: str
    not_compared: list[str] = field(default_factory=list[str])
    _found: PostgresRecord | None = None
    _loader: Loader | None = None

    def facts(self) -> ScratchFacts:
        """Describe the scratch database."""
        folders = [Path(self.server.host)]
        return ScratchFacts(profile=PROFILE, look=self.look, folders=folders, not_compared=self.not_compared)

    def identity(self) -> tuple[str, list[str]]:
        """Ask the server for the nonce it was started with; return the answer, and its problems."""
        with self.server.connect() as connection:
            row = connection.execute("SHOW cluster_name").fetchone()
        found, expected = str(row[0]) if row else "", f"ancla-{self.nonce}"
        wrong: list[str] = (
            [say("found {found}, expected {expected}: nothing was restored into it", found=found, expected=expected)]
            if found != expected
            else []
        )
        return found, wrong

    @property
    def loader(self) -> Loader:
        """Return the login that restores."""
        assert self._loader is not None  # noqa: S101  # the plan makes it
        return self._loader

    def plan_restore(self, record: PostgresRecord) -> TargetPlan:
        """Create the recorded roles on the server, which is proved to be the new one by now, and plan as a restore."""
        self._loader = make_loader(self.server, DATABASE, record)
        self.admin, self.owner = self.loader.endpoint, self.loader.owner
        return super().plan_restore(record)

    def restore(self, download: Download, record: PostgresRecord, progress: ProgressFactory) -> list[Skipped]:
        """Restore as `ops restore` does; see `DatabaseTarget`."""
        try:
            skipped = super().restore(download, record, progress)
        except Exception as error:
            if reports_full_disk(str(error), 0):  # the scratch server's disk: this proves nothing about the backup
                raise SpoolError(full(self.folder)) from None
            raise
        finally:
            self.loader.close()
        if self.loader.makers is None:
            return skipped
        return [replace(each, mend=ADVICE) if any(limit in each.why for limit in LIMITS) else each for each in skipped]

    def compare(self, record: PostgresRecord, skipped: Sequence[Skipped]) -> list[Difference]:
        """Compare, and keep the result for `examine`."""
        self._found = self.copy().fingerprint(record)
        skipped_names = self.names(skipped)
        return [each for each in differences(self._found, record) if each.what not in skipped_names]

    def examine(self, record: PostgresRecord, skipped: Sequence[Skipped]) -> Examination:
        """Report the drill's further checks of the copy."""
        found = self._found or self.copy().fingerprint(record)
        known = [*record.unsound, *(f"{each.what} is not validated" for each in skipped)]
        pg_restore = find_tool("pg_restore", at_least=record.readable_from)
        return Examination(
            tables=(record.tables, found.tables),
            invalid=[problem for problem in found.unsound if problem not in known],
            restored=f"pg_restore {pg_restore.version}",
            compared=say(
                "{tables} tables, {rows} rows, {sequences} sequences",
                tables=len(record.tables),
                rows=record.rows,
                sequences=len(record.sequences),
            ),
            tools={
                "scratch server": found.server_version,
                "source server": record.server_version,
                "pg_dump": record.dump_tool,
                "pg_restore": pg_restore.version,
                "psycopg": psycopg.__version__,
                "machine": f"{platform.system()} {platform.machine()}",
            },
        )

    def ask(self, assertions: Sequence[str]) -> list[str]:
        """Run the app's assertions on the copy; return those that are not true."""
        with self.copy().endpoint.connect(own_search_path=True) as connection:  # they belong to the app
            return ask(connection, assertions)

    def newest_row(self) -> datetime | None:
        """Return the time of the canary row in the copy."""
        with self.copy().endpoint.connect() as connection:
            return read_canary(connection)

    @property
    def _superuser(self) -> Endpoint | None:
        return self.server

    def _connected(self) -> AbstractContextManager[Connection]:
        return self.admin.on(self.server.database).connect()

    def _lost(self, connection: Connection, record: PostgresRecord) -> list[str]:
        del connection
        return database.not_in_scratch(record)

    def _create(self, record: PostgresRecord) -> None:
        self.not_compared += database.create_database(self.server, self.name, record, any_locale=True)
        self.loader.take()

    def _unavailable(self, connection: Connection, record: PostgresRecord) -> list[Skipped]:
        provided = {*record.extensions} - {*record.superuser_extensions}
        missing = database.unavailable_extensions(connection, record)
        return [
            each
            for each in missing
            if "only a superuser" not in each.why or each.what.removeprefix("extension ") not in provided
        ]

    def _prepare(self, entries: list[Entry]) -> list[Entry]:
        record = self.record
        lines = [entry.line for entry in entries]
        script = script_of(archive_in(self.folder), record, lines)
        self.loader.prepare(script, {*record.extensions} - {*record.superuser_extensions})
        if self.loader.makers is None:
            return entries
        kept, left_out = restorable(lines)
        self.not_compared += left_out
        return [entry for entry in entries if entry.line in set(kept)]

    def _limit(self) -> None:
        """Do nothing: a drill needs connections after the comparison too."""


@contextmanager
def scratch_database(
    record: PostgresRecord, files: Path, parent: Path, kept: Callable[[], bool]
) -> Generator[ScratchDatabase]:
    """Run a scratch server with the recorded roles; yields its database, which does not exist yet.

    Args:
        record: of the backup.
        files: folder of the backup's files.
        parent: parent of the server's folder.
        kept: called at the end; the server's folder stays if it returns True.

    Raises:
        ToolError, SourceError: see `scratch_server`.
    """
    nonce = secrets.token_hex(16)
    roles = {
        *record.named_roles,
        record.owner or record.dumped_as,
        record.dumped_as,
        *(one.role for one in record.memberships),
        *(one.member for one in record.memberships),
    }
    with scratch_server(record.server_version, taken=roles, parent=parent, kept=kept, nonce=nonce) as server:
        yield ScratchDatabase(
            admin=server,
            owner=None,
            backup="",
            of="",
            into=DATABASE,
            server=server,
            nonce=nonce,
            folder=files,
            look=how_to_look(server, record.server_version, DATABASE),
        )
