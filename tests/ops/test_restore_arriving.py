"""A restore loads what is there while the rest is on its way: in what order, and what is left when the rest fails."""

from __future__ import annotations

import pytest

from ops.backup.run import BackupJob, create
from ops.errors import IntegrityError, RestoreError
from ops.restore import RestoreJob, run
from ops.sources.pg_arriving import in_order
from ops.stores.folder import FolderStore
from tests.ops.faults import eventually
from tests.ops.test_restore import comment_of, names

LARGE = "SELECT md5(i::text) || md5((-i)::text) AS a FROM generate_series(1, 20000) i"
"""More than a megabyte as text, so each table goes out as an object of its own."""
BIGGER = "SELECT md5(i::text) || md5((-i)::text) AS a FROM generate_series(1, 30000) i"


class Held(FolderStore):
    """A store that hands an object out when it may."""

    def __init__(self, root, may):
        super().__init__(root)
        self.may = may

    def open(self, key):
        self.may(key)
        return super().open(key)


@pytest.fixture
def backup(request, source, app, admin, folder):
    with app.on("shop").connect() as connection:
        connection.execute(f"CREATE TABLE public.bigger AS {BIGGER}")
        connection.execute(f"CREATE TABLE audit.large AS {LARGE}")
        connection.execute("CREATE INDEX ON audit.large (a)")
        connection.execute("SELECT lo_from_bytea(0, decode(repeat('ab', 1200000), 'hex'))")
    if getattr(request, "param", "") == "one role":
        with admin.connect() as connection:
            connection.execute("GRANT app TO doadmin")
    yield create(BackupJob(environment="staging", project="test", name="shop", source=source, stores=(folder,)), silent)
    with admin.connect() as connection:
        connection.execute("REVOKE app FROM doadmin")


def silent(text):
    pass


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
    """The last object does not come before the rows of every other one are in the database."""
    loaded = {"public.bigger": 30000, "audit.large": 20000, "public.orders": 3000}
    loaded.pop(last.removeprefix("table "), None)

    def held(key):
        if key.endswith(key_of(backup, last)):
            eventually(lambda: "shop_r" in names(admin))
            for table, rows in loaded.items():
                eventually(lambda table=table, rows=rows: rows_in(cluster.on("shop_r"), table) == rows)

    report = restore(held)
    assert report.differences == []
    assert comment_of(admin, "shop_r").endswith("verified")
    assert set(report.seconds) == {"fetch", "restore", "check"}
    assert min(report.seconds.values()) > 0


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


def test_the_list_comes_first_then_small_tables_then_the_largest(backup):
    order = [entry.file for entry in in_order(backup.objects)]
    assert order.index("toc.dat") < 2 if "toc.dat" in order else order[0].startswith("small-")
    sizes = [
        entry.size for entry in in_order(backup.objects) if entry.file.endswith(".dat") and entry.file != "toc.dat"
    ]
    assert sizes == sorted(sizes, reverse=True)
