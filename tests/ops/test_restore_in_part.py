"""One odd object never costs the rest: it is skipped and named, and a drill skips and names the same."""

from __future__ import annotations

import pytest

from ops.core.errors import RestoreRefusedError
from ops.sources.postgres import database
from ops.sources.postgres.source import PostgresDatabase
from tests.ops.drill_kit import drill, identity, make
from tests.ops.restore_kit import RestoreJob, plan, run
from tests.ops.source_kit import by_hand_into
from tests.ops.test_restore import comment_of, silent

__all__ = ["identity"]

BARE_NAMES = """
CREATE FUNCTION public.plain(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN translate(t, ''é'', ''e''); END';
CREATE FUNCTION public.handle(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN lower(plain(t)); END';
CREATE TABLE public.people (name text, h text GENERATED ALWAYS AS (public.handle(name)) STORED);
INSERT INTO public.people (name) VALUES ('Zoé'), ('Ñandú');
CREATE INDEX people_h ON public.people (public.handle(name));
"""  # noqa: E501  # SQL
OTHER_TABLE = """
CREATE TABLE public.zz_rate (code text PRIMARY KEY);
CREATE TABLE public.aa_sale (n int, code text);
CREATE FUNCTION public.known(c text) RETURNS bool LANGUAGE sql
    AS 'SELECT EXISTS (SELECT FROM public.zz_rate r WHERE r.code = c)';
INSERT INTO public.zz_rate VALUES ('a');
INSERT INTO public.aa_sale SELECT i, 'a' FROM generate_series(1, 50000) i;
ALTER TABLE public.aa_sale ADD CONSTRAINT known CHECK (public.known(code));
"""
CHANGED = """
CREATE TABLE public.odd (x int CONSTRAINT right_answer CHECK (x = public.answer()));
INSERT INTO public.odd VALUES (42);
CREATE OR REPLACE FUNCTION public.answer() RETURNS int LANGUAGE sql AS 'SELECT 41';
"""


@pytest.fixture
def restored(source, folder, identity, admin, app, cluster):  # noqa: PLR0917  # fixtures add up
    """Back up, restore and drill; returns both results, and a way to the copy."""

    def go(of=source, **more):
        made = make(of, identity, folder, recipients=())
        job = RestoreJob(store=folder, manifest=made, admin=admin, owner=app, live=("shop",), target="shop_b", **more)
        report = run(job, silent)
        evidence = drill(folder, identity)
        assert sorted(each.what for each in evidence.skipped) == sorted(each.what for each in report.skipped)
        assert evidence.verdict == ("in part" if report.skipped else "green"), evidence.summary()
        return report, evidence

    return go


def rows(cluster, table):
    with cluster.on("shop_b").connect() as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def execute(endpoint, statements):
    with endpoint.on("shop").connect() as connection:
        connection.execute("SET search_path TO public")
        connection.execute(statements)


def test_a_function_that_names_others_without_their_schema_costs_nothing(app, restored, cluster, admin):
    execute(app, BARE_NAMES)
    report, _ = restored()
    assert report.skipped == []
    assert rows(cluster, "public.people") == 2
    with cluster.on("shop_b").connect() as connection:
        assert connection.execute("SELECT to_regclass('public.people_h')").fetchone() != (None,)
    assert comment_of(admin, "shop_b").endswith(", verified")


def test_a_check_that_reads_another_table_costs_nothing_whatever_comes_first(app, restored, cluster):
    execute(app, OTHER_TABLE)
    report, _ = restored()
    assert report.skipped == []
    assert rows(cluster, "public.aa_sale") == 50000
    assert rows(cluster, "public.customers") == 500


def test_a_check_that_the_rows_break_is_added_after_them_and_named(app, restored, cluster, admin):
    execute(app, CHANGED)
    report, evidence = restored()
    assert [each.what for each in report.skipped] == ["constraint public.odd.right_answer"]
    assert "VALIDATE CONSTRAINT" in report.skipped[0].mend
    assert "right_answer" in evidence.skipped[0].why
    assert rows(cluster, "public.odd") == 1
    assert comment_of(admin, "shop_b").endswith("verified in part: without constraint public.odd.right_answer")


