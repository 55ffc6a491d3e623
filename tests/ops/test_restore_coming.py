"""A restore loads what is there while the rest is on its way, rows with no file between; what stays when it fails."""

from __future__ import annotations

import time

import pytest

from ops.backup.create import BackupJob, create
from ops.core.errors import IntegrityError, RestoreError
from ops.repository.records import ROWS_FILE
from ops.repository.stores.folder import FolderStore
from ops.sources.postgres import restore as pg_restore
from ops.sources.postgres.copy_in import Rows, pouring
from tests.kits.messages import silent
from tests.kits.waiting import eventually
from tests.ops.restore_kit import RestoreJob, run
from tests.ops.test_restore import comment_of, names

LARGE = "SELECT md5(i::text) || md5((-i)::text) AS a FROM generate_series(1, 20000) i"
"""More than a megabyte as text, so each table goes out as an object of its own."""
ODD = '"an ""odd"" (name) FROM stdin; of. a table"'
BIGGER = "SELECT md5(i::text) || md5((-i)::text) AS a FROM generate_series(1, 30000) i"


class Held(FolderStore):
    """A store that hands an object out when it may, and as it is told to."""

    def __init__(self, root, may):
        super().__init__(root)
        self.may = may

    def open(self, key):
        bring = self.may(key) or (lambda body: body)
        return bring(super().open(key))


@pytest.fixture
def backup(request, source, app, admin, folder):
    with app.on("shop").connect() as connection:
        connection.execute(f"CREATE TABLE public.bigger AS {BIGGER}")
        connection.execute(f"CREATE TABLE audit.large AS {LARGE}")
        connection.execute("CREATE INDEX ON audit.large (a)")
        connection.execute(f"CREATE TABLE public.{ODD} AS {LARGE}")
        connection.execute(f"CREATE TABLE public.broken AS {LARGE}")
        connection.execute('ALTER TABLE public.broken RENAME a TO "in two\nlines"')
        connection.execute("SELECT lo_from_bytea(0, decode(repeat('ab', 1200000), 'hex'))")
    if getattr(request, "param", "") == "one role":
        with admin.connect() as connection:
            connection.execute("GRANT app TO doadmin")
    yield create(BackupJob(environment="staging", project="test", name="shop", source=source, stores=(folder,)), silent)
    with admin.connect() as connection:
        connection.execute("REVOKE app FROM doadmin")


def key_of(backup, what):
    return next(entry.key for entry in backup.objects if what in entry.holds)


