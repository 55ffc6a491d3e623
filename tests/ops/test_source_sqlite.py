"""SQLite: copied while it is written, compared table by table, put back beside what lives."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from ops.core.errors import IntegrityError, RestoreError, RestoreRefusedError, SourceError
from ops.repository.stores.folder import FolderStore
from ops.sources import sqlite
from ops.sources.sqlite import SqliteFile, describe
from tests.ops.source_kit import backup, by_hand, everything_in, filled, keys, lose, restore

LEADS = """
CREATE TABLE leads (id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT UNIQUE, score REAL, photo BLOB, note);
CREATE TABLE visits (lead INTEGER REFERENCES leads, at TEXT, PRIMARY KEY (lead, at)) WITHOUT ROWID;
CREATE TABLE "odd ""name" (a, b GENERATED ALWAYS AS (a * 2) STORED, c AS (a * 3));
CREATE TABLE empty (a);
CREATE VIEW best AS SELECT * FROM leads WHERE score > 0.5;
CREATE INDEX by_score ON leads (score);
CREATE TRIGGER seen AFTER INSERT ON visits BEGIN UPDATE leads SET score = 1 WHERE id = new.lead; END;
CREATE VIRTUAL TABLE words USING fts5(body);
PRAGMA user_version = 7;
"""


def fill(connection):
    connection.executescript(LEADS)
    rows = [
        (f"c4n4ry{i}@example.org", i / 7, bytes([i % 256]) * 9, None if i % 2 else f"nota ñ {i}") for i in range(900)
    ]
    connection.executemany("INSERT INTO leads (email, score, photo, note) VALUES (?, ?, ?, ?)", rows)
    connection.executemany("INSERT INTO visits VALUES (?, ?)", [(i, f"2026-01-{i % 28:02}") for i in range(1, 300)])
    connection.execute("""INSERT INTO "odd ""name" (a) VALUES (1), (NULL), (9223372036854775807)""")
    connection.executemany("INSERT INTO words VALUES (?)", [(f"some words {i}",) for i in range(50)])
    connection.commit()


@pytest.fixture(params=["wal", "delete"])
def leads(request, tmp_path):
    path = tmp_path / "leads.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {request.param}")
        fill(connection)
    path.chmod(0o640)
    return path


def test_encrypted_to_two_stores_and_back_from_the_second_with_the_first_gone(leads, s3, tmp_path):
    recipients, identities = keys(tmp_path)
    first = FolderStore(tmp_path / "first")
    made = backup(SqliteFile(path=leads), first, s3, recipients=recipients)
    assert b"c4n4ry" not in everything_in(first.root)
    assert {t.table: t.rows for t in made.source.tables} | {
        "leads": 900,
        "visits": 299,
        "empty": 0,
        'odd "name': 3,
    } == {t.table: t.rows for t in made.source.tables}
    assert made.source.not_compared == ("words: virtual table, its rows are in its shadow tables or elsewhere",)
    assert "words_content" in {table.table for table in made.source.tables}
    lose(first)
    place = SqliteFile(path=tmp_path / "back.db")
    report = restore(s3, place, identities=identities)
    assert report.rows == made.source.rows
    assert place.compare(made.source, []) == []
    assert (tmp_path / "back.db").stat().st_mode & 0o777 == 0o640
    with closing(sqlite3.connect(tmp_path / "back.db")) as connection:
        assert connection.execute("SELECT count(*) FROM best").fetchone() != (0,)
        assert connection.execute("SELECT count(*) FROM words WHERE words MATCH 'some'").fetchone() == (50,)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE leads SET score = score + 0.001 WHERE id = 5", "leads"),
        ("UPDATE leads SET note = CAST(note AS BLOB) WHERE id = 3", "leads"),
        ("UPDATE leads SET photo = NULL WHERE id = 3", "leads"),
        ("DELETE FROM visits WHERE lead = 7", "visits"),
        ('UPDATE "odd ""name" SET a = 2 WHERE a = 1', 'odd "name'),
        ("INSERT INTO words VALUES ('more')", "words_content"),
        ("DROP INDEX by_score", "schema_digest"),
        ("PRAGMA user_version = 8", "user_version"),
    ],
)
def test_any_change_is_seen_and_named(leads, tmp_path, change, what):
    made = backup(SqliteFile(path=leads), FolderStore(tmp_path / "first"))
    assert SqliteFile(path=leads).compare(made.source, []) == []
    with closing(sqlite3.connect(leads)) as connection:
        connection.execute(change)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert what in {difference.what for difference in SqliteFile(path=leads).compare(made.source, [])}


def test_the_order_of_rows_is_no_difference(tmp_path):
    rows, hashes = [(i, str(i)) for i in range(200)], set()
    for turn in range(2):
        path = tmp_path / f"{turn}.db"
        random.Random(turn).shuffle(rows)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t (a, b)")
            connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
            connection.commit()
        hashes.add(describe(path, what="", database="", status=path.stat()).tables[0].hash)
    assert len(hashes) == 1


def test_a_writer_writes_on_during_the_backup_and_the_copy_is_of_one_moment(leads, folder, monkeypatch, tmp_path):
    """Each transaction moves one unit from one row to another: a copy of two moments would have another sum."""
    monkeypatch.setattr(sqlite, "STEP_PAGES", 1)
    with closing(sqlite3.connect(leads)) as connection:
        connection.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, units INT, filler)")
        connection.executemany("INSERT INTO accounts VALUES (?, 100, ?)", [(i, "x" * 2000) for i in range(200)])
        connection.commit()
    stop, moves = threading.Event(), []

    def write():
        with closing(sqlite3.connect(leads, timeout=60, isolation_level=None)) as connection:
            while not stop.is_set():
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE accounts SET units = units - 1 WHERE id = ?", (len(moves) % 100,))
                connection.execute("UPDATE accounts SET units = units + 1 WHERE id = ?", (100 + len(moves) % 100,))
                connection.execute("COMMIT")
                moves.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        before = len(moves)
        backup(SqliteFile(path=leads), folder)
        during = len(moves) - before
    finally:
        stop.set()
        writer.join()
    assert during > 0
    restore(folder, SqliteFile(path=tmp_path / "back.db"))
    with closing(sqlite3.connect(tmp_path / "back.db")) as connection:
        assert connection.execute("SELECT sum(units) FROM accounts").fetchone() == (20000,)


def test_what_is_only_in_the_write_ahead_log_is_in_the_backup(tmp_path, folder):
    path = tmp_path / "live.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
        assert (tmp_path / "live.db-wal").stat().st_size > 0
        made = backup(SqliteFile(path=path), folder)
    assert made.source.rows == 1


def test_what_is_no_database_is_one_clear_line(tmp_path, leads):
    (tmp_path / "text").write_text("hello " * 500)
    (tmp_path / "cipher").write_bytes(os.urandom(4096))
    torn = tmp_path / "torn"
    torn.write_bytes(leads.read_bytes()[:100] + b"\xff" * 4000)
    for name, says in {
        "text": "text: is not a SQLite database$",
        "cipher": "is not a SQLite database: it looks encrypted",
        "absent": "there is no such file; see backup.sources",
        "torn": "torn: ",
    }.items():
        with pytest.raises(SourceError, match=says) as caught:
            SqliteFile(path=tmp_path / name).plan()
        assert "\n" not in str(caught.value)
    SqliteFile(path=leads).plan()


def test_a_restore_writes_through_one_descriptor_and_never_through_a_link(leads, folder, tmp_path, monkeypatch):
    """Who may write the folder too puts a link to a file of root's where the copy is made."""
    made = backup(SqliteFile(path=leads), folder)
    victim, place = tmp_path / "victim", SqliteFile(path=tmp_path / "back.db")
    victim.write_text("as it was")
    victim.chmod(0o600)
    before = (victim.read_text(), victim.stat().st_mode, victim.stat().st_uid)
    (tmp_path / "dump").mkdir()
    shutil.copy(leads, tmp_path / "dump" / sqlite.FILE)
    real = shutil.copyfileobj

    def swapped(source, target, *more):
        Path(place.partial).unlink()
        Path(place.partial).symlink_to(victim)
        real(source, target, *more)

    monkeypatch.setattr(shutil, "copyfileobj", swapped)
    filled(place, tmp_path / "dump", made.source.model_copy(update={"mode": 0o4777}))
    assert (victim.read_text(), victim.stat().st_mode, victim.stat().st_uid) == before
    with pytest.raises(RestoreError, match="cannot be written: File exists"):
        filled(place, tmp_path / "dump", made.source)


