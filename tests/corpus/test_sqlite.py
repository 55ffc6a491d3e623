"""SQLite files that are odd and sound: backed up, drilled and restored, with nothing refused, called wrong or lost.

`sqlite/*.sql` are run by an app that has a function and a collation of its own. Their first lines say what the backup
must name. The oracle is the stock tool: `sqlite3 FILE .dump` of the source and of the restored copy.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from ops.core.errors import SourceError
from ops.drill.context import NO_ROWS
from ops.drill.kinds.backup import BackupDrill
from ops.drill.runner import run
from ops.repository.records import shown_name
from ops.repository.stores.folder import FolderStore
from ops.sources.sqlite import FILE, SqliteFile
from tests.corpus.generate_sqlite import databases
from tests.ops.source_kit import backup, filled, restore, silent

SEED = int(os.environ["ANCLA_SEED"])
CASES = sorted((Path(__file__).parent / "sqlite").glob("*.sql"))
DRAWN = settings(
    database=None,
    deadline=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def app(path):
    """Open a database as the app does that has functions and a collation of its own."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.create_function("app_function", 1, lambda value: value, deterministic=True)
    connection.create_collation("app_order", lambda one, two: (one > two) - (one < two))
    return connection


def dumped(path):
    """What the stock tool reads of a database; it may not write it, nor what lies beside it."""
    if shutil.which("sqlite3") is None:
        pytest.skip("the stock tool sqlite3 is not installed: apt-get install sqlite3")
    return subprocess.run(["sqlite3", "-readonly", path, ".dump"], capture_output=True, check=False).stdout


def stock_backup(path, tmp_path):
    """What the stock tool's `.backup` makes of a copy, as the app's host would have it after a restart."""
    twin = tmp_path / "twin"
    shutil.rmtree(twin, ignore_errors=True)
    twin.mkdir()
    for each in path.parent.glob(f"{path.name}*"):
        shutil.copy2(each, twin)
    subprocess.run(["sqlite3", twin / path.name, f".backup {twin / 'stock.db'}"], check=True, capture_output=True)
    return twin / "stock.db"


def state(path):
    """Names, bytes and times of a database and what lies beside it."""
    files = sorted(path.parent.glob(f"{path.name}*"))
    return [(each.name, each.read_bytes(), each.stat().st_mtime_ns) for each in files]


def expected(case, what):
    lines = case.read_text().splitlines()
    found = [line.removeprefix(f"-- {what}: ") for line in lines if line.startswith(f"-- {what}: ")]
    return tuple(sorted(line.replace("VERSION", sqlite3.sqlite_version) for line in found))


