from __future__ import annotations

from datetime import UTC, datetime, tzinfo

import pytest

from ops.backup.create import BackupJob, create
from ops.core.errors import IntegrityError, ObjectMissingError, RestoreError, RestoreRefusedError
from ops.drill.negative_controls import Damage, damage
from ops.repository import catalog
from ops.sources.postgres.target import default_target
from tests.kits.messages import silent
from tests.ops.restore_kit import RestoreJob, plan, run

OWNERS = """
SELECT c.relname, pg_get_userbyid(c.relowner), c.relacl::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('public', 'audit') AND c.relkind <> 'i' ORDER BY 1
"""
SCHEMAS = "SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname IN ('public', 'audit') ORDER BY 1"
DATABASE = """
SELECT x.grantee::regrole::text, array_agg(x.privilege_type ORDER BY 1), (SELECT s.setconfig FROM pg_db_role_setting s
WHERE s.setdatabase = d.oid)
FROM pg_database d, aclexplode(d.datacl) x WHERE d.datname = current_database() GROUP BY 1, d.oid ORDER BY 1
"""


@pytest.fixture
def backup(source, folder):
    return create(
        BackupJob(environment="staging", project="test", name="shop", source=source, stores=(folder,)), silent
    )


@pytest.fixture
def restore(backup, folder, admin, app):
    def build(**more):
        values = {"store": folder, "manifest": backup, "admin": admin, "owner": app, "live": ("shop",), **more}
        return RestoreJob(**values)

    return build


def names(admin):
    with admin.connect() as connection:
        return [row[0] for row in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'shop%'")]


def comment_of(admin, name):
    with admin.connect() as connection:
        row = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [name]
        ).fetchone()
        return row[0]


def test_rows_deleted_after_the_backup_come_back_beside_the_live_database(restore, admin, app):
    with app.on("shop").connect() as connection:
        connection.execute("DELETE FROM public.orders")
    report = run(restore(), silent)
    assert report.skipped == []
    assert report.target.startswith("shop_restore_")
    with app.on(report.target).connect() as connection:
        assert connection.execute("SELECT count(*) FROM public.orders").fetchone() == (3000,)
    with app.on("shop").connect() as connection:
        assert connection.execute("SELECT count(*) FROM public.orders").fetchone() == (0,)
    assert comment_of(admin, report.target).endswith("verified")


@pytest.mark.parametrize("member", [False, True], ids=["as two roles", "as a member of the owner"])
def test_owners_grants_and_options_are_those_of_the_source(restore, admin, app, cluster, member):
    with admin.connect() as connection:
        if member:
            connection.execute("GRANT app TO doadmin")
    try:
        report = run(restore(), silent)
    finally:
        with admin.connect() as connection:
            connection.execute("REVOKE app FROM doadmin") if member else None
    for query in (OWNERS, SCHEMAS, DATABASE):
        with cluster.on("shop").connect() as live, cluster.on(report.target).connect() as copy:
            assert copy.execute(query).fetchall() == live.execute(query).fetchall()


def test_the_app_can_work_in_the_restored_database(restore, app):
    report = run(restore(), silent)
    with app.on(report.target).connect() as connection:
        connection.execute("CREATE TABLE public.next (a int)")
        connection.execute(
            "INSERT INTO public.customers (name) VALUES ('new')"
        )  # the sequence stands after the old ones


def test_a_live_database_is_refused(restore, admin):
    with pytest.raises(RestoreRefusedError, match="shop: is a live database"):
        run(restore(target="shop"), silent)


def test_a_target_that_is_not_empty_is_refused_and_an_empty_one_is_taken(restore, admin):
    with admin.connect() as connection:
        connection.execute("CREATE DATABASE shop_b TEMPLATE template0")
    with admin.on("shop_b").connect() as connection:
        connection.execute("CREATE TABLE mine (a int)")
    with pytest.raises(RestoreRefusedError, match="shop_b: is not empty"):
        run(restore(target="shop_b"), silent)
    with admin.on("shop_b").connect() as connection:
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (0,), "it was touched"
        connection.execute("DROP TABLE mine")
    assert run(restore(target="shop_b"), silent).target == "shop_b"


