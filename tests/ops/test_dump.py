"""Ways to dump a database: as a stream, in part, and with few connections left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ops.backup.create import BackupJob, create
from ops.backup.restore_guide import build_page
from ops.core.errors import RestoreRefusedError, SourceError
from ops.repository.age import make_identity, read_identities, recipient_of
from ops.repository.records import STREAM_FILE
from ops.sources.postgres import dump
from ops.sources.postgres.small_file_batches import is_pack
from tests.kits.messages import silent
from tests.kits.waiting import eventually
from tests.ops.restore_kit import RestoreJob, run


def job(source, *stores, **more):
    return BackupJob(environment="staging", project="test", name="shop", source=source, stores=stores, **more)


@pytest.fixture
def restored(folder, admin, app, shop):
    """Restore a backup into a new database; returns the report."""

    def build(made, **more):
        return run(RestoreJob(store=folder, manifest=made, admin=admin, owner=app, live=(shop,), **more), silent)

    return build


def test_a_stream_is_one_object_with_nothing_in_the_spool_and_restores_equal(source, folder, tmp_path, restored):
    identity = tmp_path / "identity.txt"
    identity.write_text(make_identity())
    streamed = replace(source, stream=True)
    assert streamed.plan().bytes_estimate == 0
    made = create(job(streamed, folder, recipients=(recipient_of(identity.read_text()),)), silent)
    assert [entry.file for entry in made.objects] == [STREAM_FILE]
    report = restored(made, identities=read_identities(identity))
    assert report.skipped == []
    assert report.rows == sum(table.rows for table in source.fingerprint().tables)


def test_small_files_that_are_many_go_out_in_several_packs_and_restore_equal(source, folder, restored, monkeypatch):
    together = create(job(source, folder), silent)
    assert [entry.file for entry in together.objects if is_pack(entry.file)] == ["small-0001.tar"]
    monkeypatch.setattr(dump, "MOST", 1)
    made = create(job(source, folder), silent)
    assert sum(is_pack(entry.file) for entry in made.objects) > 0
    assert len(made.objects) > len(together.objects)
    assert restored(made).skipped == []


def test_a_stream_whose_pg_dump_fails_is_no_backup(source, folder, monkeypatch):
    monkeypatch.setattr(dump, "COMMON", ("--no-such-option",))
    with pytest.raises(SourceError, match=r"pg_dump failed: .*unrecognized option"):
        create(job(replace(source, stream=True), folder), silent)
    assert list(folder.list("")) == []


def rows_in(record):
    return {table.table for table in record.tables if table.rows}


@pytest.mark.parametrize("stream", [True, False])
def test_a_backup_of_some_tables_rows_says_so_and_has_all_that_is_defined(source, folder, restored, app, stream):
    """`public.customers` has a column of a type of its own; the view and the functions are of tables left out too."""
    chosen = replace(source, only_tables=("audit.*", "public.Odd name; ?", "public.customers"), stream=stream)
    made = create(job(chosen, folder), silent)
    whole = source.fingerprint()
    assert rows_in(made.source) == {"audit.log", "public.Odd name; x", "public.customers"}
    assert set(made.source.left_out) == {"public.empty", "public.events", "public.orders"}
    assert [table.table for table in made.source.tables] == [table.table for table in whole.tables]
    assert "public.orders: rows left out by the stack file" in made.source.not_compared
    assert (made.source.large_objects, whole.large_objects is None) == (None, False)
    assert "`public.orders`" in build_page(made)
    report = restored(made)
    assert report.skipped == []
    assert set(report.facts["left_empty"]) == set(made.source.left_out)
    with app.on(report.target).connect() as connection:
        assert connection.execute("SELECT count(*) FROM public.totals").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM pg_constraint WHERE contype = 'f'").fetchone() == (1,)
    with pytest.raises(RestoreRefusedError, match=r"has no rows of public\.orders"):
        restored(made, tables=("public.orders",))


def test_a_table_that_is_left_out_is_in_no_object_and_its_content_in_no_fingerprint(source, folder, restored):
    made = create(job(replace(source, without_tables=("audit.log", "nowhere.at_all")), folder), silent)
    assert made.source.left_out == ("audit.log",)
    assert not any("audit.log" in entry.holds for entry in made.objects)
    assert made.source.without_tables == ("audit.log", "nowhere.at_all")
    assert made.source.large_objects is not None
    assert restored(made).skipped == []
    whole = create(job(source, folder), silent)
    assert (whole.source.partial, whole.source.left_out) == (False, ())
    assert any("audit.log" in entry.holds for entry in whole.objects)
    assert "empty:" not in build_page(whole)


def test_rows_that_were_put_where_none_should_be_are_a_difference(source, folder, admin, app, restored):
    made = create(job(replace(source, without_tables=("audit.log",)), folder), silent)
    target = restored(made).target
    with app.on(target).connect() as connection:
        connection.execute("INSERT INTO audit.log VALUES ('from nowhere')")
    (difference,) = replace(source, endpoint=app.on(target)).check(made.source)
    assert str(difference) == "audit.log: found 1 rows, expected 0 rows"


def test_patterns_that_would_break_a_restore_are_refused_before_the_dump(source, folder, app, shop):
    with app.on(shop).connect() as connection:
        connection.execute("CREATE TABLE public.regions (id int PRIMARY KEY) PARTITION BY RANGE (id)")
        connection.execute("CREATE TABLE public.regions_1 PARTITION OF public.regions FOR VALUES FROM (0) TO (10)")
        connection.execute("CREATE TABLE public.towns (region int REFERENCES public.regions)")
    for more, told in (
        ({"only_tables": ("public.customers", "public.custmers")}, r"there is no table public\.custmers"),
        ({"without_tables": ("*.customers",)}, r"rows of public\.customers out, and public\.orders refers .*_fkey"),
        ({"without_tables": ("public.regions_1",)}, r"public\.regions_1 out, and public\.towns refers"),
    ):
        with pytest.raises(SourceError, match=told):
            create(job(replace(source, **more), folder), silent)
    assert list(folder.list("")) == []
    both = replace(source, without_tables=("public.customers", "public.orders", "public.regions_*", "public.towns"))
    assert rows_in(create(job(both, folder), silent).source) == {
        "audit.log", "public.Odd name; x", "public.events"
    }  # fmt: skip


@pytest.mark.parametrize("limit", [2, 3, 4])
def test_few_connections_are_enough_and_none_is_refused_with_the_numbers(source, cluster, folder, limit, restored):
    ended = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'app')"
    with cluster.connect() as connection:
        # a session that was closed counts until its process is gone
        eventually(lambda: connection.execute(ended).fetchone() == (True,))
        connection.execute(f"ALTER ROLE app CONNECTION LIMIT {limit}")
        try:
            assert create(job(source, folder), silent).source.rows
            eventually(lambda: connection.execute(ended).fetchone() == (True,))
            connection.execute("ALTER ROLE app CONNECTION LIMIT 1")
            with pytest.raises(SourceError, match=r"of \d+ connections none is left for app"):
                create(job(source, folder), silent)
        finally:
            connection.execute("ALTER ROLE app CONNECTION LIMIT -1")