def test_a_locked_database_is_one_clear_line(leads, folder, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    with closing(sqlite3.connect(leads, isolation_level=None)) as connection:
        if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            pytest.skip("a write-ahead log locks no reader out")
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceError, match="is locked by another program"):
            backup(SqliteFile(path=leads), folder)
        connection.execute("ROLLBACK")
        assert list(folder.list("")) == []
    backup(SqliteFile(path=leads), folder)


def test_a_damaged_database_is_not_backed_up(leads, folder, tmp_path):
    with closing(sqlite3.connect(leads)) as connection:
        connection.execute("PRAGMA journal_mode = delete")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'visits'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(leads.read_bytes())
    content[(page - 1) * size : (page - 1) * size + 200] = b"\x5a" * 200
    leads.write_bytes(content)
    with pytest.raises(SourceError, match=r"damaged|malformed"):
        backup(SqliteFile(path=leads), folder)
    assert list(folder.list("")) == []


def test_broken_foreign_keys_are_recorded_and_no_failure(leads, folder):
    with closing(sqlite3.connect(leads)) as connection:
        connection.execute("INSERT INTO visits VALUES (99999, 'never')")
        connection.commit()
    assert backup(SqliteFile(path=leads), folder).source.unsound == ("visits: breaks a foreign key to leads",)