def test_the_page_for_restoring_by_hand_brings_the_same_back(app, admin, source, folder, identity, cluster):  # noqa: PLR0917  # fixtures add up
    """To the letter: a generated column and an index over bare names, a CHECK of another table, a refused setting."""
    with admin.connect() as connection:
        connection.execute("ALTER DATABASE shop SET intervalstyle = 'iso_8601'")
    execute(app, BARE_NAMES)
    execute(app, OTHER_TABLE)
    execute(app, "CREATE TABLE public.set (a text CHECK (current_setting('intervalstyle') = 'iso_8601'))")
    with app.on("shop").connect() as connection:
        connection.execute("INSERT INTO public.set VALUES ('x')")
    made = make(source, identity, folder, recipients=())
    done = by_hand_into(cluster, folder.root / "shop" / made.id, "shop_b")
    assert done.returncode == 0, done.stderr
    assert PostgresDatabase(endpoint=cluster.on("shop_b")).check(made.source) == []
    with cluster.on("shop_b").connect() as connection:
        assert connection.execute("SELECT to_regclass('public.people_h')").fetchone() != (None,)


def test_the_page_for_restoring_by_hand_names_what_it_could_not_make(app, source, folder, identity, cluster):
    execute(app, CHANGED)
    made = make(source, identity, folder, recipients=())
    done = by_hand_into(cluster, folder.root / "shop" / made.id, "shop_b")
    assert done.returncode == 3
    assert "not made: " in done.stdout
    assert "TABLE DATA public odd app" in done.stdout
    assert rows(cluster, "public.customers") == 500


def test_rows_that_cannot_be_loaded_cost_their_own_table_alone(app, restored, cluster):
    execute(app, "CREATE FUNCTION public.gone(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END'")
    execute(app, "CREATE TABLE public.lost (a text, b text GENERATED ALWAYS AS (public.gone(a)) STORED)")
    execute(app, "INSERT INTO public.lost (a) VALUES ('x')")
    execute(
        app,
        "CREATE OR REPLACE FUNCTION public.gone(text) RETURNS text LANGUAGE plpgsql IMMUTABLE"
        " AS 'BEGIN RETURN nowhere($1); END'",
    )
    report, evidence = restored()
    assert [each.what for each in report.skipped] == ["rows of public.lost"]
    assert "function nowhere(text) does not exist" in report.skipped[0].why
    assert "ALTER FUNCTION public.gone(text) SET search_path" in report.skipped[0].mend
    assert evidence.skipped[0].mend == report.skipped[0].mend
    assert (rows(cluster, "public.lost"), rows(cluster, "public.customers")) == (0, 500)


def test_a_publication_only_a_superuser_may_make_is_skipped_and_the_apps_own_comes_back(cluster, app, restored):
    execute(cluster, "CREATE PUBLICATION cdc FOR ALL TABLES; ALTER PUBLICATION cdc OWNER TO app")
    execute(cluster, "GRANT CREATE ON DATABASE shop TO app")
    execute(app, "CREATE PUBLICATION own FOR TABLE customers")
    report, _ = restored()
    assert [each.what for each in report.skipped] == ["publication cdc"]
    assert "superuser" in report.skipped[0].why
    assert "CREATE PUBLICATION cdc" in report.skipped[0].mend
    with cluster.on("shop_b").connect() as connection:
        assert connection.execute("SELECT pubname FROM pg_publication").fetchall() == [("own",)]


