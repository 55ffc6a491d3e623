"""Fill an empty database from a dump, with the owners and grants of the source.

Three ways, tried in this order:

1. The role may act as every owner (it is a superuser, or a member of them; see `owner_roles`): owners and grants as
   recorded.
2. The objects that it may not make belong to one other role with a given endpoint (`owner`): each role restores its
   own objects, in the order of the archive.
3. Neither: refused before anything is made; the message has the GRANT that would help.

An object that cannot be made does not stop the rest. pg_restore continues after an error; failed entries are retried
one by one when the rest of their stage exists, first as pg_restore does, then with the search path of the
database (a function may name others without their schema). Rows that a CHECK refuses are loaded without it, and it is
added after all rows. Entries that still fail are skipped and named, with dependents. So the result does not depend
on which of two parallel workers was faster.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString, cast

import psycopg
from psycopg import sql

from ops.core.errors import RestoreError, SpoolError
from ops.core.files import reports_full_disk
from ops.core.workdir import full, private_folder
from ops.repository.records import PostgresRecord
from ops.sources.base import Download, Skipped
from ops.sources.postgres import copy_in
from ops.sources.postgres.archive import PARTS, Entry, archive_in, list_archive, stages
from ops.sources.postgres.catalog_queries import plain_name
from ops.sources.postgres.copy_in import Rows
from ops.sources.postgres.database import keeps_tablespaces
from ops.sources.postgres.mending import SCRIPT_NOISE, advice, is_there, is_violation, stops_everything
from ops.sources.postgres.owner_roles import choose_role
from ops.sources.postgres.table_subset import Part
from ops.sources.postgres.tools import Connection, Endpoint, Tool, find_tool, one_line, run_tool, script, tool_message

SESSION = {
    "synchronous_commit": "off",  # the comparison after the restore would detect rows lost in a crash
    "maintenance_work_mem": "256MB",  # for each of the two jobs; indexes are sorted in it
    "default_transaction_read_only": "off",
}
"""Settings of the sessions that load data, which any role may set."""

_NEVER = ("COMMENT - EXTENSION", "COMMENT - SCHEMA public", "SUBSCRIPTION", "EVENT TRIGGER")
_IGNORED = "errors ignored on restore"
"""pg_restore's last message when it has continued to the end; without it, something stopped it."""


def restore_archive(  # noqa: PLR0913  # all but three have names at every call
    target: Endpoint,
    download: Download,
    record: PostgresRecord,
    *,
    jobs: int,
    owner: Endpoint | None = None,
    part: Part | None = None,
    prepare: Callable[[list[Entry]], list[Entry]] | None = None,
    clock: Callable[[str], AbstractContextManager[None]],
) -> list[Skipped]:
    """Restore a dump into `target`; return what could not be made, with what would fix it.

    Args:
        target: an empty database.
        download: fetches the files; the list of the archive is in its folder already.
        record: the manifest's record of it.
        jobs: parallel workers.
        owner: the app's own role there, for the objects it owns.
        part: the tables whose rows are restored, if not all; it records what is left out with the others.
        prepare: called with all entries, once the schemas exist; returns the entries to restore.
        clock: measures the stages `load` and `index`.

    Raises:
        RestoreRefusedError: no role may restore all of it.
        IntegrityError: the archive has no rows of a table of `part`.
        RestoreError: nothing could be restored, or the server or its disk failed.
        ToolError: there is no pg_restore that can read the archive.
    """
    with target.connect() as connection:
        runner = choose_role(connection, target, record, owner)
        options = () if keeps_tablespaces(connection, record) else ("--no-tablespaces",)
    # an archive needs a pg_restore as new as the pg_dump that made it
    tool = find_tool("pg_restore", at_least=record.readable_from)
    archive = archive_in(download.folder)
    with target.environment() as variables:
        entries = [entry for entry in list_archive(tool, archive, variables) if not entry.what.startswith(_NEVER)]
        entries = [entry for entry in entries if not _is_public_of_another(entry, record)]
        if part is not None:
            entries = part.of(entries, tool, archive, variables)
    work = _Restoration(
        target=target, runner=runner, record=record, tool=tool, options=options, jobs=jobs, download=download
    )
    with work.opened():
        if prepare is not None:
            schemas = [entry for entry in entries if entry.kind == "SCHEMA"]
            with work.lent(schemas=False):
                work.run(schemas, others_first=True)
            entries = [entry for entry in prepare(entries) if entry not in schemas]
        parts = stages(entries)
        with clock("load"):
            with work.lent(schemas=False):  # the grants on schemas come first: none of them is revoked
                work.run(parts.first, others_first=True)
            with work.lent():  # in the schemas that exist now
                work.run(parts.definitions)
                work.load(parts.rows)
        with clock("index"):
            with work.lent():
                work.run(parts.after, parallel=True)
            work.run(parts.grants)
            work.run(parts.last)
    return work.skipped


