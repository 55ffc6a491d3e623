"""`ops restore --table`: the rows of chosen tables alone, all definitions, and no word that says more than was done."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ops.backup.create import BackupJob, create
from ops.core.errors import IntegrityError, ObjectMissingError, RestoreRefusedError
from ops.restore.swap import Cluster, plan_promote
from tests.ops.restore_kit import RestoreJob, plan, run
from tests.ops.test_cli import ops, outputs, write
from tests.ops.test_restore import comment_of, names
from tests.ops.test_restore_coming import LARGE, flip, silent

__all__ = ["ops", "outputs"]

MORE = f"""
CREATE TABLE public.big AS {LARGE};
CREATE TABLE public.others AS {LARGE};
CREATE TABLE public.regions (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE public.regions_1 PARTITION OF public.regions FOR VALUES FROM (0) TO (10);
CREATE TABLE public.regions_2 PARTITION OF public.regions FOR VALUES FROM (10) TO (20);
CREATE TABLE public."two  words" (id int REFERENCES public.regions, customer bigint REFERENCES public.customers);
CREATE TABLE public.tree (id int PRIMARY KEY, up int REFERENCES public.tree);
COMMENT ON CONSTRAINT orders_customer_fkey ON public.orders IS 'goes with it';
INSERT INTO public.regions VALUES (1), (11);
INSERT INTO public."two  words" VALUES (1, 1), (11, 2);
INSERT INTO public.tree VALUES (1, NULL), (2, 1);
SELECT lo_from_bytea(0, decode(repeat('ab', 1200000), 'hex'));
"""
LINKS = "SELECT conname FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 ORDER BY 1"
ALL_LINKS = ["orders_customer_fkey", "tree_up_fkey", "two  words_customer_fkey", "two  words_id_fkey"]


@pytest.fixture
def make(source, folder):
    def build(**more):
        job = BackupJob(
            environment="staging", project="test", name="shop", source=replace(source, **more), stores=(folder,)
        )
        return create(job, silent)

    return build


@pytest.fixture
def backup(make, app):
    with app.on("shop").connect() as connection:
        connection.execute(MORE)
    return make()


@pytest.fixture
def job(backup, folder, admin, app):
    def build(*tables, **more):
        values = {"store": folder, "manifest": backup, "admin": admin, "owner": app, "live": ("shop",), **more}
        return RestoreJob(tables=tables, **values)

    return build


def rows_of(endpoint, target):
    """The tables that have rows there."""
    query = (
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND n.nspname IN ('public', 'audit')"
        " AND (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM ONLY %I.%I', n.nspname,"
        " c.relname), false, true, '')))[1]::text::bigint > 0 ORDER BY 1"
    )
    with endpoint.on(target).connect() as connection:
        return [name for (name,) in connection.execute(query).fetchall()]


def links_of(endpoint, target):
    with endpoint.on(target).connect() as connection:
        return [name for (name,) in connection.execute(LINKS).fetchall()]


@pytest.mark.parametrize(
    ("tables", "links"),
    [
        (["public.Odd name; x", "public.empty"], []),
        (["public.orders"], ["orders_customer_fkey"]),
        (["public.two  words", "public.tree"], ["two  words_customer_fkey", "two  words_id_fkey"]),
        (["public.two  words", "public.regions", "public.customers", "public.tree"], []),
    ],
    ids=["an odd name", "a key to one left out", "two keys", "no key is cut"],
)
def test_chosen_tables_come_back_with_all_that_is_defined(job, cluster, admin, tables, links):
    report = run(job(*tables), silent)
    filled = {"public.regions_1", "public.regions_2"} if "public.regions" in tables else set()
    assert rows_of(cluster, report.target) == sorted({*tables, *filled} - {"public.empty", "public.regions"})
    assert links_of(cluster, report.target) == [name for name in ALL_LINKS if name not in links]
    assert [item.rsplit(" ", 1)[-1] for item in report.left_out if "foreign" in item] == [
        name.rsplit(" ", 1)[-1] for name in links
    ]
    assert {"large objects", "rows of public.counted"} <= set(report.left_out)
    assert report.facts["tables"] == len(tables)
    assert "public.others" in report.facts["left_empty"]
    assert not set(tables) & set(report.facts["left_empty"])
    with cluster.on(report.target).connect() as connection:  # views, functions, sequences, indexes
        connection.execute("INSERT INTO public.customers (name) VALUES ('new')")
        assert connection.execute("SELECT public.answer() FROM public.totals LIMIT 0").fetchall() == []
        assert connection.execute("SELECT to_regclass('public.orders_customer_idx')").fetchone() != (None,)
        assert connection.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone() == (0,)
    assert comment_of(admin, report.target).endswith(f"verified in part: rows of {', '.join(tables)} alone")


def test_a_whole_restore_leaves_nothing_out(job, cluster, app):
    """The negative control: what a part lacks, all of it has."""
    report = run(job(), silent)
    assert (report.facts["left_empty"], report.left_out) == ((), [])
    assert links_of(cluster, report.target) == ALL_LINKS
    assert "public.others" in rows_of(cluster, report.target)


def test_objects_that_a_table_does_not_need_may_be_lost(job, backup, folder):
    whole, part = plan(job()), plan(job("public.big"))
    assert part.bytes_to_fetch < whole.bytes_to_fetch / 2
    assert part.facts["left_empty"]
    flip(folder, backup, "table public.others")
    assert run(job("public.big"), silent).rows == 20000
    with pytest.raises(IntegrityError, match=r"public\.others"):
        run(job("public.others"), silent)
    next(folder.root.rglob(next(e.key for e in backup.objects if e.holds == "table public.others"))).unlink()
    assert plan(job("public.big")).facts["only_tables"] == ("public.big",)
    assert job("public.big").manifest.stored == backup.stored, "or nobody could say who signed it"
    with pytest.raises(ObjectMissingError, match=r"public\.others"):
        plan(job("public.others"))


def test_a_stream_is_restored_in_part_too(make, job, cluster):
    report = run(job("public.orders", manifest=make(stream=True)), silent)
    assert rows_of(cluster, report.target) == ["public.orders"]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("public.order", r"did you mean public\.orders or public\.others\?"),
        ("customers", r"did you mean public\.customers\?"),
        ("public.regions_1", r"it is a partition of public\.regions: restore that table"),
        ("nowhere", "give its name with schema"),
    ],
)
def test_a_table_that_is_not_there_is_refused_with_near_names(job, admin, table, told):
    before = names(admin)
    with pytest.raises(RestoreRefusedError, match=f"has no table {table}; {told}"):
        run(job("public.big", table), silent)
    assert names(admin) == before


def test_a_part_is_not_taken_for_whole(job, admin, app):
    target = run(job("public.big"), silent).target
    with admin.connect() as connection:
        now = connection.execute("SELECT now()").fetchone()[0]
    with pytest.raises(RestoreRefusedError, match="only the rows of chosen tables"):
        plan_promote(Cluster(admin=admin, owner=app), "shop", target, now)
    with pytest.raises(RestoreRefusedError, match="is not empty"):
        plan(job(target=target))


@pytest.mark.long
def test_the_command_says_what_it_will_restore_and_what_it_has(ops, outputs, tmp_path):
    file = write(tmp_path, outputs)
    assert ops("backup", "create", "--outputs", file).returncode == 0
    chosen = ("--outputs", file, "--table", "public.orders", "--table", "audit.log", "--table", "audit.log")
    planned = ops("restore", *chosen, "--dry-run")
    assert "only tables: public.orders, audit.log" in planned.stdout, planned.stderr
    assert "left empty: public.Odd name; x, public.customers" in " ".join(planned.stdout.split())
    facts = json.loads(ops("restore", *chosen, "--dry-run", "--json").stdout)
    assert facts["only_tables"] == ["public.orders", "audit.log"]
    assert "public.customers" in facts["left_empty"]
    assert "time: about " in planned.stdout
    assert facts["estimated_seconds"] >= 0
    assert "assumed rate: no drill of shop" in facts["estimate_basis"]
    done = ops("restore", *chosen, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["rows"], result["tables"], result["result"]) == (3050, 2, "equal")
    assert result["left_out"][-1] == "foreign key public.orders orders_customer_fkey"
    told = ops("restore", *chosen)
    assert "not restored: rows of public.Odd name; x, public.customers, public.empty, public.events, large" in " ".join(
        told.stdout.split()
    ), told.stderr