def test_a_setting_that_this_server_refuses_is_skipped_and_the_others_come_before_the_rows(
    app, admin, restored, monkeypatch, cluster
):
    with admin.connect() as connection:
        connection.execute("ALTER DATABASE shop SET timezone = 'US/Pacific'")
        connection.execute("ALTER DATABASE shop SET intervalstyle = 'iso_8601'")
    execute(app, "CREATE TABLE public.set (a text CHECK (current_setting('intervalstyle') = 'iso_8601'))")
    with app.on("shop").connect() as connection:
        connection.execute("INSERT INTO public.set VALUES ('x')")
    options = database.database_options

    def unknown_zone(name, record):
        record = record.model_copy(
            update={"options": tuple(each.replace("US/Pacific", "Mars/Base") for each in record.options)}
        )
        return options(name, record)

    monkeypatch.setattr(database, "database_options", unknown_zone)
    report, _ = restored()
    assert [each.what for each in report.skipped] == ["option TimeZone"]
    assert "Mars/Base" in report.skipped[0].why
    assert "ALTER DATABASE" in report.skipped[0].mend
    assert rows(cluster, "public.set") == 1


def test_an_extension_only_a_superuser_may_create_is_named_by_plan_drill_and_restore(  # noqa: PLR0917  # fixtures add up
    cluster, restored, admin, app, folder, source, identity
):
    execute(cluster, "CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO app")
    execute(app, "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'far.example.org')")
    execute(app, "CREATE USER MAPPING FOR app SERVER far OPTIONS (user 'reader')")
    made = make(source, identity, folder)
    planned = plan(RestoreJob(store=folder, manifest=made, admin=admin, owner=app, live=("shop",)))
    assert [each.what for each in planned.skipped] == ["extension postgres_fdw"]
    report, _ = restored()
    skipped = " | ".join(each.what for each in report.skipped)
    for expected in ("extension postgres_fdw", "server far", "user mapping app on server far"):
        assert expected in skipped
    assert rows(cluster, "public.customers") == 500


def test_owners_of_ordinary_tables_that_nobody_may_act_as_turn_the_drill_red_as_they_refuse_the_restore(  # noqa: PLR0917  # fixtures add up
    cluster, app, admin, source, folder, identity
):
    execute(cluster, "CREATE TABLE public.theirs (a int); ALTER TABLE public.theirs OWNER TO reporting")
    execute(cluster, "GRANT SELECT ON public.theirs TO app")
    made = make(source, identity, folder)
    with pytest.raises(RestoreRefusedError, match="may not make objects of app, reporting"):
        plan(RestoreJob(store=folder, manifest=made, admin=admin, owner=app, live=("shop",)))
    evidence = drill(folder, identity)
    assert evidence.verdict == "red"
    assert "may not make objects of app, reporting" in evidence.summary()


@pytest.mark.parametrize("name", ["shop-prod", "Shop", "shop prod", "shop.admin", 'sh"op'])
def test_a_database_and_its_roles_may_have_any_name_that_postgresql_takes(name, cluster, admin, app, folder, identity):  # noqa: PLR0917  # fixtures add up
    quoted = '"' + name.replace('"', '""') + '"'
    with cluster.connect() as connection:
        connection.execute(f"CREATE ROLE {quoted} LOGIN PASSWORD 'x'")
        connection.execute(f"CREATE DATABASE {quoted} TEMPLATE template0")
        connection.execute(f"GRANT ALL ON DATABASE {quoted} TO {quoted}")
    try:
        with cluster.on(name).connect() as connection:
            connection.execute(f"CREATE TABLE public.t AS SELECT 1 AS a; ALTER TABLE public.t OWNER TO {quoted}")
        made = make(PostgresDatabase(endpoint=cluster.on(name)), identity, folder, name="shop", recipients=())
        report = run(RestoreJob(store=folder, manifest=made, admin=cluster, owner=None), silent)
        assert report.target.startswith(f"{name}_restore_")
        assert report.skipped == []
        assert drill(folder, identity).verdict == "green"
    finally:
        with cluster.connect() as connection:
            found = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{name}%"]).fetchall()
            for (each,) in found:
                copy = '"' + each.replace('"', '""') + '"'
                connection.execute(f"DROP DATABASE {copy} WITH (FORCE)")
            connection.execute(f"DROP ROLE {quoted}")
