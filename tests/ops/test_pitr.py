"""What a drill of the provider's restore points proves, and what it refuses before anything is made."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ops.core.errors import CloudError, OpsError, StackError
from ops.core.signing import Signer
from ops.drill.evidence.chain import append
from ops.drill.evidence.document import Status
from ops.drill.evidence.verification import verify
from ops.drill.kinds import provider_fork
from ops.drill.runner import run
from ops.managed_postgres import provider
from ops.sources.postgres import scratch_server as postgres
from ops.sources.postgres.canary import write_canary
from ops.sources.postgres.identity import identity
from ops.stack.init import make_key
from tests.ops.pg_server import CANARY
from tests.ops.pitr_kit import api, as_nobody, as_users, cloud, copied, copy_of, job, live_of, names, outputs, switch
from tests.sandbox.conftest import TOKEN

__all__ = ["api", "cloud", "copied", "job", "outputs"]


def test_a_fork_that_holds_all_is_green_and_gone_and_every_way_of_being_wrong_is_red(api, job, cluster, copied, shop):
    job = replace(job, open_live=as_users(cluster), open_fork=as_users(copied))
    evidence = run(job, print)
    assert evidence.summary() == ""
    assert evidence.verdict == "green"
    assert {check.status for check in evidence.checks} == {Status.PASSED}
    assert evidence.rows == 4552
    assert evidence.detail.identity.live_timeline < evidence.detail.identity.fork_timeline
    assert "not a backup of ours" in evidence.proves
    assert names(api) == ["shop-db"]
    assert api.get("/v2/tags")["tags"] == [], "not even its tag"
    made = next(spec for what, spec in api.parts.calls if what == "databases.apply" and spec.restore)
    own = {f"{network['ip_address']}/32" for network in api.machine["networks"]["v4"]}
    assert set(made.trusted) == own, "closed to all but the droplet from its first moment"
    for secret in (CANARY, TOKEN, "c4n4ry"):
        assert secret not in evidence.model_dump_json()

    def red(check, **change):
        found = run(replace(job, **change), print)
        assert found.verdict == "red"
        assert names(api) == ["shop-db"], "a red drill destroys its fork too"
        assert check in [each.name for each in found.red], found.summary()
        return found.summary()

    # The live server itself in place of a fork.
    assert "it is the live server itself" in red("identity", open_fork=as_users(cluster))
    # Live was changed since: named, and accepted when that was said.
    with cluster.on(shop).connect() as connection:
        connection.execute("ALTER TABLE public.customers ADD COLUMN later int")
    assert "public.customers: defined otherwise" in red("schema")
    assert run(replace(job, schema_may_differ=True), print).verdict == "green"
    # A copy without rows, and one without the database.
    with copied.on(shop).connect() as connection:
        connection.execute('TRUNCATE customers, orders, events, audit.log, "Odd name; x"')
    assert "no rows in any table" in red("rows", schema_may_differ=True)
    assert run(replace(job, schema_may_differ=True, may_be_empty=True), print).verdict == "green"
    with copied.connect() as connection:
        connection.execute(f"DROP DATABASE {shop}")
    assert f'database "{shop}" does not exist' in red("databases")


def test_the_evidence_has_the_time_of_the_data_not_only_the_one_asked_for(  # noqa: PLR0917 - fixtures add up
    api, job, cluster, admin, app, shop
):
    """The provider of this test gives the same data, whatever time it is asked for."""
    write_canary(admin.on(shop), app.user)
    with copy_of(cluster, recovered=True) as copy:

        def drill(**change):
            return run(replace(job, open_live=as_users(cluster), open_fork=as_users(copy), **change), print)

        def of(moment):
            with copy.on(shop).connect() as connection:
                connection.execute("UPDATE ancla.canary SET written_at = %s", [moment])

        def problem(evidence):
            return next(check for check in evidence.checks if check.name == "moment").problems

        (backup,) = provider.restore_points(job.cloud, live_of(job))
        asked = datetime.now(UTC)
        of(backup.created_at + (asked - backup.created_at) / 2)
        good = drill(at=asked.isoformat())
        assert (good.verdict, good.detail.asked_for) == ("green", asked), good.summary()
        assert backup.created_at < good.detail.data_of < asked
        assert "data of" in good.detail.facts(good)
        of(backup.created_at)
        rounded = drill(at=asked.isoformat())
        assert (rounded.verdict, rounded.detail.data_of) == ("red", backup.created_at)
        assert "nothing in it is newer than the backup of" in problem(rounded)[0]
        assert drill().verdict == "green", "the backup itself was asked for"
        of(asked + timedelta(hours=1))
        assert "the newest commit in it is of" in problem(drill(at=asked.isoformat()))[0]
        with copy.on(shop).connect() as connection:
            connection.execute("DROP SCHEMA ancla CASCADE")
        silent = drill(at=asked.isoformat(), schema_may_differ=True)
        assert (silent.verdict, silent.detail.data_of) == ("red", None)
        assert "ops backup canary" in problem(silent)[0]


def test_a_copy_that_was_not_recovered_is_no_restored_backup(job, cluster, shop):
    with copy_of(cluster, recovered=False) as copy:
        evidence = run(replace(job, open_live=as_users(cluster), open_fork=as_users(copy)), print)
    assert "it was not recovered from a backup" in evidence.summary()


def test_a_fork_that_dies_while_it_is_read_is_red_and_destroyed(api, job, cluster, shop, monkeypatch):
    asked = []

    def dies(connection):
        asked.append(identity(connection))  # of live, then of the fork
        if len(asked) == 2:
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return asked[0]

    monkeypatch.setattr(provider_fork, "identity", dies)
    evidence = run(replace(job, open_live=as_users(cluster), open_fork=as_users(cluster)), print)
    assert "terminating connection" in evidence.summary()
    assert names(api) == ["shop-db"]


def test_another_system_is_not_a_fork_of_this_one(job, cluster, shop):
    with postgres.scratch_server("15") as other:
        job = replace(job, open_live=as_users(cluster), open_fork=contextmanager(lambda *_: iter([(other, other)])))
        evidence = run(job, print)
    assert "it is another system" in evidence.summary()


def test_evidence_is_signed_and_in_the_chain(job, tmp_path):
    evidence, signer = run(replace(job, open_live=as_nobody), print), Signer(make_key())
    folder = tmp_path / "drills"
    folder.mkdir()
    for hour in range(2):
        moment = evidence.started_at + timedelta(hours=hour)
        append(folder, [evidence.model_copy(update={"started_at": moment})], signer=signer)
    found = verify(folder, [signer.public])
    assert (found.documents, found.problems) == (2, [])
    assert found.heads.keys() == {"fork-drill-staging"}


# --- what is refused before anything is made -------------------------------------------------------------------------


def test_a_team_with_no_room_for_a_cluster_is_refused_before_it_is_asked(api, job):
    with pytest.raises(OpsError, match=r"has 1 database clusters and may have 1.*--cluster-limit"):
        run(replace(job, cluster_limit=1), print)
    assert not [what for what, spec in api.parts.calls if what == "databases.apply" and spec.restore]


def test_a_provider_that_gives_backups_alone_refuses_a_time_between_two_and_nothing_is_left(api, job):
    switch(api, fork_times="backups_only")
    with pytest.raises(CloudError, match="is not the time of a backup of shop-db"):
        run(replace(job, at=datetime.now(UTC).isoformat()), print)
    assert names(api) == ["shop-db"]


def test_what_may_cost_more_than_the_limit_is_refused_before_the_start(api, job):
    planned = job.planned(datetime.now(UTC))
    assert planned.cost.total == pytest.approx(2 * 15 / 672, abs=0.001)
    with pytest.raises(OpsError, match=r"may cost 0\.04 US dollars \(2 h\), more than --max-cost 0\.04; nothing was"):
        run(replace(job, max_cost=0.044), print)
    with pytest.raises(OpsError, match=r"may cost 0\.56 US dollars"):
        run(replace(job, max_cost=0.5, wait_minutes=24 * 60), print)
    assert names(api) == ["shop-db"]


def test_a_plan_without_a_price_is_refused(job, monkeypatch):
    monkeypatch.delitem(provider_fork.fork_cost.__globals__["DATABASE_SIZES"], "db-s-1vcpu-1gb")
    with pytest.raises(OpsError, match="no fork without a price"):
        job.planned(datetime.now(UTC))


def test_the_time_must_be_one_that_can_be_restored(api, job):
    now = datetime.now(UTC) + timedelta(seconds=2)
    (point,) = provider.restore_points(job.cloud, live_of(job))
    between = (point.created_at + timedelta(microseconds=1)).isoformat()
    for at, moment in (("latest", point.created_at), ("oldest", point.created_at), (between, None)):
        assert replace(job, at=at).planned(now).moment == (moment or datetime.fromisoformat(between))
    for at, told in (
        ("yesterday", "neither latest, oldest, nor a time"),
        ("2020-01-01T00:00:00Z", "outside of what can be restored"),
        ("2120-01-01", "outside of what can be restored"),
    ):
        with pytest.raises(OpsError, match=told):
            replace(job, at=at).planned(now)
    with pytest.raises(OpsError, match="lists no restore point"):
        provider.choose([], "latest", now)


def test_another_account_and_a_stack_without_droplet_are_refused(job):
    other = job.stack.outputs.model_copy(update={"account": "another"})
    with pytest.raises(StackError, match="belongs to the account another"):
        run(replace(job, stack=replace(job.stack, outputs=other)), print)
    bare = job.stack.outputs.model_copy(update={"droplets": []})
    with pytest.raises(OpsError, match="no droplet to reach a fork from"):
        run(replace(job, stack=replace(job.stack, outputs=bare)), print)