def test_a_restore_never_takes_the_place_of_a_file(leads, folder, tmp_path):
    backup(SqliteFile(path=leads), folder)
    before = leads.read_bytes()
    with pytest.raises(RestoreRefusedError, match="is there already; restore into a new path"):
        restore(folder, SqliteFile(path=leads))
    assert leads.read_bytes() == before
    (tmp_path / "new.db-wal").touch()  # SQLite would read it as part of the new file
    with pytest.raises(RestoreRefusedError, match=r"new\.db-wal: is there already"):
        restore(folder, SqliteFile(path=tmp_path / "new.db"))
    with pytest.raises(RestoreRefusedError, match="there is no folder"):
        restore(folder, SqliteFile(path=tmp_path / "absent" / "new.db"))


def test_a_flipped_bit_makes_no_file_and_a_wrong_copy_is_left_under_another_name(leads, folder, tmp_path, monkeypatch):
    made = backup(SqliteFile(path=leads), folder)
    stored = folder.root / "thing" / made.id / made.objects[0].key
    good = stored.read_bytes()
    stored.write_bytes(good[:-30] + bytes([good[-30] ^ 1]) + good[-29:])
    with pytest.raises(IntegrityError):
        restore(folder, SqliteFile(path=tmp_path / "back.db"))
    assert not list(tmp_path.glob("back.db*"))
    stored.write_bytes(good)
    real = SqliteFile.restore

    def wrong(self, place, record, progress):
        real(self, place, record, progress)
        with closing(sqlite3.connect(self.partial)) as connection:
            connection.execute("DELETE FROM leads WHERE id = 1")
            connection.commit()
            connection.execute("PRAGMA journal_mode = delete")

    monkeypatch.setattr(SqliteFile, "restore", wrong)
    with pytest.raises(RestoreError, match=r"not equal to .*back.db.partial is left for inspection"):
        restore(folder, SqliteFile(path=tmp_path / "back.db"))
    assert not (tmp_path / "back.db").exists()


def test_a_person_restores_with_stock_tools_alone(leads, tmp_path):
    recipients, _ = keys(tmp_path)
    store = FolderStore(tmp_path / "store")
    made = backup(SqliteFile(path=leads), store, recipients=recipients)
    done = by_hand(store.root / "thing" / made.id, IDENTITY=tmp_path / "operator", NEW=tmp_path / "new.db")
    assert done.returncode == 0, done.stderr
    assert SqliteFile(path=tmp_path / "new.db").compare(made.source, []) == []