def _is_public_of_another(entry: Entry, record: PostgresRecord) -> bool:
    """Return True for the schema `public` of the cluster's creator, as in clusters before 15: not recorded."""
    return entry.what.startswith("SCHEMA - public ") and entry.owner(record.owners) not in record.owners


@dataclass(kw_only=True)
class _Restoration:
    """A restore in progress: its role, its source, and what could not be made so far."""

    target: Endpoint
    runner: Endpoint
    record: PostgresRecord
    tool: Tool
    options: tuple[str, ...]
    jobs: int
    download: Download
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    gone: set[int] = field(default_factory=set[int])
    """Numbers of the entries that were not made, and of their dependents."""
    rows: Mapping[str, Rows] = field(default_factory=dict[str, Rows])

    @property
    def roles(self) -> set[str]:
        return {*self.record.owners, self.runner.user, self.target.user}

    @property
    def archive(self) -> Path:
        return archive_in(self.download.folder)

    @contextmanager
    def opened(self) -> Generator[None]:
        """Find which rows can be copied directly into their table."""
        if self.download.pours:
            with self.target.environment() as variables:
                self.rows = copy_in.rows_of(self.tool, self.archive, self.download.pours, variables)
            for file in self.download.pours.keys() - self.rows.keys():  # their names do not allow that
                if not (self.download.folder / file).exists():
                    with (self.download.folder / file).open("wb") as written:
                        self.download.pours[file](written.write)
        yield

    def run(self, entries: Iterable[Entry], *, parallel: bool = False, others_first: bool = False) -> None:
        """Restore entries; retry each failed one separately, and skip it if that fails too.

        Args:
            entries: in the order of the archive.
            parallel: with several workers.
            others_first: entries of other roles before the runner's, whatever the order.
        """
        entries = self._possible(entries)
        failed: list[tuple[Entry, str]] = []
        for role, group in self._by_role(entries, others_first=others_first):
            failed += self._pg_restore(role, group, parallel=parallel)
        self._try_again(failed)

    def load(self, entries: Iterable[Entry]) -> None:
        """Load rows: those of larger tables directly from the download, the rest by pg_restore, concurrently."""
        entries = self._possible(entries)
        failed: list[Entry] = []
        self.download.wait() if not self.rows else None
        for role, group in self._by_role(entries):
            straight = {file: entry for entry in group if (file := _file_of(entry)) and file in self.rows}
            # one more job than expected processors: the last table then seldom runs alone
            pours = [rows for file, rows in self.rows.items() if file in straight]
            with copy_in.pouring(role, pours, jobs=self.jobs + 1, session=SESSION) as pouring:
                self.download.wait(pouring.check)
                others = [entry for entry in group if _file_of(entry) not in straight]
                failed += [entry for entry, _ in self._pg_restore(role, others, parallel=True, check=pouring.check)]
            failed += [entry for file, entry in straight.items() if self.rows[file] in pouring.refused]
        self._load_again(sorted(failed, key=entries.index))

    @contextmanager
    def lent(self, *, schemas: bool = True) -> Generator[None]:
        """Grant the owners the rights to own objects in their schemas; revoke afterwards what they did not have before.

        Without `schemas`, only the right to create schemas is granted.

        A non-superuser can give a table only to a role that may create in its schema, which the recorded
        owner may no longer be allowed to do.
        """
        with self.target.connect() as connection:
            given = _lend(connection, self.target, {*self.record.owners, self.runner.user}, schemas=schemas)
        yield
        with self.target.connect() as connection:
            for right, role in given:
                connection.execute(sql.SQL("REVOKE {} FROM {}").format(right, sql.Identifier(role)))

    def _possible(self, entries: Iterable[Entry]) -> list[Entry]:
        """Leave out entries that need one that was not made, and name them unless they are a part of it."""
        result: list[Entry] = []
        for entry in entries:
            if self.gone.isdisjoint(entry.needs):
                result.append(entry)
                continue
            self.gone.add(entry.number)
            if entry.kind not in PARTS:
                self._skip(entry, "needs what could not be made", "")
        return result

    def _by_role(self, entries: list[Entry], *, others_first: bool = False) -> list[tuple[Endpoint, list[Entry]]]:
        if self.runner == self.target:
            return [(self.target, entries)] if entries else []
        own = [self._is_runners(entry) for entry in entries]
        if others_first:
            both = [(entry, mine) for wanted in (False, True) for entry, mine in zip(entries, own, strict=True)
                    if mine == wanted]  # fmt: skip
        else:
            both = list(zip(entries, own, strict=True))
        return [
            (self.runner if mine else self.target, [entry for entry, _ in group])
            for mine, group in itertools.groupby(both, key=lambda pair: pair[1])
        ]

    def _is_runners(self, entry: Entry) -> bool:
        """Return True if the runner restores it. Before 17, large objects' content has no owner in the list."""
        return entry.owner(self.roles) == self.runner.user or " BLOBS - BLOBS " in entry.line

    def _options(self, role: Endpoint) -> list[str]:
        """Return pg_restore's options for a role: the app's own makes only what it then owns."""
        return [*self.options, *(["--no-owner"] if role != self.target else [])]

    def _pg_restore(
        self, role: Endpoint, entries: list[Entry], *, parallel: bool, check: Callable[[], None] | None = None
    ) -> list[tuple[Entry, str]]:
        """Run pg_restore over entries; return those that it could not restore, with its messages.

        Raises:
            RestoreError: it was stopped.
            SpoolError: this computer's disk is full.
        """
        if not entries:
            return []
        with private_folder() as temporary, role.session_environment(SESSION) as variables:
            chosen = temporary / "list"
            chosen.write_text("".join(f"{entry.line}\n" for entry in entries))
            form = "directory" if self.archive.is_dir() else "custom"
            command = [f"--format={form}", "--no-password", "--verbose", f"--use-list={chosen}", *self._options(role)]
            command += [f"--jobs={self.jobs}"] * parallel + [f"--dbname={role.database}", str(self.archive)]
            if check is not None:
                check()
            done = run_tool(self.tool, command, variables)
        if done.returncode == 0:
            return []
        if (
            reports_full_disk(done.stderr, done.returncode) and "ERROR:" not in done.stderr
        ):  # that would be the server's disk
            raise SpoolError(full(self.download.folder.parent)) from OSError(errno.ENOSPC, "full")
        if _IGNORED not in done.stderr:
            raise RestoreError(f"{role}: pg_restore failed: {tool_message(done.stderr)}")
        return _failures(done.stderr, entries)

    def _try_again(self, failed: list[tuple[Entry, str]]) -> None:
        """Retry each failed entry separately, and repeat while that helps: one may have needed another."""
        why: dict[int, str] = {}
        while failed:
            still: list[tuple[Entry, str]] = []
            for entry, text in failed:
                problem = self._once_more(entry, text)
                if problem is not None:
                    why[entry.number] = problem
                    still.append((entry, text))
            if len(still) == len(failed):
                break
            failed = still
        for entry, text in failed:
            problem = why[entry.number]
            if problem is text:  # made, except its owner or similar
                self._skip(entry, text, "", whole=False)
            else:
                self._skip(entry, problem, advice(problem, self._statement(entry)))
                self.gone.add(entry.number)

    def _once_more(self, entry: Entry, text: str) -> str | None:
        """Restore one entry by its own script; return why it fails, or `text` if only a part of it is missing."""
        role = self.runner if self._is_runners(entry) else self.target
        statement = self._statement(entry)
        first: psycopg.Error | None = None
        with role.connect() as connection:
            copy_in.prepare(connection)
            for path in _paths(connection):
                try:
                    with connection.transaction():
                        _set_path(connection, path)
                        connection.execute(cast("LiteralString", statement))
                except psycopg.Error as error:
                    _stop_if_lost(role, error)
                    if is_there(error):
                        return text
                    first = first or error
                else:
                    return None
            assert first is not None  # noqa: S101  # there is a path at least
            if is_violation(first) and entry.kind in ("FK CONSTRAINT", "CHECK CONSTRAINT"):
                self._add_not_valid(connection, entry, statement, first)
                return None
        return one_line(first)

    def _add_not_valid(self, connection: Connection, entry: Entry, statement: str, why: psycopg.Error) -> None:
        """Add a constraint that rows violate, for new rows only, and record it."""
        changed = statement.strip().removesuffix(";")
        with connection.transaction():
            _set_path(connection, "")
            connection.execute(cast("LiteralString", f"{changed} NOT VALID;"))
        title = entry.title(self.roles).replace("fk constraint", "constraint").replace("check constraint", "constraint")
        table, _, name = title.removeprefix("constraint ").rpartition(".")
        mend = f"mend the rows, then ALTER TABLE {table} VALIDATE CONSTRAINT {name}"
        self.skipped.append(Skipped(what=title, why=f"is NOT VALID in the copy: {one_line(why)}", mend=mend))

    def _statement(self, entry: Entry) -> str:
        """Return the SQL of one entry."""
        role = self.runner if self._is_runners(entry) else self.target
        with self.target.environment() as variables:
            text = script(self.tool, self.archive, [entry.line], self._options(role), variables)
        return "\n".join(line for line in text.splitlines() if line and not line.startswith(SCRIPT_NOISE))

    def _load_again(self, failed: Sequence[Entry]) -> None:
        """Reload each table whose rows failed, separately, now that all other tables have theirs."""
        left: list[Entry] = list(failed)
        refused: dict[int, psycopg.Error] = {}
        while left:
            still = [entry for entry in left if not self._rows_once_more(entry, refused)]
            if len(still) == len(left):
                break
            left = still
        checks: list[tuple[Endpoint, str, str, str]] = []
        for entry in list(left):
            if self._rows_without_checks(entry, refused, checks):
                left.remove(entry)
        for entry in left:
            self._skip(entry, one_line(refused[entry.number]), advice(one_line(refused[entry.number]), ""))
        for role, table, name, why in checks:  # of rows that are all loaded by now
            self._validate(role, table, name, why)

    def _rows_of(self, entry: Entry) -> Rows:
        known = self.rows.get(_file_of(entry) or "")
        if known is not None:
            return known
        with self.target.environment() as variables:
            return copy_in.archived_rows(self.tool, self.archive, entry.line, dict(variables))

    def _rows_once_more(self, entry: Entry, refused: dict[int, psycopg.Error]) -> bool:
        role = self.runner if self._is_runners(entry) else self.target
        if entry.kind != "TABLE DATA":
            return self._large_objects_once_more(role, entry, refused)
        rows = self._rows_of(entry)
        with role.connect() as connection:
            for path in _paths(connection):
                try:
                    copy_in.fill(connection, rows, SESSION, path=path)
                except psycopg.Error as error:
                    _stop_if_lost(role, error)
                    refused.setdefault(entry.number, error)
                else:
                    return True
        return False

    def _large_objects_once_more(self, role: Endpoint, entry: Entry, refused: dict[int, psycopg.Error]) -> bool:
        failed = self._pg_restore(role, [entry], parallel=False)
        if failed:
            refused[entry.number] = psycopg.Error(failed[0][1])
        return not failed

    def _rows_without_checks(
        self, entry: Entry, refused: Mapping[int, psycopg.Error], checks: list[tuple[Endpoint, str, str, str]]
    ) -> bool:
        """Load rows without the CHECK constraints that refuse them; return True if they were loaded."""
        error, role = refused[entry.number], self.runner if self._is_runners(entry) else self.target
        dropped: list[tuple[str, str]] = []
        if entry.kind != "TABLE DATA":
            return False
        rows = self._rows_of(entry)
        with role.connect() as connection:
            copy_in.prepare(connection)
            while True:
                name = error.diag.constraint_name
                if not isinstance(error, psycopg.errors.CheckViolation) or name is None or name in dict(dropped):
                    break
                definition = _check_definition(connection, rows.table, name)
                if definition is None:
                    break
                dropped.append((name, definition))
                try:
                    with connection.transaction():
                        for one, _ in dropped:
                            _alter(connection, rows.table, "DROP CONSTRAINT {}", one)
                        copy_in.copy(connection, rows, path=_paths(connection)[-1])
                        for one, text in dropped:
                            _alter(connection, rows.table, f"ADD CONSTRAINT {{}} {text} NOT VALID", one)
                except psycopg.Error as another:
                    _stop_if_lost(role, another)
                    error = another
                else:
                    checks += [(role, rows.table, one, one_line(refused[entry.number])) for one, _ in dropped]
                    return True
        return False

    def _validate(self, role: Endpoint, table: str, name: str, why: str) -> None:
        with role.connect() as connection:
            copy_in.prepare(connection)
            for path in _paths(connection):
                try:
                    with connection.transaction():
                        _set_path(connection, path)
                        _alter(connection, table, "VALIDATE CONSTRAINT {}", name)
                except psycopg.Error as error:
                    _stop_if_lost(role, error)
                else:
                    return
        statement = f"ALTER TABLE {table} VALIDATE CONSTRAINT {sql.Identifier(name).as_string()}"
        self.skipped.append(
            Skipped(
                what=f"constraint {copy_in.recorded_name(table)}.{name}",
                why=f"was added after the rows, NOT VALID: {why}",
                mend=f"mend the rows or the function it calls, then {statement}",
            )
        )

    def _skip(self, entry: Entry, why: str, mend: str, *, whole: bool = True) -> None:
        title = entry.title(self.roles)
        if entry.kind in ("TABLE DATA", "TABLE", "SEQUENCE"):
            title = f"{'rows of' if entry.kind == 'TABLE DATA' else entry.kind.lower()} {self._recorded(entry)}"
        self.skipped.append(Skipped(what=title if whole else f"a part of {title}", why=why, mend=mend))

    def _recorded(self, entry: Entry) -> str:
        """Return the name of a table or sequence as in the manifest."""
        listed = entry.title(self.roles).removeprefix(f"{entry.kind.lower()} ")
        known = [*(t.table for t in self.record.tables), *(s.sequence for s in self.record.sequences)]
        return next((name for name in known if plain_name(name) == listed), listed)


