"""A SQLite database file as a source and as a target, by SQLite's own online backup.

A write-ahead log lets one read transaction see one state while writers go on. Without one the copy goes in steps that
leave room for writers; each write begins it anew, so after `RESTARTS` it is taken in one step that writers wait for.
What is recorded is read from the copy, and so is of one state, whatever happens to the source meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sqlite3
import struct
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ops.core.errors import RestoreError, RestoreRefusedError, SourceError, SpoolError, ToolError
from ops.core.progress import Meter
from ops.repository.records import SqliteRecord, TableFingerprint
from ops.sources.base import Difference, Download, Dump, Outbox, RestoreTarget, Skipped, SourcePlan, TargetPlan

FILE = "database.sqlite"
"""The name of the copy in a backup."""

STEP_PAGES = 1000
STEP_SECONDS = 0.01
RESTARTS = 5
BUSY_SECONDS = 30
"""How long a lock of somebody else is waited for."""

OLDEST = (3, 37, 0)
"""Since then SQLite tells tables, virtual tables and their shadows apart (`PRAGMA table_list`)."""

_MAGIC = b"SQLite format 3\x00"
_SIDE_FILES = ("-wal", "-shm", "-journal")


class _Text(bytes):
    """A value of the class TEXT, told apart from a BLOB; it need not be Unicode."""

    __slots__ = ()


class _RestartedError(Exception):
    """A writer has begun the copy anew too often."""


@dataclass(frozen=True, kw_only=True)
class SqliteFile(RestoreTarget[SqliteRecord]):
    """The database in the file `path`."""

    path: Path

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    def plan(self) -> SourcePlan:
        """Look whether it is a database that can be read.

        Raises:
            SourceError: missing, empty, encrypted, not a database, or locked.
            ToolError: SQLite here is too old.
        """
        if sqlite3.sqlite_version_info < OLDEST:
            raise ToolError(f"sqlite: found {sqlite3.sqlite_version}, {'.'.join(map(str, OLDEST))} is needed")
        self._refuse_other_files()
        with self._open() as connection:
            pages, size = (_pragma(connection, name) for name in ("page_count", "page_size"))
            journal = _pragma(connection, "journal_mode")
        return SourcePlan(
            what=f"sqlite {self.path}",
            bytes_estimate=int(pages) * int(size),
            details={"sqlite": sqlite3.sqlite_version, "journal": str(journal)},
        )

    def dump(self, folder: Path, outbox: Outbox) -> Dump[SqliteRecord]:
        """Copy the database into `folder`, check the copy, and fingerprint it while it is on its way.

        Raises:
            SourceError: it cannot be read, is damaged, or stays locked.
            SpoolError: the disk filled up.
        """
        folder.mkdir(mode=0o700)
        copy = folder / FILE
        copy.touch(mode=0o600)
        with self._open() as connection:
            snapshot_at = self._copy(connection, copy)
            status = self.path.stat()
        read = folder / "describe"
        os.link(copy, read)  # the copy goes when it is sent
        outbox.begin(copy)
        outbox.finish(copy)
        record = describe(read, what=self.name, database=self.path.name, status=status)
        read.unlink()
        return Dump(files={copy: f"database {self.path.name}"}, record=record, snapshot_at=snapshot_at)

    def plan_restore(self, record: SqliteRecord) -> TargetPlan:
        """Refuse a path where something is.

        Raises:
            RestoreRefusedError: a file by that name, or what SQLite keeps beside one, is there, or there is no folder.
        """
        if not self.path.parent.is_dir():
            raise RestoreRefusedError(
                f"{self.path}: there is no folder {self.path.parent}; make it, or give another --into"
            )
        for path in (self.path, self._partial, *(self.path.with_name(self.path.name + end) for end in _SIDE_FILES)):
            if path.exists() or path.is_symlink():
                raise RestoreRefusedError(f"{path}: is there already; restore into a new path with --into")
        del record
        return TargetPlan(target=self.name, free=shutil.disk_usage(self.path.parent).free)

    def restore(self, download: Download, record: SqliteRecord, progress: Meter) -> list[Skipped]:
        """Put the copy beside its new place, as PATH.partial, with the mode and (as root) the owner it had.

        Raises:
            RestoreError: it cannot be written.
        """
        del progress
        folder = download.wait()
        try:
            self._partial.touch(mode=0o600, exist_ok=False)
            with (folder / FILE).open("rb") as source, self._partial.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                os.fsync(target.fileno())
            if os.geteuid() == 0:
                os.chown(self._partial, record.uid, record.gid)
            self._partial.chmod(record.mode)
        except OSError as error:
            raise RestoreError(f"{self._partial}: cannot be written: {error.strerror}") from None
        return []

    def fingerprint(self) -> SqliteRecord:
        """Describe what is in it now; a restored copy before it has its name, else the file itself."""
        path = self._partial if self._partial.exists() else self.path
        return describe(path, what=str(path), database=self.path.name, status=path.stat())

    def compare(self, record: SqliteRecord, skipped: Sequence[Skipped]) -> list[Difference]:
        """Compare schema, tables, rows and content with `record`."""
        del skipped  # this kind skips nothing yet
        return differences(self.fingerprint(), record)

    def commit(self, skipped: Sequence[Skipped]) -> None:
        """Give the restored copy its name, unless somebody has made a file there meanwhile.

        Raises:
            RestoreRefusedError: somebody has.
        """
        del skipped
        try:
            os.link(self._partial, self.path)
        except FileExistsError:
            raise RestoreRefusedError(
                f"{self.path}: was made in the meantime; the verified copy is {self._partial}"
            ) from None
        except OSError as error:
            raise RestoreError(
                f"{self.path}: cannot be named: {error.strerror}; the verified copy is {self._partial}"
            ) from None
        self._partial.unlink()

    @property
    def partial(self) -> str:
        """Where a restore that did not finish has left what it made."""
        return str(self._partial)

    @property
    def _partial(self) -> Path:
        return self.path.with_name(self.path.name + ".partial")

    def _refuse_other_files(self) -> None:
        try:
            with self.path.open("rb") as file:
                first = file.read(512)
        except OSError as error:
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise SourceError(f"{self.path}: {reason}; see backup.sources of the stack file") from None
        if not first:
            raise SourceError(f"{self.path}: is empty: no database has been made in it yet")
        if not first.startswith(_MAGIC):
            # 512 random bytes have some 220 different values; text and pictures' headers far fewer
            looks = "looks encrypted (SQLCipher); back up an export that the app makes" if len(set(first)) > 180 else ""
            raise SourceError(f"{self.path}: is not a SQLite database{f': it {looks}' if looks else ''}")

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        try:
            address = f"file:{quote(str(self.path))}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=BUSY_SECONDS)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                yield connection
        except sqlite3.Error as error:
            raise self._explained(error) from None

    def _copy(self, source: sqlite3.Connection, copy: Path) -> datetime:
        """Copy the database; return a moment that what was copied is not older than."""
        wal = _pragma(source, "journal_mode") == "wal"
        with closing(sqlite3.connect(copy, isolation_level=None)) as target:
            begun = datetime.now(UTC)
            if wal:
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the snapshot begins with a read
                source.backup(target, pages=STEP_PAGES, progress=self._watch(), sleep=0)
                source.execute("COMMIT")
                return begun
            try:
                source.backup(target, pages=STEP_PAGES, progress=self._watch(RESTARTS), sleep=STEP_SECONDS)
            except _RestartedError:
                begun = datetime.now(UTC)
                source.backup(target, pages=-1, progress=self._watch(), sleep=STEP_SECONDS)
            return begun

    def _watch(self, restarts: float = math.inf) -> Any:
        """Make what SQLite calls after each step: it ends a wait for a lock, and what was begun anew too often."""
        left, most, last = restarts, time.monotonic() + BUSY_SECONDS, -1

        def progress(status: int, remaining: int, total: int) -> None:
            nonlocal left, most, last
            del total
            if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                if time.monotonic() > most:
                    raise SourceError(self._locked())
                return
            most = time.monotonic() + BUSY_SECONDS
            if last != -1 and remaining > last:
                left -= 1
                if left < 0:
                    raise _RestartedError
            last = remaining

        return progress

    def _locked(self) -> str:
        return f"{self.path}: is locked by another program for {BUSY_SECONDS} s; run it again when that has ended"

    def _explained(self, error: sqlite3.Error) -> SourceError | SpoolError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return SourceError(self._locked())
        if code == sqlite3.SQLITE_NOTADB:
            return SourceError(f"{self.path}: is not a SQLite database, or is encrypted")
        if code == sqlite3.SQLITE_FULL:
            return SpoolError("the disk of the spool filled up during the copy; give another folder with --spool")
        return SourceError(f"{self.path}: {error}")


def describe(path: Path, *, what: str, database: str, status: os.stat_result) -> SqliteRecord:
    """Check a database file that nobody writes, and describe what is in it.

    Args:
        path: the file; nothing is made beside it.
        what: what messages call it.
        database: the name in the record.
        status: of the file whose mode and owner are recorded.

    Raises:
        SourceError: it is damaged, or cannot be read.
    """
    try:
        address = f"file:{quote(str(path))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as connection:
            connection.text_factory = _Text
            says = _name(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            if says != "ok":
                raise SourceError(f"{what}: is damaged: quick_check says: {' '.join(says.split())}")
            broken = connection.execute("PRAGMA foreign_key_check").fetchall()
            listed = [
                (_name(name), _name(kind))
                for schema, name, kind, *_ in connection.execute("PRAGMA table_list")
                if _name(schema) == "main" and _name(name) != "sqlite_schema"
            ]
            return SqliteRecord(
                database=database,
                sqlite_version=sqlite3.sqlite_version,
                schema_digest=_schema(connection),
                user_version=int(_pragma(connection, "user_version")),
                page_size=int(_pragma(connection, "page_size")),
                page_count=int(_pragma(connection, "page_count")),
                mode=status.st_mode & 0o7777,
                uid=status.st_uid,
                gid=status.st_gid,
                tables=tuple(
                    _fingerprint(connection, name) for name, kind in sorted(listed) if kind in ("table", "shadow")
                ),
                unsound=tuple(
                    sorted({f"{_name(table)}: breaks a foreign key to {_name(to)}" for table, _, to, _ in broken})
                ),
                not_compared=tuple(
                    f"{name}: virtual table, its rows are in its shadow tables or elsewhere"
                    for name, kind in sorted(listed)
                    if kind == "virtual"
                ),
            )
    except sqlite3.Error as error:
        raise SourceError(f"{what}: cannot be read whole: {error}") from None


def differences(found: SqliteRecord, expected: SqliteRecord) -> list[Difference]:
    """Name each table and setting that is not as it was recorded."""
    result = [
        Difference(what=field, found=str(getattr(found, field)), expected=str(getattr(expected, field)))
        for field in ("schema_digest", "user_version", "page_size", "page_count", "unsound")
        if getattr(found, field) != getattr(expected, field)
    ]
    have = {table.table: table for table in found.tables}
    want = {table.table: table for table in expected.tables}
    for name in sorted(have.keys() | want.keys()):
        left, right = have.get(name), want.get(name)
        if left != right:
            result.append(Difference(what=name, found=_shown(left), expected=_shown(right)))
    return result


def _shown(table: TableFingerprint | None) -> str:
    return f"{table.rows} rows, {table.hash[:16]}…" if table else "no such table"


def _name(value: bytes | str) -> str:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return _name(value) if isinstance(value, bytes) else value


def _schema(connection: sqlite3.Connection) -> str:
    names = ("application_id", "encoding", "auto_vacuum")
    settings = {name: _pragma(connection, name) for name in names}
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    parts = sorted([None if value is None else _name(value) for value in row] for row in _tagged(rows))
    return hashlib.sha256(json.dumps([settings, parts], sort_keys=True).encode()).hexdigest()


def _tagged(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [[value if value is not None else "" for value in row] for row in rows]


def _fingerprint(connection: sqlite3.Connection, table: str) -> TableFingerprint:
    """Hash each row by itself and add: the sum does not depend on their order. What is computed is not read."""
    stored = [
        _quoted(_name(name))
        for _, name, _, _, _, _, hidden in connection.execute(f"PRAGMA table_xinfo({_quoted(table)})")
        if hidden in (0, 3)
    ]
    total = count = 0
    query = f"SELECT {', '.join(stored)} FROM {_quoted(table)}"  # noqa: S608  # names, quoted: they cannot be bound
    for row in connection.execute(query):
        total += int.from_bytes(hashlib.sha256(_encoded(row)).digest(), "big")
        count += 1
    return TableFingerprint(table=table, rows=count, method="sha256", hash=f"{total % (1 << 256):064x}")


def _encoded(row: tuple[Any, ...]) -> bytes:
    """Write a row so that no two different ones are the same bytes."""
    parts: list[bytes] = []
    for value in row:
        if value is None:
            parts.append(b"n;")
        elif isinstance(value, int):
            parts.append(b"i%d;" % value)
        elif isinstance(value, float):
            parts.append(b"f" + struct.pack(">d", value))
        else:
            parts.append((b"t%d:" if isinstance(value, _Text) else b"b%d:") % len(value))
            parts.append(value)
    return b"".join(parts)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
