"""Back up and restore a SQLite database file with SQLite's own online backup.

A write-ahead log lets one read transaction see one state while writers continue. Without one the copy is made in steps
that let writers proceed; each write restarts it, so after `RESTARTS` it is made in one step that blocks writers.
A file that SQLite could only read by writing beside it (after a crash, or in a read-only folder) is
copied with its log or journal, and SQLite recovers the copy; the live files are not touched.
The record is read from the copy, so it describes one state, whatever happens to the source meanwhile.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import sqlite3
import struct
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from ops.core.errors import RestoreError, RestoreRefusedError, SourceError, SpoolError, ToolError
from ops.core.progress import ProgressFactory
from ops.repository.records import SqliteRecord, TableFingerprint, shown_name
from ops.sources.base import Difference, Download, Dump, Outbox, RestoreTarget, Skipped, SourcePlan, TargetPlan

FILE = "database.sqlite"
"""The name of the copy in a backup."""

STEP_PAGES = 1000
STEP_SECONDS = 0.01
RESTARTS = 5
BUSY_SECONDS = 30
"""Seconds to wait for a lock of another program."""

OLDEST = (3, 37, 0)
"""Since this version SQLite tells tables, virtual tables and their shadows apart (`PRAGMA table_list`)."""

_MAGIC = b"SQLite format 3\x00"
_SIDE_FILES = ("-wal", "-shm", "-journal")
_LOCK_BYTES = (0x40000002, 510)
"""Byte range of the lock of SQLite's readers (SHARED_FIRST, SHARED_SIZE): no writer changes the file meanwhile."""

_NOT_WITHOUT_WRITING = (
    "SQLITE_READONLY",  # a hot journal, or an unrecovered log
    "SQLITE_CANTOPEN",  # a log's index that cannot be created here
    "SQLITE_PROTOCOL",
    "SQLITE_IOERR_SHM",
    "SQLITE_IOERR_LOCK",  # a mount without locks
    "SQLITE_IOERR_RDLOCK",
)
_BROKEN_RULE = re.compile(
    r"(NULL|NUMERIC|TEXT|non-\S+) value in |CHECK constraint failed in |non-unique entry in index "
    r"|row \d+ (missing from|values differ from) index |wrong # of entries in index |rowid not at end-of-record "
    r"|malformed inverted index |unable to validate the inverted index |In RTree |Page \d+(:| is) never used"
    r"|max rootpage \(\d+\) disagrees with header "
)
"""Lines of quick_check about content that violates its schema, or about wasted pages: each row can be
read. Any other line is damage."""

_UNUSED = "pages that no definition uses"
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class _Text(bytes):
    """A value of the class TEXT, distinguished from a BLOB; it need not be Unicode."""

    __slots__ = ()


class _RestartedError(Exception):
    """Writers have restarted the copy too often."""


class _NotWithoutWritingError(Exception):
    """SQLite cannot read the live file without writing it, or beside it."""


