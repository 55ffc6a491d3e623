"""What is read and compared: partitions, columns in any order, locks, what a role may not read, what is named."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ops.core.errors import SourceError
from ops.sources.postgres import dump
from ops.sources.postgres.source import PostgresDatabase
from tests.kits.messages import silent
from tests.ops.drill_kit import drill, identity, make
from tests.ops.restore_kit import RestoreJob, run

__all__ = ["identity"]

TILES = """
CREATE TYPE tint AS ENUM ('t1','t2','t3','t4','t5','t6','t7','t8');
CREATE TABLE tiles (c tint NOT NULL, n int) PARTITION BY HASH (c);
CREATE TABLE tiles_0 PARTITION OF tiles FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE tiles_1 PARTITION OF tiles FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE tiles_2 PARTITION OF tiles FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE tiles_3 PARTITION OF tiles FOR VALUES WITH (MODULUS 4, REMAINDER 3);
INSERT INTO tiles SELECT ('t' || 1 + i % 8)::tint, i FROM generate_series(1, 4000) i;
CREATE TABLE parent (a int, b text);
CREATE TABLE child (c date) INHERITS (parent);
ALTER TABLE parent ADD COLUMN d int;
INSERT INTO child VALUES (1, 'x', now(), 4);
INSERT INTO parent VALUES (2, 'y', 5);
"""


def do(endpoint, *statements, path="public"):
    with endpoint.connect() as connection:
        connection.execute(f"SET search_path TO {path}")
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def tiles(app, shop):
    do(app.on(shop), TILES)


@pytest.fixture
def into(folder, admin, app):
    def job(manifest, **more):
        return RestoreJob(store=folder, manifest=manifest, admin=admin, owner=app, live=("shop",), **more)

    return job


def test_a_table_is_equal_whichever_partition_holds_a_row_and_however_its_columns_are_ordered(
    tiles, source, folder, identity, into
):
    made = make(source, identity, folder, recipients=())
    report = run(into(made), silent)
    assert report.skipped == []
    rows = {table.table: table.rows for table in made.source.tables}
    assert (rows["public.tiles"], rows["public.child"], rows["public.parent"]) == (4000, 1, 1)
    assert made.source.partitions["public.tiles"] == tuple(f"public.tiles_{i}" for i in range(4))
    evidence = drill(folder, None)
    assert evidence.verdict == "green", evidence.summary()


def test_a_partitioned_table_is_restored_as_such_by_table(tiles, source, folder, identity, into):
    target = run(into(make(source, identity, folder, recipients=()), tables=("public.tiles",)), silent).target
    with source.endpoint.on(target).connect() as connection:
        assert connection.execute("SELECT count(*), sum(n) FROM public.tiles").fetchone() == (4000, 8002000)


def test_one_changed_row_and_a_lost_partition_are_differences(tiles, source, app, shop):
    before = source.fingerprint()
    do(app.on(shop), "UPDATE tiles SET n = 0 WHERE n = 1")
    assert [d.what for d in source.check(before)] == ["public.tiles"]
    before = source.fingerprint()
    do(app.on(shop), "CREATE TABLE other (LIKE tiles_3 INCLUDING ALL)", "ALTER TABLE tiles DETACH PARTITION tiles_3")
    found = {d.what for d in source.check(before)}
    assert {"public.other", "public.tiles_3"} <= found  # by chance no row may have been in it


def test_columns_are_compared_by_name(app, shop, source):
    do(app.on(shop), "CREATE TABLE o (a int, b int)", "INSERT INTO o VALUES (1, 2)")
    before = source.fingerprint()
    do(app.on(shop), "DROP TABLE o", "CREATE TABLE o (b int, a int)", "INSERT INTO o (a, b) VALUES (1, 2)")
    assert source.check(before) == []
    do(app.on(shop), "UPDATE o SET a = 2, b = 1")
    assert [d.what for d in source.check(before)] == ["public.o"]


def test_a_table_without_a_column_of_its_own_and_one_of_the_widest_are_read(app, shop, source):
    columns = ", ".join(f"c{i} int" for i in range(1500))
    do(app.on(shop), "CREATE TABLE nothing ()", "INSERT INTO nothing DEFAULT VALUES", f"CREATE TABLE wide ({columns})")
    do(app.on(shop), "INSERT INTO wide DEFAULT VALUES")
    rows = {table.table: table.rows for table in source.fingerprint().tables}
    assert (rows["public.nothing"], rows["public.wide"]) == (1, 1)


def test_a_generated_column_is_named_and_not_compared(app, shop, source):
    do(app.on(shop), "CREATE TABLE g (a int, b int GENERATED ALWAYS AS (a + 1) STORED)", "INSERT INTO g VALUES (1)")
    before = source.fingerprint()
    assert "public.g: generated column b, computed again by a restore" in before.not_compared
    do(app.on(shop), "ALTER TABLE g ALTER b DROP EXPRESSION", "UPDATE g SET b = 7", "ALTER TABLE g DROP COLUMN b")
    assert source.check(before) == []


def test_a_session_keeps_no_lock_on_what_it_has_read(app, shop, source, monkeypatch):
    """As many tables as a server takes locks for: the number held is asked in the middle of the reading."""
    do(app.on(shop), *(f"CREATE TABLE m{i} (id int PRIMARY KEY, s serial)" for i in range(60)))
    held = []
    real = dump.RunningDump.conclude

    def conclude(*arguments):
        with app.on(shop).connect() as connection:
            query = (
                "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation AND c.relkind <> 'r'"
                " WHERE c.oid >= 16384 AND locktype = 'relation' AND pid <> pg_backend_pid()"
            )
            held.append(connection.execute(query).fetchone()[0])
        return real(*arguments)

    monkeypatch.setattr(dump.RunningDump, "conclude", conclude)
    source.dump(Path(os.environ.get("TMPDIR", "/tmp")) / f"locks-{os.getpid()}", Silent())
    assert held == [0]


class Silent:
    def begin(self, path):
        pass

    def finish(self, path):
        pass

    def check(self):
        pass


CLOSED = {
    "a table": ("CREATE TABLE public.hidden (a int)", "public.hidden", "GRANT SELECT ON TABLE public.hidden TO app"),
    "a sequence": ("CREATE SEQUENCE public.seq", "public.seq", "GRANT SELECT ON SEQUENCE public.seq TO app"),
    "a schema": (
        "CREATE SCHEMA shut; CREATE TABLE shut.t (a int); GRANT SELECT ON shut.t TO app",
        "shut.t (its schema)",
        "GRANT USAGE ON SCHEMA shut TO app",
    ),
    "a large object": ("SELECT lo_create(99999)", "large object 99999", "GRANT SELECT ON LARGE OBJECT 99999 TO app"),
    "hidden rows": (
        ("CREATE TABLE public.rls (a int); ALTER TABLE public.rls ENABLE ROW LEVEL SECURITY;"
        "GRANT SELECT ON public.rls TO app"),
        "public.rls (row-level security hides rows)",
        "GRANT ancla_drill TO app",
    ),
    "an extension's data": (
        ("CREATE EXTENSION unaccent; CREATE SCHEMA ext; CREATE TABLE ext.t (a int);"
        "ALTER EXTENSION unaccent ADD TABLE ext.t; GRANT USAGE ON SCHEMA ext TO app;"
        "UPDATE pg_extension SET extconfig = ARRAY['ext.t'::regclass::oid], extcondition = ARRAY['']"
        " WHERE extname = 'unaccent'"),
        "ext.t",
        "GRANT SELECT ON TABLE ext.t TO app",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CLOSED)
def test_the_plan_refuses_what_would_end_pg_dump_and_says_what_helps(cluster, app, shop, what):
    make_it, name, mend = CLOSED[what]
    do(cluster.on(shop), "ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM app", make_it)
    with cluster.on(shop).connect() as connection:
        if what in {"a table", "a sequence"}:
            connection.execute(f"REVOKE ALL ON {name} FROM app")
    database = PostgresDatabase(endpoint=app.on(shop))
    with pytest.raises(SourceError, match=re.escape(f"may not read {name}; run `{mend}`")):
        database.plan()
    with app.on(shop).environment() as variables:  # the control: pg_dump alone ends there too
        ended = subprocess.run(["pg_dump", "--file=/dev/null"], env=variables, capture_output=True, check=False)
    assert ended.returncode != 0
    if what != "hidden rows":
        with cluster.on(shop).connect() as connection:
            connection.execute(mend)
        database.plan()


def test_what_pg_dump_need_not_read_is_no_reason_to_refuse(cluster, app, shop):
    do(
        cluster.on(shop),
        "CREATE SCHEMA shut; CREATE VIEW shut.v AS SELECT 1; CREATE EXTENSION unaccent; CREATE SCHEMA ext;",
        "CREATE TABLE ext.t (a int); ALTER EXTENSION unaccent ADD TABLE ext.t",
    )
    PostgresDatabase(endpoint=app.on(shop)).plan()


def test_an_owner_of_special_objects_alone_is_no_owner_that_a_restore_needs(cluster, app, shop, source):
    do(
        cluster.on(shop),
        "CREATE PUBLICATION cdc FOR ALL TABLES",
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE USER MAPPING FOR reporting SERVER far OPTIONS (user 'reader', password 'not-a-real-one')",
        "CREATE USER MAPPING FOR PUBLIC SERVER far",
    )
    record = source.fingerprint()
    assert record.owners == ("app",) or "reporting" not in record.owners
    assert cluster.user not in record.owners
    assert record.special_owners == {cluster.user: ("publication cdc", "server far")}
    assert "reporting" in record.roles
    (named,) = [name for name in record.not_restored if "for reporting" in name]
    assert "ALTER USER MAPPING FOR reporting SERVER far" in named
    seen_by_all = PostgresDatabase(endpoint=cluster.on(shop)).fingerprint()
    assert not [name for name in seen_by_all.not_restored if "mapping" in name], "a superuser sees them"


WARNED = {
    "a generated column": (
        (
            "CREATE FUNCTION fold(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(t)';"
            "CREATE FUNCTION handle(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN fold(t); END';"
            "CREATE TABLE people (name text, h text GENERATED ALWAYS AS (handle(name)) STORED)"
        ),
        "generated column h of public.people: public.handle(text) uses fold without a schema",
        "ALTER FUNCTION public.handle(text) SET search_path = public",
    ),
    "an index": (
        (
            "CREATE FUNCTION fold(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(t)';"
            "CREATE FUNCTION handle(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN fold(t); END';"
            "CREATE TABLE people (name text); CREATE INDEX by_handle ON people (handle(name))"
        ),
        "index public.by_handle: public.handle(text) uses fold without a schema",
        "ALTER FUNCTION public.handle(text) SET search_path = public",
    ),
    "a check that reads": (
        (
            "CREATE TABLE zz_rate (code text PRIMARY KEY); CREATE TABLE aa_sale (n int, code text);"
            "CREATE FUNCTION known(c text) RETURNS bool LANGUAGE sql AS"
            " 'SELECT EXISTS (SELECT FROM public.zz_rate r WHERE r.code = c)';"
            "ALTER TABLE aa_sale ADD CONSTRAINT known CHECK (known(code))"
        ),
        "constraint known of public.aa_sale: public.known(text) reads public.zz_rate",
        "ALTER TABLE public.aa_sale DROP CONSTRAINT known, ADD CONSTRAINT known CHECK (public.known(code)) NOT VALID",
    ),
}


@pytest.mark.parametrize("what", WARNED)
def test_what_a_restore_may_fail_to_make_is_named_with_the_statement_that_mends_it(app, shop, source, what):
    make_it, named, mend = WARNED[what]
    assert source.fingerprint().warnings == ()
    do(app.on(shop), make_it)
    (warning,) = source.fingerprint().warnings
    assert warning.startswith(named)
    assert warning.endswith(f"run `{mend}`")
    do(app.on(shop), mend)
    assert source.fingerprint().warnings == ()


@pytest.fixture
def writer(tmp_path):
    """A process that holds a file open."""
    path = tmp_path / "3.dat"
    held = subprocess.Popen(
        [sys.executable, "-c", f"f = open({str(path)!r}, 'w'); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    held.stdout.readline()
    yield held, path
    held.communicate(b"\n")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE, errno.ENOMEM])
@pytest.mark.parametrize("call", ["scandir", "readlink"])
def test_open_files_that_cannot_be_read_are_unknown_and_not_closed(writer, monkeypatch, code, call):
    held, path = writer
    assert str(path) in dump._open_files(held.pid)

    def refuse(*arguments, **more):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*((os, "scandir") if call == "scandir" else (Path, "readlink")), refuse)
    assert dump._open_files(held.pid) is None


def test_a_process_that_has_ended_holds_nothing_open(writer, monkeypatch):
    held, _ = writer
    monkeypatch.setattr(os, "scandir", lambda path: (_ for _ in ()).throw(ProcessLookupError()))
    assert dump._open_files(held.pid) == set()


def test_a_file_that_grows_after_it_went_out_ends_the_backup(app, shop, source, tmp_path, monkeypatch):
    do(app.on(shop), "CREATE TABLE larger AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
    monkeypatch.setattr(dump, "_open_files", lambda pid: set(), raising=True)

    class Growing(Silent):
        def finish(self, path):
            with path.open("a") as file:
                file.write("more")

    with pytest.raises(SourceError, match="after it had gone out"):
        source.dump(tmp_path / "dump", Growing())


def test_a_backup_that_is_given_up_leaves_no_traceback_of_a_thread(app, source, tmp_path, recwarn, capfd):
    class Broken(Silent):
        def check(self):
            raise SourceError("the store is gone")

    for _ in range(5):
        with pytest.raises(SourceError, match="the store is gone"):
            source.dump(tmp_path / f"dump{_}", Broken())
    assert "Traceback" not in capfd.readouterr().err
    assert not [w for w in recwarn if "Thread" in str(w.category)]
