"""Drills of real backups: what each check sees, and what a drill leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.core.errors import KeyProblemError, RestoreRefusedError
from ops.drill import workdir
from ops.drill.evidence.document import Status
from ops.drill.kinds.backup import controls
from ops.drill.negative_controls import CAUGHT_BY, Damage
from ops.drill.selection import Pick, choose
from ops.repository.age import make_identity, read_identities
from ops.sources.postgres import scratch as postgres
from ops.sources.postgres.assertions import ask
from ops.sources.postgres.canary import write_canary
from ops.sources.postgres.identity import identity as server_identity
from ops.sources.postgres.source import PostgresDatabase
from tests.kits.messages import silent
from tests.ops.drill_kit import backup, drill, identity, job, make
from tests.ops.test_swap_killed import quiet

__all__ = ["backup", "identity"]

ROOT = Path(__file__).parents[2]


def status(evidence):
    return {check.name: check.status for check in evidence.checks}


def problems(evidence):
    return {check.name: check.problems for check in evidence.red}


def test_a_sound_backup_is_green_and_every_question_was_asked(backup, folder, identity):
    evidence = drill(folder, identity, assertions=("SELECT count(*) = 500 FROM customers",))
    assert evidence.summary() == ""
    assert evidence.verdict == "green"
    assert set(status(evidence).values()) == {Status.PASSED}
    assert set(status(evidence)) >= {"origin", "key", "integrity", "assertions"}
    assert evidence.rows == 4552
    assert all(table.equal for table in evidence.detail.tables)
    assert [phase.name for phase in evidence.phases] == [
        "manifest", "fetch", "decrypt, decompress", "start scratch target", "load", "index", "check"
    ]  # fmt: skip
    whole = sum(phase.seconds for phase in evidence.phases[1:])
    assert whole == pytest.approx(evidence.rto_seconds, rel=0.25, abs=1.5), "the phases tell where the time went"


def test_every_negative_control_is_caught_by_the_check_that_is_there_for_it(backup, folder, identity):
    results = controls(job(folder, identity), silent)
    assert [result.damage for result in results] == list(Damage)
    for result in results:
        assert CAUGHT_BY[Damage(result.damage)] in {check.name for check in result.red}, result.damage
        assert result.verdict == "red"
        assert result.detail.store == folder.name
    assert drill(folder, identity).verdict == "green", "the original was touched"


def test_one_negative_control_alone(backup, folder, identity):
    assert "digests" in problems(drill(folder, identity, damage=Damage.FLIP))


def test_what_cannot_be_damaged_is_no_control(source, folder, identity):
    make(source, identity, folder, signer=None)
    kinds = [result.damage for result in controls(job(folder, identity, signer=None), silent)]
    assert kinds == [kind for kind in Damage if kind is not Damage.ORIGIN]
    with pytest.raises(RestoreRefusedError, match="nothing to damage"):
        drill(folder, identity, signer=None, damage=Damage.ORIGIN)


def test_a_manifest_that_the_environment_did_not_sign_is_red(source, folder, identity):
    make(source, identity, folder, signer=None)
    evidence = drill(folder, identity)
    assert list(problems(evidence)) == ["origin"]
    assert "not signed" in problems(evidence)["origin"][0]
    assert drill(folder, identity, signer=None).verdict == "green", "where no signer is recorded nothing is asked"


def test_without_the_right_key_the_key_is_what_is_red_and_without_any_there_is_no_drill(
    backup, folder, identity, tmp_path
):
    other = tmp_path / "other.txt"
    other.write_text(make_identity())
    evidence = drill(folder, None, identities=read_identities(other))
    assert list(problems(evidence)) == ["key"]
    assert status(evidence)["restore"] is Status.SKIPPED
    with pytest.raises(KeyProblemError, match="--identity"):
        drill(folder, None)


@pytest.mark.parametrize(
    ("assertion", "found"),
    [
        ("SELECT count(*) = 1 FROM customers", "returned False, not true"),
        ("SELECT NULL::boolean", "returned null, not true"),
        ("SELECT 1", "returned 1, not true"),
        ("SELECT true FROM customers", "returned 2 rows"),
        ("SELECT true WHERE false", "returned no rows"),
        ("SELECT total FROM nowhere", 'relation "nowhere" does not exist'),
        ("DELETE FROM customers RETURNING true", "read-only transaction"),
    ],
)
def test_an_assertion_that_is_not_true_is_named(app, shop, assertion, found):
    with app.on(shop).connect() as connection:
        (problem,) = ask(connection, ["SELECT true", assertion, "SELECT 2 > 1"])
    assert problem.startswith(assertion)
    assert found in problem


def test_a_false_assertion_turns_the_drill_red(backup, folder, identity):
    evidence = drill(folder, identity, assertions=("SELECT true", "SELECT count(*) = 1 FROM customers"))
    assert list(problems(evidence)) == ["assertions"]


def test_budgets_fail_a_drill(backup, folder, identity):
    evidence = drill(folder, identity, max_age_hours=0, rpo_minutes=0, rto_minutes=0)
    assert set(problems(evidence)) == {"age", "rpo", "time"}
    assert status(evidence)["content"] is Status.PASSED


def test_the_age_is_that_of_the_newest_backup_whichever_is_drilled(source, folder, identity):
    old, new = make(source, identity, folder), make(source, identity, folder)
    evidence = drill(folder, identity, backup=old.id)
    assert evidence.backup == old.id
    assert evidence.rpo_seconds == pytest.approx((evidence.started_at - new.snapshot_at).total_seconds(), abs=0.01)


def test_a_canary_measures_what_would_be_lost(admin, app, shop, folder, identity):
    with admin.on(shop).connect() as connection:
        connection.execute("SELECT 1")
    written = write_canary(admin.on(shop), app.user)
    make(PostgresDatabase(endpoint=app.on(shop)), identity, folder)
    evidence = drill(folder, identity)
    assert evidence.verdict == "green", evidence.summary()
    assert evidence.rpo_basis == "measured"
    assert evidence.rpo_seconds == pytest.approx((evidence.started_at - written).total_seconds(), abs=0.01)
    again = write_canary(admin.on(shop), app.user)
    assert again > written
    assert drill(folder, identity).rpo_seconds >= evidence.rpo_seconds, "the copy has the older row"


def test_without_a_canary_the_loss_is_computed(backup, folder, identity):
    evidence = drill(folder, identity)
    assert evidence.rpo_basis == "computed"
    assert evidence.rpo_seconds == pytest.approx((evidence.started_at - backup.snapshot_at).total_seconds(), abs=0.01)


def test_how_a_backup_is_chosen():
    ids = ["a", "b", "c"]
    at = datetime(2026, 11, 1, tzinfo=UTC)
    assert choose(ids, Pick.LATEST, {})[0] == "c"
    assert choose(ids, Pick.OLDEST_UNVERIFIED, {"a": at})[0] == "b"
    all_of_them = {"a": at, "b": at - timedelta(days=1), "c": at}
    assert choose(ids, Pick.OLDEST_UNVERIFIED, all_of_them)[0] == "b", "the one proved longest ago"
    backup, choice = choose(ids, Pick.RANDOM, {})
    assert choose(ids, Pick.RANDOM, {}, seed=choice.seed) == (backup, choice)
    assert {choose(ids, Pick.RANDOM, {}, seed=seed)[0] for seed in range(40)} == set(ids)
    assert choose([], Pick.RANDOM, {})[0] == "latest"


def test_live_is_not_touched(  # noqa: PLR0917  # fixtures add up
    backup, cluster, app, shop, folder, identity
):
    """A drill is given no way to anything live; and what it starts is another server than the live one."""
    database = PostgresDatabase(endpoint=app.on(shop))

    def live():
        with cluster.on(shop).connect() as connection:
            writes = connection.execute(
                "SELECT xact_rollback, tup_inserted, tup_updated, tup_deleted FROM pg_stat_database"
                " WHERE datname = current_database()"
            ).fetchone()
            names = connection.execute("SELECT array_agg(datname ORDER BY datname) FROM pg_database").fetchone()
            return server_identity(connection).system, names, database.fingerprint().tables, writes

    quiet(cluster)  # a session of the backup is counted in the statistics when it is gone
    before = live()
    evidence = drill(folder, identity)
    assert evidence.verdict == "green"
    assert live() == before
    scratch_server = next(check.answer for check in evidence.checks if check.name == "identity")
    assert before[0] not in scratch_server
    with app.on(shop).connect() as connection:
        connection.execute("INSERT INTO empty VALUES (1)")
    assert live() != before, "the look at live would see a row"


def test_a_drill_that_reached_a_live_server_would_stop_before_it_wrote(  # noqa: PLR0917  # fixtures add up
    backup, cluster, app, shop, folder, identity, monkeypatch
):
    """The way to the scratch server is replaced by one to the live server, as no drill of ours can."""

    @contextlib.contextmanager
    def live_server(version, **more):
        yield cluster

    monkeypatch.setattr(postgres, "scratch_server", live_server)
    monkeypatch.setattr(postgres, "how_to_look", lambda *given: "")
    evidence = drill(folder, identity)
    assert list(problems(evidence)) == ["identity"]
    assert status(evidence)["restore"] is Status.SKIPPED
    with cluster.connect() as connection:
        names = connection.execute("SELECT datname FROM pg_database").fetchall()
    assert ("drill",) not in names


@pytest.fixture
def spool():
    """A folder with a path that is short enough for a socket, and that the scratch server's user may pass through."""
    path = Path(f"/tmp/anc-{os.getpid()}")
    path.mkdir()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_a_green_drill_leaves_nothing(backup, folder, identity, spool):
    assert drill(folder, identity, spool=spool, keep_hours=2).verdict == "green"
    assert list(spool.iterdir()) == []


