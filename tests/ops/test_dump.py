"""Ways to dump a database: as a stream, in part, and with few connections left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ops.backup.keys import make_identity, read_identities, recipient_of
from ops.backup.records import STREAM_FILE
from ops.backup.run import BackupJob, create
from ops.errors import SourceError
from ops.restore import RestoreJob, run
from ops.sources import pg_dump
from ops.sources.pg_packs import is_pack


def job(source, *stores, **more):
    return BackupJob(environment="staging", project="test", name="shop", source=source, stores=stores, **more)


def silent(text):
    pass


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
    assert report.differences == []
    assert report.rows == sum(table.rows for table in source.fingerprint().tables)


def test_small_files_that_are_many_go_out_in_several_packs_and_restore_equal(source, folder, restored, monkeypatch):
    together = create(job(source, folder), silent)
    assert [entry.file for entry in together.objects if is_pack(entry.file)] == ["small-0001.tar"]
    monkeypatch.setattr(pg_dump, "MOST", 1)
    made = create(job(source, folder), silent)
    assert sum(is_pack(entry.file) for entry in made.objects) > 0
    assert len(made.objects) > len(together.objects)
    assert restored(made).differences == []


def test_a_stream_whose_pg_dump_fails_is_no_backup(source, folder, app, shop):
    with app.on(shop).connect() as connection:
        connection.execute("CREATE VIEW public.broken AS SELECT 1 AS a")
    broken = replace(source, stream=True, only_tables=("public.no_such_table",))
    with pytest.raises(SourceError, match="no matching tables"):
        create(job(broken, folder), silent)
    assert list(folder.list("")) == []


@pytest.mark.parametrize("stream", [True, False])
def test_a_backup_in_part_says_so_and_is_held_to_its_part(source, folder, restored, stream):
    chosen = replace(source, only_tables=("audit.*", '"Odd name; x"', "public.empty"), stream=stream)
    made = create(job(chosen, folder), silent)
    assert made.source.partial
    assert {table.table for table in made.source.tables} == {"audit.log", "public.Odd name; x", "public.empty"}
    assert made.source.large_objects is None
    assert restored(made).differences == []


def test_a_table_that_is_left_out_is_in_no_object_and_in_no_fingerprint(source, folder, restored):
    made = create(job(replace(source, without_tables=("audit.log",)), folder), silent)
    assert "audit.log" not in {table.table for table in made.source.tables}
    assert not any("audit.log" in entry.holds for entry in made.objects)
    assert made.source.without_tables == ("audit.log",)
    assert restored(made).differences == []
    whole = create(job(source, folder), silent)
    assert not whole.source.partial
    assert any("audit.log" in entry.holds for entry in whole.objects)


@pytest.mark.parametrize("limit", [2, 3, 4])
def test_few_connections_are_enough_and_none_is_refused_with_the_numbers(source, cluster, folder, limit, restored):
    with cluster.connect() as connection:
        connection.execute(f"ALTER ROLE app CONNECTION LIMIT {limit}")
        try:
            assert create(job(source, folder), silent).source.rows
            connection.execute("ALTER ROLE app CONNECTION LIMIT 1")
            with pytest.raises(SourceError, match=r"of \d+ connections none is left for app"):
                create(job(source, folder), silent)
        finally:
            connection.execute("ALTER ROLE app CONNECTION LIMIT -1")