@dataclass(frozen=True, kw_only=True)
class SqliteFile(RestoreTarget[SqliteRecord]):
    """The database in the file `path`."""

    path: Path

    @property
    def name(self) -> str:
        """Return its name in messages."""
        return str(self.path)

    def plan(self) -> SourcePlan:
        """Check that it is a readable database.

        Raises:
            SourceError: missing, encrypted, not a database, locked, or no permission to read it or its log.
            ToolError: SQLite here is too old.
        """
        if sqlite3.sqlite_version_info < OLDEST:
            raise ToolError(f"sqlite: found {sqlite3.sqlite_version}, {'.'.join(map(str, OLDEST))} is needed")
        for part in self._parts():
            with self._read(part):
                pass
        try:
            with self._open() as connection:
                pages, page, mode = (_pragma(connection, name) for name in ("page_count", "page_size", "journal_mode"))
            size, journal = int(pages) * int(page), str(mode)
        except _NotWithoutWritingError:
            parts = self._parts()
            if len(parts) == 1:  # with a log or journal, the file alone need not be valid
                self._look_at(parts[0])
            size = sum(part.stat().st_size for part in parts)
            journal = "recovered in a private copy"
        return SourcePlan(
            what=f"sqlite {self.path}",
            bytes_estimate=size,
            details={"sqlite": sqlite3.sqlite_version, "journal": journal},
        )

    def dump(self, folder: Path, outbox: Outbox) -> Dump[SqliteRecord]:
        """Copy the database into `folder`, check the copy, and fingerprint it while it is being uploaded.

        Raises:
            SourceError: it cannot be read, is damaged, or stays locked.
            SpoolError: the disk filled up.
        """
        folder.mkdir(mode=0o700)
        copy = folder / FILE
        copy.touch(mode=0o600)
        try:
            with self._open() as connection:
                snapshot_at = self._copy(connection, copy)
        except _NotWithoutWritingError:
            snapshot_at = self._recover(copy)
        status = self.path.stat()
        read = folder / "describe"
        os.link(copy, read)  # the copy is removed when it is sent
        outbox.begin(copy)
        outbox.finish(copy)
        record = describe(read, what=self.name, database=shown_name(self.path.name), status=status)
        read.unlink()
        return Dump(files={copy: f"database {shown_name(self.path.name)}"}, record=record, snapshot_at=snapshot_at)

    def plan_restore(self, record: SqliteRecord) -> TargetPlan:
        """Refuse a path where something exists.

        Raises:
            RestoreRefusedError: a file of that name, or one that SQLite keeps beside it, exists, or there is no folder.
        """
        if not self.path.parent.is_dir():
            raise RestoreRefusedError(
                f"{self.path}: there is no folder {self.path.parent}; make it, or give another --into"
            )
        taken = (self.path, self._partial)
        for path in (*taken, *(each.with_name(each.name + end) for each in taken for end in _SIDE_FILES)):
            if path.exists() or path.is_symlink():
                raise RestoreRefusedError(f"{path}: is there already; restore into a new path with --into")
        del record
        return TargetPlan(target=self.name, free=shutil.disk_usage(self.path.parent).free)

    def restore(self, download: Download, record: SqliteRecord, progress: ProgressFactory) -> list[Skipped]:
        """Write the copy beside its new place, as PATH.partial, with its original mode and (as root) owner.

        One descriptor is used throughout: another writer of the folder cannot redirect it to another file.

        Raises:
            RestoreError: it cannot be written.
        """
        del progress
        folder = download.wait()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with (
                (folder / FILE).open("rb") as source,
                os.fdopen(os.open(self._partial, flags, 0o600), "wb") as target,
            ):
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
                if os.geteuid() == 0:
                    os.fchown(target.fileno(), record.uid, record.gid)
                os.fchmod(target.fileno(), record.mode & 0o777)
        except OSError as error:
            raise RestoreError(f"{self._partial}: cannot be written: {error.strerror}") from None
        return []

    def fingerprint(self) -> SqliteRecord:
        """Describe the current content: of the restored copy until it is renamed, otherwise of the file itself."""
        path = self._partial if self._partial.exists() else self.path
        return describe(path, what=str(path), database=shown_name(self.path.name), status=path.stat())

    def compare(self, record: SqliteRecord, skipped: Sequence[Skipped]) -> list[Difference]:
        """Compare schema, tables, rows and content with `record`."""
        del skipped  # one file: it is restored or not
        return differences(self.fingerprint(), record)

    def commit(self, skipped: Sequence[Skipped]) -> None:
        """Rename the restored copy to its name, unless a file was created there meanwhile.

        Raises:
            RestoreRefusedError: a file was created there.
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
        """Return where an unfinished restore has left its content."""
        return str(self._partial)

    @property
    def _partial(self) -> Path:
        return self.path.with_name(self.path.name + ".partial")

    def _parts(self) -> list[Path]:
        """Return the file and its log or journal, which are beside the real file, not beside a link."""
        real = self.path.resolve()
        sides = (real.with_name(real.name + end) for end in ("-wal", "-journal"))
        return [real, *(side for side in sides if side.exists())]

    def _read(self, part: Path) -> BinaryIO:
        try:
            return part.open("rb")
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                reason = "there is no such file; see backup.sources of the stack file"
            else:
                reason = f"{error.strerror}; run it as root, or as the user that owns the file"
            raise SourceError(f"{self.path if part == self.path.resolve() else part}: {reason}") from None

    def _look_at(self, real: Path) -> None:
        try:
            with closing(_connect(real, "ro&immutable=1")) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise self._explained(error) from None

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        """Open the live file only for reading.

        Raises:
            SourceError: it cannot be read.
            _NotWithoutWritingError: it could be read by somebody who may write it or beside it.
        """
        real = self.path.resolve()
        with self._read(real) as file:
            has_log = file.read(20)[18:] == b"\x02\x02"
        if has_log and not real.with_name(real.name + "-shm").exists():
            raise _NotWithoutWritingError  # SQLite would create one there and leave it
        try:
            with closing(_connect(real, "ro", timeout=BUSY_SECONDS)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                yield connection
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "").startswith(_NOT_WITHOUT_WRITING):
                raise _NotWithoutWritingError from None
            raise self._explained(error) from None

    def _recover(self, copy: Path) -> datetime:
        """Copy the live files unchanged, and let SQLite recover the copy from its journal or log."""
        begun = self._take(copy)
        try:
            with closing(_connect(copy, "rw")) as connection:
                connection.execute("PRAGMA synchronous = OFF")  # it need not outlive this run
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise self._explained(error) from None
        for end in _SIDE_FILES:
            copy.with_name(copy.name + end).unlink(missing_ok=True)
        return begun

    def _take(self, copy: Path) -> datetime:
        """Copy the file with its log or journal at one moment: writers are locked out, or the copy is repeated.

        The lock stops writers of the file itself. Writers of a log, or on a mount without locks, are detected by the
        times and sizes of the files.
        """
        for _ in range(RESTARTS):
            begun = datetime.now(UTC)
            before, parts = self._state(), self._parts()
            with self._read(parts[0]) as file:
                self._lock(file.fileno())  # held while `file` is open, and no other descriptor of it is closed
                try:
                    for part in parts:
                        with nullcontext(file) if part == parts[0] else self._read(part) as source:
                            self._copy_bytes(source, copy.with_name(copy.name + part.name.removeprefix(parts[0].name)))
                except SourceError:
                    if self._state() == before:
                        raise  # otherwise the app has just recovered it, and its log or journal is gone
            if self._state() == before:
                return begun
            for end in _SIDE_FILES:
                copy.with_name(copy.name + end).unlink(missing_ok=True)
        raise SourceError(
            f"{self.path}: was changed {RESTARTS} times while it was copied, by a program whose log is not to be seen "
            "here; run the backup where the app runs"
        )

    def _copy_bytes(self, source: BinaryIO, target: Path) -> None:
        try:
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._full() from None
            raise SourceError(f"{source.name}: {error.strerror}") from None

    def _state(self) -> list[tuple[int, int, int] | None]:
        real = self.path.resolve()
        found: list[tuple[int, int, int] | None] = []
        for end in ("", *_SIDE_FILES):
            try:
                status = real.with_name(real.name + end).stat()
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError:
                found.append(None)
        return found

    def _lock(self, descriptor: int) -> None:
        start, length = _LOCK_BYTES
        until = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, length, start)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    return  # a mount without locks: the files' times decide
                if time.monotonic() > until:
                    raise SourceError(self._locked()) from None
                time.sleep(STEP_SECONDS)
            else:
                return

    def _copy(self, source: sqlite3.Connection, copy: Path) -> datetime:
        """Copy the database; return a moment that the copy is not older than."""
        wal = _pragma(source, "journal_mode") == "wal"
        with closing(sqlite3.connect(copy, isolation_level=None)) as target:
            target.execute("PRAGMA synchronous = OFF")  # it need not outlive this run
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
        """Return SQLite's callback after each step: it ends a long wait, and a copy that was restarted too often."""
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

    def _full(self) -> SpoolError:
        return SpoolError("the disk of the spool filled up during the copy; give another folder with --spool")

    def _explained(self, error: sqlite3.Error) -> SourceError | SpoolError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return SourceError(self._locked())
        if code == sqlite3.SQLITE_NOTADB:
            with self._read(self.path.resolve()) as file:
                first = file.read(512)
            # 512 random bytes have some 220 different values; text and pictures' headers far fewer
            looks = len(set(first)) > 180 or first.startswith(_MAGIC)
            more = ": it looks encrypted (SQLCipher); back up an export that the app makes" if looks else ""
            return SourceError(f"{self.path}: is not a SQLite database{more}")
        if code == sqlite3.SQLITE_FULL:
            return self._full()
        if code == sqlite3.SQLITE_CORRUPT:
            return SourceError(f"{self.path}: is damaged: {error}; take the last backup, or `.recover` of sqlite3")
        return SourceError(f"{self.path}: {error}")