def flip(folder, backup, what):
    """Change one bit of an object."""
    path = next(folder.root.rglob(key_of(backup, what)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rows_in(target, table):
    with target.connect() as connection:
        if connection.execute("SELECT to_regclass(%s)", [table]).fetchone() == (None,):
            return 0
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


@pytest.fixture
def restore(backup, folder, admin, app):
    """Restores while `held` is asked for each object."""

    def go(held):
        store = Held(folder.root, held)
        return run(
            RestoreJob(store=store, manifest=backup, admin=admin, owner=app, live=("shop",), target="shop_r"), silent
        )

    return go


@pytest.mark.parametrize(
    ("backup", "last"),
    [("one role", "table public.bigger"), ("two roles", "table audit.large"), ("two roles", "large object")],
    indirect=["backup"],
)
def test_what_is_there_is_loaded_while_the_last_is_on_its_way(restore, backup, cluster, admin, last):
    """The last object does not come before the rows of others are in the database."""
    loaded = {"public.bigger": 30000, "audit.large": 20000, f"public.{ODD}": 20000, "public.orders": 3000}
    loaded.pop(last.removeprefix("table "), None)
    if last == "large object":
        loaded.pop("public.orders")  # the files are loaded together

    def held(key):
        if key.endswith(key_of(backup, last)):
            eventually(lambda: "shop_r" in names(admin))
            for table, rows in loaded.items():
                eventually(lambda table=table, rows=rows: rows_in(cluster.on("shop_r"), table) == rows)

    report = restore(held)
    assert report.skipped == []
    assert comment_of(admin, "shop_r").endswith("verified")
    assert set(report.seconds) == {"fetch", "restore", "check"}
    assert min(report.seconds.values()) > 0


def test_rows_need_no_file_and_are_never_written_again(restore, backup, cluster, admin, monkeypatch):
    """A table that pg_restore's script names in a way of its own goes by a file; all are held against the backup."""
    filed = []
    taken = pg_restore.Path.open

    def opened(path, *arguments, **named):
        filed.append(path.name)
        return taken(path, *arguments, **named)

    monkeypatch.setattr(pg_restore.Path, "open", opened)
    assert restore(lambda key: None).skipped == []
    straight = {entry.holds: entry.file for entry in backup.objects if ROWS_FILE.fullmatch(entry.file)}
    assert {"table public.bigger", "table audit.large", "table public.broken"} <= straight.keys()
    assert [name for name in filed if name in straight.values()] == [straight["table public.broken"]]
    with cluster.on("shop_r").connect() as connection:
        connection.execute("CREATE EXTENSION pg_visibility")
        for table in ("public.bigger", "audit.large", f"public.{ODD}"):
            frozen = "SELECT bool_and(all_frozen), count(*) > 100 FROM pg_visibility_map(%s::text::regclass)"
            assert connection.execute(frozen, [table]).fetchone() == (True, True), table


def pour_into(endpoint, table, *blocks):
    def pour(write):
        for block in blocks:
            if isinstance(block, Exception):
                raise block
            write(block)

    with pouring(
        endpoint, [Rows(table=table, columns="(a, b) ", encoding="UTF8", pour=pour)], jobs=2, session={}
    ) as filled:
        filled.check()
    return filled.refused


@pytest.mark.usefixtures("shop")
def test_rows_that_an_extension_made_stay_and_partitions_are_filled_by_their_root(app):
    """As in a table of an extension's configuration, and as pg_dump --load-via-partition-root dumps."""
    with app.on("shop").connect() as connection:
        connection.execute("CREATE TABLE made (a int, b text)")
        connection.execute("INSERT INTO made VALUES (0, 'by CREATE EXTENSION')")
        connection.execute("CREATE TABLE parts (a int, b text) PARTITION BY LIST (a)")
        connection.execute("CREATE TABLE one PARTITION OF parts FOR VALUES IN (1)")
        connection.execute("CREATE TABLE two PARTITION OF parts FOR VALUES IN (2)")
        pour_into(app.on("shop"), "public.made", b"1\tone\n", b"2\ttwo\n\\.\n\n\n")
        pour_into(app.on("shop"), "public.parts", b"1\tone\n\\.\n\n\n")
        pour_into(app.on("shop"), "public.parts", b"2\ttwo\n\\.\n\n\n")
        assert connection.execute("SELECT a FROM made ORDER BY a").fetchall() == [(0,), (1,), (2,)]
        assert connection.execute("SELECT a FROM parts ORDER BY a").fetchall() == [(1,), (2,)]
        with pytest.raises(IntegrityError, match="flipped"):
            pour_into(app.on("shop"), "public.made", b"3\tthree\n", IntegrityError("flipped"))
        assert [rows.table for rows in pour_into(app.on("shop"), "public.made", b"4\tfour\nx\ty\n")] == ["public.made"]
        assert connection.execute("SELECT count(*) FROM made").fetchone() == (3,)


class Drops:
    """An object that comes a byte at a time."""

    def __init__(self, opened):
        self.opened = opened

    def __enter__(self):
        self.body = self.opened.__enter__()
        return self

    def __exit__(self, *error):
        self.all_came = self.body.read(1) == b""
        return self.opened.__exit__(*error)

    def read(self, size=-1):
        time.sleep(0.2)
        return self.body.read(1)


def test_rows_that_the_server_refuses_are_told_while_files_are_still_coming(restore, backup, cluster):
    slow = []
    writing = (  # in the copy: the dump's own session may be there still
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = 'shop_r' AND query LIKE 'COPY public.bigger %'"
    )

    def held(key):
        if key.endswith(key_of(backup, "large object")):
            return lambda body: slow.append(Drops(body)) or slow[0]
        if key.endswith(key_of(backup, "table public.bigger")):
            with cluster.connect() as connection:
                eventually(lambda: connection.execute(writing).fetchall())
        return None

    with pytest.raises(RestoreError, match=r"rows of public\.bigger: .*connection"):
        restore(held)
    assert [body.all_came for body in slow] == [False]


def test_a_file_that_is_wrong_is_named_while_another_is_still_coming(restore, backup, folder, admin):
    """Rows of the table that goes by a file are fetched beside the other files."""
    flip(folder, backup, "large object")
    before = names(admin)
    with pytest.raises(IntegrityError, match="large object"):
        restore(lambda key: Drops if key.endswith(key_of(backup, "table public.broken")) else None)
    assert names(admin) == before


def begun(cluster, admin, last):
    """Let `last` come when another table is loaded."""

    def held(key):
        if key.endswith(last):
            eventually(lambda: "shop_r" in names(admin) and rows_in(cluster.on("shop_r"), "audit.large") == 20000)

    return held


@pytest.mark.parametrize(
    ("backup", "what"), [("one role", "large object"), ("two roles", "table public.bigger")], indirect=["backup"]
)
def test_when_the_last_is_wrong_the_database_that_was_begun_goes(restore, backup, folder, cluster, admin, what):  # noqa: PLR0917 - fixtures add up
    flip(folder, backup, what)
    before = names(admin)
    with pytest.raises(IntegrityError, match=what):
        restore(begun(cluster, admin, key_of(backup, what)))
    assert names(admin) == before


def test_a_database_that_was_there_stays_and_is_marked(restore, backup, folder, cluster, admin):
    with admin.connect() as connection:
        connection.execute("CREATE DATABASE shop_r TEMPLATE template0")
    flip(folder, backup, "table public.bigger")
    with pytest.raises(RestoreError, match=r"public.bigger.*the database shop_r is left as it is, do not use it"):
        restore(begun(cluster, admin, key_of(backup, "table public.bigger")))
    assert comment_of(admin, "shop_r").endswith("FAILED")
    assert rows_in(cluster.on("shop_r"), "public.bigger") == 0


def test_the_list_of_the_archive_comes_first(backup, restore):
    asked = []
    restore(asked.append)
    assert asked[0].endswith(key_of(backup, "table of contents"))