def test_a_red_drill_keeps_its_scratch_until_its_time_is_over(backup, folder, identity, spool):
    evidence = drill(folder, identity, spool=spool, keep_hours=2, assertions=("SELECT false",))
    (kept,) = spool.iterdir()
    note = json.loads((kept / workdir.KEPT).read_text())
    assert note["backup"] == backup.id
    assert "1 of 1 assertions fail" in note["why"]
    assert "kept for 2 h" in next(check.answer for check in evidence.checks if check.name == "clean")
    query = "SELECT count(*) FROM public.customers\n"
    looked = subprocess.run(note["look"].split(), input=query, capture_output=True, text=True, check=False)
    assert 'count = "500"' in looked.stdout, looked.stderr
    assert not list(kept.rglob("toc.dat")), "the decrypted dump goes"
    assert workdir.sweep(spool) == []
    assert drill(folder, identity, spool=spool).verdict == "green"
    assert kept.exists()
    assert workdir.sweep(spool, datetime.now(UTC) + timedelta(hours=3)) == [kept]
    assert list(spool.iterdir()) == []


def test_a_sweep_leaves_alone_what_is_at_work_and_what_is_not_ours(tmp_path):
    (tmp_path / "ancla-drill-young").mkdir()
    (tmp_path / "other").mkdir()
    with workdir.drill_folder(tmp_path) as folder:
        assert workdir.sweep(tmp_path) == []
        assert folder.exists()
    old = datetime.now(UTC) + timedelta(seconds=workdir.YOUNG_SECONDS + 1)
    assert workdir.sweep(tmp_path, old) == [tmp_path / "ancla-drill-young"]
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