def describe(path: Path, *, what: str, database: str, status: os.stat_result) -> SqliteRecord:
    """Check a database file that nobody writes, and describe its content.

    It is opened for writing if permitted, since SQLite skips CHECKs otherwise; nothing is written.

    Args:
        path: the file.
        what: its name in messages.
        database: the name in the record.
        status: of the file whose mode and owner are recorded.

    Raises:
        SourceError: it is damaged, or cannot be read.
    """
    try:
        unsound, collations = _check(path, what)
        if not status.st_size:
            unsound.add("the file is empty: no table has been made in it")
        with closing(_connect(path, "ro&immutable=1")) as connection:
            connection.text_factory = _Text
            for collation in collations:  # defined only by the app; nothing is ordered by it here
                connection.create_collation(collation, lambda one, two: (one > two) - (one < two))
            fingerprints: list[TableFingerprint] = []
            not_compared: list[str] = []
            listed = _listed(connection)
            for name, kind in listed:
                if kind == "virtual":
                    not_compared.append(
                        f"{shown_name(name)}: virtual table, its rows are in its shadow tables or elsewhere"
                    )
                elif kind in ("table", "shadow"):
                    try:
                        fingerprints.append(_fingerprint(connection, name))
                    except (sqlite3.Error, UnicodeError) as error:
                        not_compared.append(f"{shown_name(name)}: {_unless_damage(error)}")
            known = {name for name, _ in listed}
            not_compared += [
                f"{shown_name(name)}: SQLite {sqlite3.sqlite_version} cannot read its definition"
                for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                if name not in known
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
                tables=tuple(fingerprints),
                unsound=tuple(sorted(unsound)),
                not_compared=tuple(sorted(not_compared)),
            )
    except sqlite3.Error as error:
        damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE
        raise SourceError(f"{what}: {'is damaged' if damaged else 'cannot be read'}: {error}") from None