def _failures(stderr: str, entries: list[Entry]) -> list[tuple[Entry, str]]:
    """Return the entries that pg_restore could not restore, in order, with its message on each."""
    words: dict[int, str] = {}
    current = 0
    for line in stderr.splitlines():
        if match := copy_in.FROM_ENTRY.search(line):
            current = int(match[1])
            words.setdefault(current, "")
        elif "pg_restore: error: " in line and not words.get(current):
            words[current] = line.partition("pg_restore: error: ")[2].removeprefix("could not execute query: ")
    return [(entry, one_line(words[entry.number]) or "failed") for entry in entries if entry.number in words]


def _file_of(entry: Entry) -> str | None:
    """Return the name of the file of a table's rows; None for rows in several files or in none."""
    return f"{entry.number}.dat" if entry.kind == "TABLE DATA" else None


def _paths(connection: Connection) -> list[str]:
    """Return the search paths to try, in order: pg_restore's, the database's, and the latter with all its schemas."""
    row = connection.execute(
        "SELECT setting, (SELECT string_agg(pg_catalog.quote_ident(nspname), ', ' ORDER BY nspname)"
        " FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')"
        " FROM (SELECT reset_val AS setting FROM pg_catalog.pg_settings WHERE name = 'search_path') s"
    ).fetchone()
    own, every = (str(row[0] or ""), str(row[1] or "")) if row else ("", "")
    return list(dict.fromkeys(["", own, ", ".join(part for part in (own, every) if part)]))