def test_a_target_somebody_uses_is_refused(restore, admin):
    with admin.connect() as connection:
        connection.execute("CREATE DATABASE shop_c TEMPLATE template0")
    with admin.on("shop_c").connect(), pytest.raises(RestoreRefusedError, match="somebody is connected"):
        run(restore(target="shop_c"), silent)


@pytest.mark.parametrize("name", ["a\0b", "x" * 64, "é" * 32, ""])
def test_a_name_that_is_none_is_refused(restore, name):
    if name == "":
        assert plan(restore(target=name)).target.startswith("shop_restore_")
        return
    with pytest.raises(RestoreRefusedError, match="not a database name"):
        plan(restore(target=name))


def test_a_plan_changes_nothing(restore, admin):
    before = names(admin)
    planned = plan(restore())
    assert (planned.facts["target_exists"], planned.facts["objects_of_the_app_made_as"]) == (False, "app")
    assert names(admin) == before


@pytest.mark.parametrize(("kind", "error"), [(Damage.FLIP, IntegrityError), (Damage.MISSING, ObjectMissingError)])
def test_a_damaged_backup_makes_no_database(restore, backup, folder, admin, kind, error):  # noqa: PLR0917 - fixtures add up
    damage(folder, backup, kind, max_age_hours=26)
    before = names(admin)
    with pytest.raises(error, match="table public"):
        run(restore(), silent)
    assert names(admin) == before


def test_a_copy_that_differs_is_said_and_marked(restore, backup, folder, admin):
    damage(folder, backup, Damage.ROWS, max_age_hours=26)
    with pytest.raises(RestoreError, match=r"public.orders: found 3000 rows, expected 3001"):
        run(restore(manifest=catalog.find(folder, "shop"), target="shop_d"), silent)
    assert comment_of(admin, "shop_d").endswith("DIFFERS from the backup")


def test_a_restore_that_fails_leaves_its_target_marked(restore, monkeypatch, admin):
    def broken(*arguments, **named):
        raise RestoreError("the server gave up")

    monkeypatch.setattr("ops.sources.postgres.target.restore_archive", broken)
    with pytest.raises(RestoreError, match="the server gave up; the database shop_e is left as it is, do not use it"):
        run(restore(target="shop_e"), silent)
    assert comment_of(admin, "shop_e").endswith("FAILED")


def test_an_older_server_is_refused(restore, backup):
    record = backup.source.model_copy(update={"server_major": 99, "server_version": "99.1"})
    with pytest.raises(RestoreRefusedError, match=r"the dump is of 99\.1"):
        plan(restore(manifest=backup.model_copy(update={"source": record})))


def test_owners_that_nobody_can_act_as_are_named_before_anything_is_made(restore, backup, admin):
    record = backup.source.model_copy(update={"owners": ("app", "somebody")})
    before = names(admin)
    with pytest.raises(RestoreRefusedError, match="may not make objects of app, somebody"):
        run(restore(manifest=backup.model_copy(update={"source": record})), silent)
    assert names(admin) == before


class Stopped(datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Stopped:
        return cls(2026, 11, 22, 21, 0, 5, tzinfo=tz)


def test_the_default_name_stays_within_postgresqls_length():
    name = default_target("d" * 63, datetime(2026, 11, 22, 21, 0, 5, tzinfo=UTC))
    assert len(name) == 63
    assert name.endswith("_restore_20261122210005")
    second = default_target("d" * 63, datetime(2026, 11, 22, 21, 0, 5, tzinfo=UTC), {name})
    assert len(second) == 63
    assert second.endswith("_restore_20261122210005_2")


def test_two_restores_of_the_same_second_go_into_two_databases(restore, monkeypatch):
    monkeypatch.setattr("ops.sources.postgres.target.datetime", Stopped)
    assert run(restore(), silent).target == "shop_restore_20261122210005"
    assert run(restore(), silent).target == "shop_restore_20261122210005_2"