def newly_unsound(found: SqliteRecord, expected: SqliteRecord) -> list[str]:
    """Return what is unsound only in the copy. Another version of SQLite may find or word such things differently."""
    if found.sqlite_version != expected.sqlite_version:
        return []
    return sorted(set(found.unsound) - set(expected.unsound))


def differences(found: SqliteRecord, expected: SqliteRecord) -> list[Difference]:
    """List each table and setting that differs from the record."""
    result = [
        Difference(what=field, found=str(getattr(found, field)), expected=str(getattr(expected, field)))
        for field in ("schema_digest", "user_version", "page_size", "page_count")
        if getattr(found, field) != getattr(expected, field)
    ]
    if new := newly_unsound(found, expected):
        result.append(Difference(what="unsound", found="; ".join(new), expected="no such line"))
    unread = {line.partition(": ")[0] for record in (found, expected) for line in record.not_compared}
    have = {table.table: table for table in found.tables}
    want = {table.table: table for table in expected.tables}
    for name in sorted(have.keys() | want.keys()):
        left, right = have.get(name), want.get(name)
        # a table that one side's SQLite cannot read, such as for an app's collation, is named but not a difference
        if left != right and not (None in (left, right) and name in unread):
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


def _connect(path: Path, mode: str, timeout: float = 0) -> sqlite3.Connection:
    """Open a file. A definition that does not parse hides only itself, and functions in a schema are not trusted."""
    address = f"file:{quote(os.fsencode(path))}?mode={mode}"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=timeout)
    for setting in ("writable_schema = ON", "trusted_schema = OFF", "cell_size_check = ON"):
        connection.execute(f"PRAGMA {setting}")
    return connection