DRILL = """
import sys
from pathlib import Path
from ops.repository.stores.folder import FolderStore
from tests.ops.drill_kit import job
from ops.drill.runner import run
store, identity, spool = sys.argv[1:]
run(job(FolderStore(Path(store)), Path(identity), spool=Path(spool), signer=None), lambda text: print(text, flush=True))
print("done", flush=True)
"""


@pytest.mark.parametrize("moment", [0.0, 0.4, 0.9, 1.5, 2.2])
def test_a_drill_killed_at_any_moment_leaves_no_server_and_nothing_a_sweep_does_not_remove(
    backup, folder, identity, spool, moment
):
    process = subprocess.Popen(
        [sys.executable, "-c", DRILL, folder.name, identity, spool],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "fetching" in process.stdout.readline()
    time.sleep(moment)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 60
    while servers(spool):
        assert time.monotonic() < deadline, servers(spool)
        time.sleep(0.1)
    workdir.sweep(spool)
    assert list(spool.iterdir()) == []
    assert drill(folder, identity, spool=spool).verdict == "green", "the next one is as if nothing had been"


def servers(spool):
    """Processes that have the folder in their command line or as their working folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
            inside = str((folder / "cwd").readlink()).startswith(f"{spool}/")
        except OSError:
            continue
        if (f"{spool}/" in line or inside) and int(folder.name) != os.getpid():
            found.append(line.replace("\0", " "))
    return found