def named(path, record):
    """Assert that each table is in the record with its rows, or named in it as not compared."""
    with closing(app(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
        known = {table.table: table.rows for table in record.tables}
        lines = record.not_compared
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            shown = shown_name(table)
            if shown in known:
                query = 'SELECT count(*) FROM "' + table.replace('"', '""') + '" NOT INDEXED'
                assert connection.execute(query).fetchone() == (known[shown],)
            else:
                assert any(line.startswith(f"{shown}: ") for line in lines), f"{table!r} is lost"


def drill(store, tmp_path):
    (tmp_path / "spool").mkdir(exist_ok=True)
    return run(
        BackupDrill(
            environment="staging",
            project="test",
            name="thing",
            store=store,
            max_age_hours=26,
            rto_minutes=15,
            spool=tmp_path / "spool",
        ),
        silent,
    )


def through(path, tmp_path):
    """Back up, drill and restore; return (the manifest, the restored file). The live files are as they were."""
    before, store = state(path), FolderStore(tmp_path / "store")
    SqliteFile(path=path).plan()
    made = backup(SqliteFile(path=path), store)
    assert state(path) == before, "the live files were touched"
    evidence = drill(store, tmp_path)
    red = "" if made.source.rows else f"rows: {NO_ROWS}"  # a drill's own rule: an empty copy proves nothing
    assert evidence.summary() == red
    back = tmp_path / "back.db"
    report = restore(store, SqliteFile(path=back))
    assert report.skipped == []
    assert [each.name for each in tmp_path.glob("back.db*")] == ["back.db"]
    named(back, made.source)
    return made, back


@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_an_odd_and_sound_file_is_backed_up_drilled_and_restored(case, tmp_path):
    path = tmp_path / "live.db"
    with closing(app(path)) as connection:
        connection.executescript(case.read_text())
    made, back = through(path, tmp_path)
    assert made.source.unsound == expected(case, "unsound")
    assert made.source.not_compared == expected(case, "not compared")
    assert dumped(back) == dumped(path)


def test_a_name_of_several_lines_is_no_damage(tmp_path):
    path = tmp_path / "live.db"
    with closing(app(path)) as connection:
        connection.executescript('CREATE TABLE "a\nb\x0bc" (d); INSERT INTO "a\nb\x0bc" VALUES (NULL)')
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, '(d)', '(d NOT NULL)')")
    made, _ = through(path, tmp_path)
    assert made.source.unsound == ("NULL value in a\nb\x0bc.d",)


def test_an_empty_file_is_a_database_without_a_table(tmp_path):
    path = tmp_path / "live.db"
    path.touch()
    made, back = through(path, tmp_path)
    assert made.source.unsound == ("the file is empty: no table has been made in it",)
    assert made.source.tables == ()
    with closing(sqlite3.connect(back)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_reserved_bytes_at_the_end_of_each_page_are_kept(tmp_path):
    if shutil.which("sqlite3") is None:
        pytest.skip("the stock tool sqlite3 is not installed: apt-get install sqlite3")
    path = tmp_path / "live.db"
    script = "CREATE TABLE t (a);\nINSERT INTO t SELECT randomblob(3000);\n"
    subprocess.run(["sqlite3", path, ".filectrl reserve_bytes 32", script, "VACUUM"], check=True, capture_output=True)
    assert path.read_bytes()[20] == 32
    _, back = through(path, tmp_path)
    assert back.read_bytes()[20] == 32
    assert dumped(back) == dumped(path)


def test_tables_and_columns_whose_names_are_not_utf8(tmp_path):
    path = tmp_path / "live.db"
    with closing(app(path)) as connection:
        connection.executescript("CREATE TABLE t (xx, b); INSERT INTO t VALUES (1, 2); CREATE TABLE yy (a)")
        connection.executescript("PRAGMA writable_schema = ON")
        for old, new in (("xx", "c3ff"), ("yy", "ff61")):
            for column in ("sql", "name", "tbl_name"):
                connection.execute(
                    f"UPDATE sqlite_master SET {column} = replace({column}, ?, CAST(x'22{new}22' AS TEXT))"
                    if column == "sql"
                    else f"UPDATE sqlite_master SET {column} = replace({column}, ?, CAST(x'{new}' AS TEXT))",
                    (old,),
                )
    made, back = through(path, tmp_path)
    assert [(table.table, table.rows) for table in made.source.tables] == [("t", 1)]
    assert made.source.not_compared == (r"\xffa: a name that is not UTF-8 cannot be asked for here",)
    assert dumped(back) == dumped(path)


def crashed(path, journal):
    """Leave a file as a crash does: with a hot journal, or with a log whose index is gone. 500 rows are committed."""
    alive = path.with_name("alive")
    with closing(sqlite3.connect(alive, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("CREATE TABLE t (a, b)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(i, "x" * 500) for i in range(500)])
        connection.execute("COMMIT")
        connection.execute("PRAGMA cache_size = 2")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE t SET b = 'y' || b")
        for end in ("", "-journal", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{alive}{end}", f"{path}{end}")
    for each in path.parent.glob("alive*"):
        each.unlink()
    assert path.with_name(f"{path.name}-{'wal' if journal == 'wal' else 'journal'}").stat().st_size > 1000


@pytest.mark.parametrize("journal", ["delete", "persist", "wal"])
def test_what_a_crash_left_is_recovered_in_a_private_copy(tmp_path, journal):
    path = tmp_path / "live.db"
    crashed(path, journal)
    _, back = through(path, tmp_path)
    with closing(sqlite3.connect(back)) as connection:
        assert connection.execute("SELECT count(*), min(b), max(b) FROM t").fetchone() == (500, "x" * 500, "x" * 500)
    assert dumped(back) == dumped(stock_backup(path, tmp_path))


def test_a_link_to_the_file_finds_the_journal_beside_the_file(tmp_path):
    (tmp_path / "data").mkdir()
    crashed(tmp_path / "data" / "live.db", "delete")
    (tmp_path / "link.db").symlink_to("data/live.db")
    made = backup(SqliteFile(path=tmp_path / "link.db"), FolderStore(tmp_path / "store"))
    assert made.source.rows == 500


@pytest.mark.parametrize("journal", ["delete", "wal", "clean wal"])
def test_a_reader_who_may_not_write_the_folder(tmp_path, journal, capfd):
    """In a process of nobody: the file is another user's, and so is the folder, which is not to be written."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "live.db"
    if journal == "clean wal":
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript("PRAGMA journal_mode = wal; CREATE TABLE t (a, b)")
            connection.executemany("INSERT INTO t VALUES (?, ?)", [(i, "x") for i in range(500)])
            connection.commit()
    else:
        crashed(path, journal)
    for each in folder.iterdir():
        each.chmod(0o644)
    folder.chmod(0o555)
    before, own = state(path), tmp_path / "own"
    own.mkdir()
    os.chown(own, 65534, 65534)
    opened = [each for each in tmp_path.parents if each != Path("/") and each.stat().st_mode & 0o005 != 0o005]
    modes = [(each, each.stat().st_mode & 0o7777) for each in opened]
    for each in opened:
        each.chmod(0o755)
    tmp_path.chmod(0o755)
    try:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setgid(65534)
                os.setuid(65534)
                SqliteFile(path=path).plan()
                dump = SqliteFile(path=path).dump(own / "dump", Kept())
                code = 0 if dump.record.rows == 500 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, capfd.readouterr().err
    finally:
        for each, mode in modes:
            each.chmod(mode)
    assert state(path) == before


class Kept:
    """An outbox that leaves the files where they are."""

    def begin(self, path):
        pass

    def finish(self, path):
        pass

    def check(self):
        pass


def test_a_writer_that_comes_while_the_private_copy_is_taken_makes_it_again(tmp_path, monkeypatch):
    path = tmp_path / "live.db"
    crashed(path, "wal")
    real, came = SqliteFile._copy_bytes, []

    def copy_bytes(self, source, target):
        real(self, source, target)
        if not came:
            came.append(True)
            os.utime(path)

    monkeypatch.setattr(SqliteFile, "_copy_bytes", copy_bytes)
    made = backup(SqliteFile(path=path), FolderStore(tmp_path / "store"))
    assert made.source.rows == 500
    went = []

    def gone(self, source, target):
        real(self, source, target)
        if not went:  # the app starts, and has recovered its log before it is read
            went.append(path.with_name("live.db-wal").rename(tmp_path / "played back"))
            shutil.copy(tmp_path / "recovered.db", path)

    with closing(sqlite3.connect(tmp_path / "recovered.db")) as connection:
        connection.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)")
    monkeypatch.setattr(SqliteFile, "_copy_bytes", gone)
    assert backup(SqliteFile(path=path), FolderStore(tmp_path / "store")).source.rows == 2
    path.unlink()
    crashed(path, "wal")
    monkeypatch.setattr(SqliteFile, "_copy_bytes", lambda self, source, target: os.utime(path))
    with pytest.raises(SourceError, match="was changed 5 times while it was copied"):
        backup(SqliteFile(path=path), FolderStore(tmp_path / "store"))


def test_a_log_that_may_not_be_read_is_refused_by_the_plan(tmp_path, monkeypatch):
    path = tmp_path / "live.db"
    crashed(path, "wal")
    real = Path.open

    def refused(self, *args, **more):
        if self.name.endswith("-wal"):
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **more)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(SourceError, match=r"live\.db-wal: Permission denied; run it as root"):
        SqliteFile(path=path).plan()


@pytest.mark.parametrize("where", ["page of a table", "schema", "cut"])
def test_damage_of_the_file_itself_is_refused(tmp_path, where):
    """The other side: what is skipped as odd must not hide what is broken."""
    path = tmp_path / "live.db"
    with closing(app(path)) as connection:
        connection.executescript("BEGIN; CREATE TABLE t (a NOT NULL CHECK (app_function(a) IS NOT 5))")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 300,) for _ in range(200)])
        connection.execute("COMMIT")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 't'").fetchone()
    content = bytearray(path.read_bytes())
    match where:
        case "page of a table":
            content[(root - 1) * 4096 : (root - 1) * 4096 + 200] = b"\x5a" * 200
        case "schema":
            content[100:300] = b"\xff" * 200
        case _:
            del content[-3 * 4096 :]
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"damaged|malformed"):
        backup(SqliteFile(path=path), FolderStore(tmp_path / "store"))


def built(path, recipe):
    """Make the file that a recipe describes; statements that SQLite refuses are left out."""
    pragmas, statements, spoilers, journal = recipe
    alive = path.with_name("alive")
    with closing(app(alive)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for name, value in pragmas.items():
            connection.execute(f"PRAGMA {name} = {value}")
        connection.execute(f"PRAGMA journal_mode = {'wal' if 'wal' in journal else journal.partition(' ')[0]}")
        # made first: an app that writes over a broken schema does damage the file
        filler = ["CREATE TABLE filler (a)", "INSERT INTO filler VALUES (randomblob(9000)), (randomblob(9000))"]
        for statement in [*filler, "BEGIN", *statements, "COMMIT", "PRAGMA writable_schema = ON", *spoilers]:
            with suppress(sqlite3.Error, UnicodeError):
                connection.execute(statement)
        if journal == "hot journal":
            with suppress(sqlite3.Error):
                connection.execute("PRAGMA cache_size = 1")
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE filler SET a = randomblob(20000)")
        if journal in {"hot journal", "wal left"}:
            for end in ("", "-journal", "-wal"):
                with suppress(FileNotFoundError):
                    shutil.copyfile(f"{alive}{end}", f"{path}{end}")
    if not path.exists():
        shutil.copyfile(alive, path)
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{alive}-journal", f"{path}-journal")
    for each in path.parent.glob("alive*"):
        each.unlink()


def carries(recipe, tmp_path, number):
    """Take one drawn file through plan, dump, restore and comparison, and hold it against the stock tool."""
    home = tmp_path / str(number)
    home.mkdir()
    path, back = home / "live.db", home / "back.db"
    built(path, recipe)
    before = state(path)
    SqliteFile(path=path).plan()
    dump = SqliteFile(path=path).dump(home / "dump", Kept())
    assert state(path) == before, "the live files were touched"
    copy = (home / "dump" / FILE).read_bytes()
    place = SqliteFile(path=back)
    place.plan_restore(dump.record)
    assert filled(place, home / "dump", dump.record) == []
    assert place.compare(dump.record, ()) == []
    place.commit(())
    assert back.read_bytes() == copy, "the check wrote the copy"
    named(back, dump.record)
    if number % 5 == 0:
        assert dumped(back) == dumped(stock_backup(path, home))
    shutil.rmtree(home)


def drawn(count, tmp_path):
    numbers = itertools.count()

    @seed(SEED)
    @settings(DRAWN, max_examples=count)
    @given(databases())
    def each(recipe):
        carries(recipe, tmp_path, next(numbers))

    each()
    print(f"ANCLA_SEED={SEED}: {next(numbers)} SQLite files drawn")


def test_drawn_files_are_carried(tmp_path):
    drawn(40, tmp_path)


@pytest.mark.all
@pytest.mark.timeout(1800)
def test_a_thousand_drawn_files_are_carried(tmp_path):
    drawn(1000, tmp_path)