def _listed(connection: sqlite3.Connection) -> list[tuple[bytes, str]]:
    """Return name and kind of each table and view whose definition SQLite can read."""
    return sorted(
        (bytes(name), _name(kind))
        for schema, name, kind, *_ in connection.execute("PRAGMA table_list")
        if _name(schema) == "main" and _name(name) != "sqlite_schema"
    )


def _check(path: Path, what: str) -> tuple[set[str], set[str]]:
    """Return what is unsound, and the collations that SQLite lacks; raise `SourceError` for damage."""
    with closing(_connect(path, "rw" if os.access(path, os.W_OK) else "ro&immutable=1")) as connection:
        connection.text_factory = _Text
        connection.execute("PRAGMA locking_mode = exclusive").fetchone()  # no -shm beside it
        tables = [name for name, kind in _listed(connection) if kind in ("table", "shadow")]
        unsound = _quick_check(connection, tables, what)
        if problems := _schema_problems(path):
            unsound = (unsound - {_UNUSED}) | problems  # the pages of a table that cannot be read are not unused
        collations: set[str] = set()
        for name in tables:
            unsound |= _broken_keys(connection, name)
            collations |= _collations(connection, name)
    return unsound, {name for name in collations if name.upper() not in ("BINARY", "NOCASE", "RTRIM")}


def _unless_damage(error: sqlite3.Error | UnicodeError) -> str:
    """Return why something cannot be read here; raise if the file is damaged or cannot be read at all."""
    if isinstance(error, UnicodeError):
        return "a name that is not UTF-8 cannot be asked for here"
    if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG):
        raise error
    return f"cannot be read here: {error}"


