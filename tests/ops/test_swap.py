"""A restored database takes the live one's place by renaming, and back, with the app connected meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest

from ops.backup.create import BackupJob, create
from ops.core.errors import RestoreError, RestoreRefusedError, SourceError
from ops.restore import swap
from ops.sources.postgres.tools import find_tool
from tests.kits.messages import silent
from tests.kits.waiting import eventually
from tests.ops.pg_server import serving
from tests.ops.restore_kit import RestoreJob
from tests.ops.restore_kit import run as restore
from tests.ops.test_swap_killed import quiet

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
BEFORE = "shop_before_20261123010000"


@pytest.fixture
def cluster_ways(admin, app):
    return swap.Cluster(admin=admin, owner=app)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(swap, "QUIET_SECONDS", 0.5)


@pytest.fixture
def copy(source, folder, admin, app, cluster):
    """A verified restore of `shop`, after which the live one lost its orders. Yields the copy's name."""
    made = create(
        BackupJob(environment="staging", project="test", name="shop", source=source, stores=(folder,)), silent
    )
    restore(RestoreJob(store=folder, manifest=made, admin=admin, owner=app, live=("shop",), target="shop_copy"), silent)
    with app.on("shop").connect() as connection:
        connection.execute("DELETE FROM orders")
    quiet(cluster)  # sessions that were closed are counted, and waited for, until their server processes are gone
    return "shop_copy"


def orders(app, name="shop"):
    with app.on(name).connect() as connection:
        return connection.execute("SELECT count(*) FROM public.orders").fetchone()[0]


def names(admin):
    with admin.on("postgres").connect() as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'shop%'")}


def test_the_copy_becomes_live_while_the_app_is_connected_and_undo_puts_the_former_one_back(
    cluster_ways, copy, admin, app
):
    with app.on("shop").connect() as connected:
        planned = swap.plan_promote(cluster_ways, "shop", copy, NOW)
        assert (planned.before, planned.sessions) == (BEFORE, 1)
        swap.run(cluster_ways, planned, silent)
        with pytest.raises(psycopg.OperationalError):
            connected.execute("SELECT 1")
    assert names(admin) == {"shop", BEFORE}
    assert orders(app) == 3000
    assert orders(app, BEFORE) == 0

    swap.run(cluster_ways, swap.plan_undo(cluster_ways, "shop"), silent)

    assert names(admin) == {"shop", "shop_copy"}
    assert orders(app) == 0
    assert orders(app, "shop_copy") == 3000
    with pytest.raises(RestoreRefusedError, match="nothing to undo"):
        swap.plan_undo(cluster_ways, "shop")


def test_what_no_restore_has_verified_is_refused(cluster_ways, copy, admin):
    with admin.on(copy).connect() as connection:
        connection.execute(f"COMMENT ON DATABASE {copy} IS 'ancla: restore of x begun y, DIFFERS from the backup'")
    with pytest.raises(RestoreRefusedError, match="no restore has verified it"):
        swap.plan_promote(cluster_ways, "shop", copy, NOW)
    with pytest.raises(RestoreRefusedError, match="no such database"):
        swap.plan_promote(cluster_ways, "shop", "shop_none", NOW)
    with pytest.raises(RestoreRefusedError, match="is the live database"):
        swap.plan_promote(cluster_ways, "shop", "shop", NOW)


def test_a_copy_of_another_database_is_refused(cluster_ways, copy, admin):
    """Which it is of stands in its mark."""

    def mark(of):
        with admin.on(copy).connect() as connection:
            connection.execute(f"COMMENT ON DATABASE {copy} IS 'ancla: restore of x{of} begun y, verified'")

    assert swap.plan_promote(cluster_ways, "shop", copy, NOW).live == "shop"
    mark(" (logs)")
    with pytest.raises(RestoreRefusedError, match="is a copy of logs and must not replace shop"):
        swap.plan_promote(cluster_ways, "shop", copy, NOW)


def test_sessions_that_may_not_be_ended_stop_it_and_nothing_is_renamed(impatient, cluster_ways, copy, cluster, app):
    with (
        cluster.on("shop").connect(),
        pytest.raises(RestoreError, match=f"sessions of {cluster.user} stay connected, which neither doadmin nor app"),
    ):
        swap.run(cluster_ways, swap.plan_promote(cluster_ways, "shop", copy, NOW), silent)
    assert names(cluster) == {"shop", copy}
    assert orders(app) == 0, "and the app can connect again"


def test_when_the_second_rename_is_refused_the_first_is_taken_back(monkeypatch, cluster_ways, copy, cluster, app):
    planned = swap.plan_promote(cluster_ways, "shop", copy, NOW)
    held = []

    def report(text):
        second = text.startswith(copy)  # only there somebody stays; a session of ours that ends slowly is waited for
        monkeypatch.setattr(swap, "QUIET_SECONDS", 0.5 if second else 60)
        if second:
            held.append(cluster.on(copy).connect())
            held[-1].__enter__()

    with pytest.raises(RestoreError, match="shop is unchanged"):
        swap.run(cluster_ways, planned, report)
    held[0].__exit__(None, None, None)
    assert names(cluster) == {"shop", copy}
    assert orders(app) == 0
    with pytest.raises(SourceError):
        orders(app, BEFORE)


class TestWithAutovacuum:
    """A server whose autovacuum never ends, as after the restore of a large database."""

    @pytest.fixture
    def cluster(self):
        settings = {"autovacuum": "on", "autovacuum_naptime": "1s", "autovacuum_vacuum_threshold": "0"}
        slow = {"autovacuum_vacuum_cost_delay": "100ms", "autovacuum_vacuum_cost_limit": "1"}
        programs = (find_tool(name, at_least="14") for name in ("initdb", "postgres"))
        with serving(*programs, **settings, **slow) as endpoint:
            yield endpoint

    @pytest.fixture
    def vacuumed(self, cluster, copy):
        """Databases in each of which a worker of the server's own is busy, as long as the test takes."""
        for name in ("shop", copy):
            with cluster.on(name).connect() as connection:
                connection.execute(
                    "CREATE TABLE public.dead AS SELECT i, repeat('x', 900) FROM generate_series(1, 9000) i"
                )
                connection.execute("DELETE FROM public.dead")

        def at_work():
            query = "SELECT DISTINCT datname FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
            with cluster.connect() as connection:
                return {name for (name,) in connection.execute(query).fetchall()} >= {"shop", copy}

        eventually(at_work)
        quiet(cluster)

    @pytest.mark.usefixtures("impatient", "vacuumed")
    def test_workers_without_a_user_are_no_sessions(self, cluster_ways, copy, admin, app):
        planned = swap.plan_promote(cluster_ways, "shop", copy, NOW)
        assert planned.sessions == 0
        swap.run(cluster_ways, planned, silent)
        assert names(admin) == {"shop", BEFORE}
        assert orders(app) == 3000
