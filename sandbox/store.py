"""The sandbox's memory: every object of the account as one JSON row of SQLite, committed before an answer is sent.

One connection under one lock: a sandbox has few clients, and whole requests must see and leave a consistent account.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Record = dict[str, Any]

# (kind, parent, id) → (its row before the change, its body after it). A row is (seq, body); None is: not there.
Row = tuple[int, str]
Changes = dict[tuple[str, str, str], tuple[Row | None, str | None]]

# One step a version of state.db, for what is there; a file of version N has taken the first N. Only ever add to it.
_STEPS = (
    """
    create table if not exists object (
      seq integer primary key autoincrement,
      kind text not null,
      id text not null,
      parent text not null default '',
      body text not null,
      unique (kind, parent, id)
    );
    create table if not exists counter (name text primary key, value integer not null);
    create table if not exists meta (name text primary key, value text not null);
    """,
    # An action says why it failed; a droplet's actions are asked for whenever the droplet is shown.
    """
    update object set body = json_set(body, '$.reason', '') where kind = 'action';
    create index object_droplet on object (kind, json_extract(body, '$.droplet_id'));
    create index object_status on object (kind, json_extract(body, '$.status'));
    """,
)
# Fields that the second step indexes.
_INDEXED = ("droplet_id", "status")


class NewerStateError(Exception):
    """A newer sandbox has written the file."""


class Store:
    """Objects by (kind, parent, id), in the order they were made. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The file holds generated passwords and user_data: it is created readable by its owner alone.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._lock = threading.RLock()
        self._depth = 0
        self._holder: int | None = None
        self._changes: Changes = {}
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # A commit outlives the process at once; only the machine's own death may cost the last ones.
        self._db.executescript("pragma journal_mode = wal; pragma synchronous = normal;")
        self._migrate(path)

    def _migrate(self, path: Path) -> None:
        """Bring the file to this version, each step whole or not at all.

        Raises:
            NewerStateError: it is past this version.
        """
        (version,) = self._db.execute("pragma user_version").fetchone()
        if version > len(_STEPS):
            self._db.close()
            raise NewerStateError(
                f"{path} has version {version} and this sandbox knows {len(_STEPS)}: a newer one wrote it. Use that"
                " one, or `python -m sandbox reset`, which removes all data of this one"
            )
        for number, step in enumerate(_STEPS[version:], version + 1):
            self._db.executescript(f"begin immediate; {step} pragma user_version = {number}; commit;")

    def close(self) -> None:
        """Close the file; nothing is lost, everything was committed."""
        with self._lock:
            self._db.close()

    def held(self) -> bool:
        """Return True if the calling thread is in a transaction, so that everybody else waits for it."""
        return self._holder == threading.get_ident()

    @contextmanager
    def transaction(self) -> Generator[Changes]:
        """Hold the account: all that is done inside is committed at the end, or nothing of it.

        Yields what the (outermost) transaction has changed so far; `undo` takes it.
        """
        with self._lock:
            outermost = self._depth == 0
            if outermost:
                self._db.execute("begin immediate")
                self._changes = {}
                self._holder = threading.get_ident()
            self._depth += 1
            try:
                yield self._changes
            except BaseException:
                if outermost:
                    self._db.execute("rollback")
                raise
            else:
                if outermost:
                    self._db.execute("commit")
            finally:
                self._depth -= 1
                if outermost:
                    self._holder = None

    def put(self, kind: str, ident: str | int, body: Record, *, parent: str = "") -> Record:
        """Insert the object, or replace it in its place."""
        text = json.dumps(body)
        with self._lock:
            self._note((kind, parent, str(ident)), text)
            self._db.execute(
                "insert into object (kind, parent, id, body) values (?, ?, ?, ?)"
                " on conflict (kind, parent, id) do update set body = excluded.body",
                (kind, parent, str(ident), text),
            )
        return body

    def _row(self, key: tuple[str, str, str]) -> Row | None:
        return self._db.execute("select seq, body from object where kind = ? and parent = ? and id = ?", key).fetchone()

    def _note(self, key: tuple[str, str, str], after: str | None) -> None:
        if self._depth:
            before = self._changes[key][0] if key in self._changes else self._row(key)
            self._changes[key] = (before, after)

    def undo(self, changes: Changes) -> None:
        """Bring every object of a committed transaction back to what it was before, unless it was changed since."""
        with self.transaction():
            for key, (before, after) in changes.items():
                row = self._row(key)
                if (row[1] if row else None) != after:
                    continue
                if before is None:
                    self._db.execute("delete from object where kind = ? and parent = ? and id = ?", key)
                else:
                    self._db.execute(
                        "insert or replace into object (seq, kind, parent, id, body) values (?, ?, ?, ?, ?)",
                        (before[0], *key, before[1]),
                    )

    def get(self, kind: str, ident: str | int, *, parent: str = "") -> Record | None:
        """Return the object, or None."""
        with self._lock:
            row = self._db.execute(
                "select body from object where kind = ? and parent = ? and id = ?", (kind, parent, str(ident))
            ).fetchone()
        return json.loads(row[0]) if row else None

    def list(self, kind: str, *, parent: str | None = None, **equal: Any) -> list[Record]:
        """List the objects of a kind, oldest first, of one parent or of all, whose top-level fields equal these."""
        indexed = [name for name in _INDEXED if name in equal]
        where = "".join(f" and json_extract(body, '$.{name}') is ?" for name in indexed)
        with self._lock:
            rows = self._db.execute(
                f"select body from object where kind = ? and (? is null or parent = ?){where} order by seq",  # noqa: S608 - names of the code's own
                (kind, parent, parent, *(equal[name] for name in indexed)),
            ).fetchall()
        records: list[Record] = [json.loads(body) for (body,) in rows]
        return [record for record in records if all(record.get(name) == value for name, value in equal.items())]

    def prune(self, kind: str, keep: int, *, unless: Record | None = None) -> None:
        """Forget the oldest objects of a kind, but for the newest `keep` and those whose fields equal `unless`."""
        with self._lock:
            past = self._db.execute(
                "select id, parent, body from object where kind = ? order by seq desc limit -1 offset ?", (kind, keep)
            ).fetchall()
            for ident, parent, body in past:
                record: Record = json.loads(body)
                if not unless or any(record.get(name) != value for name, value in unless.items()):
                    self.delete(kind, ident, parent=parent)

    def items(self, kind: str) -> list[tuple[str, Record]]:
        """List the objects of a kind with their ids, oldest first."""
        with self._lock:
            rows = self._db.execute("select id, body from object where kind = ? order by seq", (kind,)).fetchall()
        return [(ident, json.loads(body)) for ident, body in rows]

    def delete(self, kind: str, ident: str | int, *, parent: str = "") -> None:
        """Remove the object if it is there."""
        key = (kind, parent, str(ident))
        with self._lock:
            self._note(key, None)
            self._db.execute("delete from object where kind = ? and parent = ? and id = ?", key)

    def delete_children(self, kind: str, parent: str) -> None:
        """Remove every object of a kind under one parent."""
        with self._lock:
            rows = self._db.execute("select id from object where kind = ? and parent = ?", (kind, parent)).fetchall()
            for (ident,) in rows:
                self.delete(kind, ident, parent=parent)

    def counts(self) -> dict[str, int]:
        """Count the objects of each kind."""
        with self._lock:
            return dict(self._db.execute("select kind, count(*) from object group by kind order by kind").fetchall())

    def next_number(self, name: str, first: int) -> int:
        """Return the next number of a sequence that is never used twice, not even after a restart."""
        with self.transaction():
            row = self._db.execute("select value from counter where name = ?", (name,)).fetchone()
            value = row[0] + 1 if row else first
            self._db.execute("insert or replace into counter (name, value) values (?, ?)", (name, value))
        return value

    def get_meta(self, name: str, default: Any = None) -> Any:
        """Return a single value kept beside the objects."""
        with self._lock:
            row = self._db.execute("select value from meta where name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else default

    def set_meta(self, name: str, value: Any) -> None:
        """Keep a single value beside the objects."""
        with self._lock:
            self._db.execute("insert or replace into meta (name, value) values (?, ?)", (name, json.dumps(value)))