def _schema_problems(path: Path) -> set[str]:
    """Return SQLite's message on a definition that it cannot read; see `_connect`."""
    with closing(sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1", uri=True)) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            if str(error).startswith("malformed database schema"):
                return {str(error)}
            raise
        except UnicodeError:  # of the message itself
            return {"malformed database schema, with a name that is not UTF-8"}
    return set()


def _quick_check(connection: sqlite3.Connection, tables: Sequence[bytes], what: str) -> set[str]:
    """Return each broken rule of content; raise `SourceError` for damage.

    A CHECK or index that needs the app's own functions stops the complete check: then each table is checked separately.
    """
    try:
        return _broken_rules(connection, "2147483647", what)
    except (sqlite3.Error, UnicodeError) as error:
        _unless_damage(error)
    found: set[str] = set()
    for table in tables:
        for checks in ("OFF", "ON"):
            connection.execute(f"PRAGMA ignore_check_constraints = {checks}")
            try:
                found |= _broken_rules(connection, _quoted(_name(table)), what)
                break
            except (sqlite3.Error, UnicodeError) as error:
                found.add(f"{shown_name(table)}: cannot be checked: {_unless_damage(error)}")
    return found


def _broken_rules(connection: sqlite3.Connection, argument: str, what: str) -> set[str]:
    found: set[str] = set()
    for (says,) in connection.execute(f"PRAGMA quick_check({argument})"):
        text = shown_name(says)
        # a name may have line ends too: only messages about pages have several lines
        for line in text.split("\n")[1:] if text.startswith("*** in database") else [text]:
            if line == "ok":
                continue
            if not _BROKEN_RULE.match(line):
                raise SourceError(
                    f"{what}: is damaged: quick_check says: {line}; take the last backup, or `.recover` of sqlite3"
                )
            found.add(_UNUSED if "never used" in line or line.startswith("max rootpage") else line)
    return found


def _broken_keys(connection: sqlite3.Connection, table: bytes) -> set[str]:
    try:
        broken = connection.execute(f"PRAGMA foreign_key_check({_quoted(_name(table))})")
        return {f"{shown_name(table)}: breaks a foreign key to {shown_name(to)}" for _, _, to, _ in broken}
    except (sqlite3.Error, UnicodeError) as error:
        why = _unless_damage(error).removeprefix("cannot be read here: ")
        return {f"{shown_name(table)}: foreign keys cannot be checked: {why}"}


def _collations(connection: sqlite3.Connection, table: bytes) -> set[str]:
    """Return the names of the collations that indexes and keys of a table use."""
    try:
        indexes = connection.execute(f"PRAGMA index_list({_quoted(_name(table))})").fetchall()
        return {
            _name(column[4])
            for index in indexes
            for column in connection.execute(f"PRAGMA index_xinfo({_quoted(_name(index[1]))})")
            if column[4] is not None and _is_utf8(_name(column[4]))
        }
    except UnicodeError:
        return set()


def _fingerprint(connection: sqlite3.Connection, table: bytes) -> TableFingerprint:
    """Hash each row separately and add: the sum does not depend on their order. Computed columns are not read."""
    quoted = _quoted(_name(table))
    columns = [
        (_name(name), hidden)
        for _, name, _, _, _, _, hidden in connection.execute(f"PRAGMA table_xinfo({quoted})")
        if hidden != 1
    ]
    stored = [f"t.{_quoted(name)}" for name, hidden in columns if hidden != 2]
    rows = f"main.{quoted} AS t"
    if not _is_utf8("".join(name for name, _ in columns)):
        # a name that is not UTF-8 cannot be used in a query: all columns are renamed
        stored = [f"t.c{number}" for number in range(len(columns))]
        rows = f"(WITH t({', '.join(f'c{number}' for number in range(len(columns)))}) AS (SELECT * FROM {rows}) "  # noqa: S608  # quoted names
        rows += "SELECT * FROM t) AS t"
    wide = str(_pragma(connection, "encoding")) != "UTF-8" and len(stored) <= 1000  # SQLite's limit of columns is 2000
    if wide:
        # the bytes of the text, not their conversion to UTF-8, which repairs ill-formed text
        stored = [f"CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END" for name in stored] + [
            f"typeof({name}) = 'text'" for name in stored
        ]
    total = count = 0
    query = f"SELECT {', '.join(stored)} FROM {rows}"  # noqa: S608  # names, quoted: they cannot be bound
    for row in connection.execute(query):
        half = len(row) // 2
        values = (
            tuple(_Text(value) if text else value for value, text in zip(row[:half], row[half:], strict=True))
            if wide
            else row
        )
        total += int.from_bytes(hashlib.sha256(_encoded(values)).digest(), "big")
        count += 1
    return TableFingerprint(table=shown_name(table), rows=count, method="sha256", hash=f"{total % (1 << 256):064x}")


def _encoded(row: tuple[Any, ...]) -> bytes:
    """Encode a row so that different rows have different bytes."""
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


def _is_utf8(name: str) -> bool:
    return name == name.encode(errors="replace").decode()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