def _set_path(connection: Connection, path: str) -> None:
    connection.execute("SELECT pg_catalog.set_config('search_path', %s, true)", [path])


def _alter(connection: Connection, table: str, what: str, constraint: str) -> None:
    name = sql.Identifier(constraint).as_string()
    connection.execute(cast("LiteralString", f"ALTER TABLE {table} {what.replace('{}', name, 1)}"))


def _check_definition(connection: Connection, table: str, name: str) -> str | None:
    query = (
        "SELECT pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint WHERE contype = 'c'"
        " AND conrelid = %s::text::regclass AND conname = %s AND convalidated AND conislocal AND coninhcount = 0"
    )
    row = connection.execute(query, [table, name]).fetchone()
    return str(row[0]) if row else None


def _stop_if_lost(role: Endpoint, error: psycopg.Error) -> None:
    """Raise if the server, its disk or the connection failed: then the one object is not at fault."""
    if stops_everything(error):
        raise RestoreError(f"{role}: {one_line(error)}") from None


def _lend(
    connection: Connection, target: Endpoint, roles: set[str], *, schemas: bool
) -> list[tuple[sql.Composed, str]]:
    """Grant each role the rights it lacks to own objects here, if the connected role may; return the grants."""
    database = sql.Identifier(target.database)
    query = (
        "SELECT r.rolname, n.nspname, right_ FROM pg_catalog.pg_roles r, pg_catalog.pg_namespace n,"
        " unnest(ARRAY['CREATE', 'USAGE']) right_ WHERE r.rolname = ANY(%s)"
        " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
        " AND NOT pg_catalog.has_schema_privilege(r.oid, n.oid, right_)"
        " AND pg_catalog.pg_has_role(n.nspowner, 'USAGE') ORDER BY 1, 2, 3"
    )
    lacking = [
        (sql.SQL("{} ON SCHEMA {}").format(sql.SQL(cast("LiteralString", right)), sql.Identifier(schema)), role)
        for role, schema, right in connection.execute(query, [list(roles)]).fetchall()
        if schemas
    ]
    query = (
        "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY(%s)"
        " AND NOT pg_catalog.has_database_privilege(oid, pg_catalog.current_database(), 'CREATE') ORDER BY 1"
    )
    lacking += [
        (sql.SQL("CREATE ON DATABASE {}").format(database), role)
        for (role,) in connection.execute(query, [list(roles)]).fetchall()
    ]
    given: list[tuple[sql.Composed, str]] = []
    for right, role in lacking:
        try:
            connection.execute(sql.SQL("GRANT {} TO {}").format(right, sql.Identifier(role)))
        except psycopg.Error:  # pg_restore then reports what it could not make without it
            continue
        given.append((right, role))
    return given
