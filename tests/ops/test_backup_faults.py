"""What a fault at any step leaves: nothing half, in no store and in no spool, and the next run is clean."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ops.backup.create import BackupJob, create
from ops.backup.run_lock import only_run
from ops.core.errors import BackupNotFoundError, BusyError, DatabaseLostError, OpsError, StoreError
from ops.repository import catalog
from ops.sources.base import SourcePlan
from tests.kits.messages import silent
from tests.kits.stores import FaultyStore
from tests.kits.waiting import eventually
from tests.ops.pg_server import CANARY

ROOT = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("ANCLA_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)


def job(source, *stores, name="shop", spool=None):
    return BackupJob(environment="staging", project="test", name=name, source=source, stores=stores, spool=spool)


@pytest.fixture
def own_runtime(tmp_path, monkeypatch):
    """Locks of this test alone."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr("ops.backup.run_lock.runtime_folder", lambda: folder)
    return folder


def clean(store):
    return not list(store.list("")) and store.abort_uploads("") == 0


def fail_at(at, source, s3, folder, spool):
    """Fail one store at its call number `at`: it has nothing then, and the other one all."""
    store = FaultyStore(s3, at=at)
    try:
        create(job(source, store, folder, spool=spool), silent)
    except StoreError as error:
        assert "the line was cut" in str(error)  # noqa: PT017 - whether it fails depends on `at`
        assert "1 of 2 stores have the backup" in str(error)  # noqa: PT017 - the same
        failed = True
    else:
        failed = False
    assert failed == (store.calls > at)
    assert [entry.complete for entry in catalog.entries(folder)] == [True]
    assert not failed or clean(s3)
    assert list(spool.iterdir()) == []
    return failed


def calls_of(source, folder):
    counting = FaultyStore(folder)
    made = create(job(source, counting), silent)
    folder.delete([item.key for item in folder.list("")])
    assert made.objects
    return counting.calls


def try_points(points, source, s3, folder, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    for at in points:
        assert fail_at(at, source, s3, folder, spool), f"call {at} (ANCLA_SEED={SEED})"
        folder.delete([item.key for item in folder.list("")])
    create(job(source, s3, folder, spool=spool), silent)
    assert [entry.complete for entry in catalog.entries(s3)] == [True]


def test_some_store_calls_fail_one_at_a_time(source, s3, folder, tmp_path, own_runtime):
    print(f"ANCLA_SEED={SEED}")
    calls = calls_of(source, folder)
    points = [0, *random.Random(SEED).sample(range(1, calls - 1), 4), calls - 1]
    try_points(points, source, s3, folder, tmp_path)


@pytest.mark.all
def test_every_store_call_fails_one_at_a_time(source, s3, folder, tmp_path, own_runtime):
    try_points(range(calls_of(source, folder)), source, s3, folder, tmp_path)


@pytest.mark.parametrize("at", [0, 3, -1])
def test_the_only_store_that_fails_ends_the_run_and_leaves_nothing(source, s3, folder, own_runtime, at):
    at %= calls_of(source, folder)
    with pytest.raises(StoreError, match="the line was cut"):
        create(job(source, FaultyStore(s3, at=at)), silent)
    assert clean(s3)


def test_two_runs_at_once_on_one_name_are_one_run(source, s3, own_runtime):
    caught = []

    def second(text):
        if text.startswith("dumped"):
            with pytest.raises(BusyError, match="another run is in progress here") as error:
                create(job(source, s3), silent)
            caught.append(str(error.value))

    create(job(source, s3), second)
    assert caught
    assert "\n" not in caught[0]
    create(job(source, s3), silent)  # the lock went with its run


def test_two_machines_at_once_on_one_database_are_one_run(source, s3, own_runtime):
    """Another machine has locks of its own; the database is the same."""
    with source.endpoint.connect() as elsewhere:
        elsewhere.execute("SELECT pg_advisory_lock(%s)", [0x616E636C61])
        with pytest.raises(BusyError, match="maybe on another machine"):
            create(job(source, s3), silent)
        assert clean(s3)
    create(job(source, s3), silent)


def test_a_lock_dies_with_its_owner_and_says_what_it_left(own_runtime):
    code = (
        "import sys, time, pathlib\nfrom ops.backup import run_lock as lock\n"
        f"lock.runtime_folder = lambda: pathlib.Path({str(own_runtime)!r})\n"
        "with lock.only_run('a', 'left'):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BusyError), only_run("a", ""):
            pass
        process.kill()
        process.wait()
    with only_run("a", "mine") as died:
        assert died == ("left",)
    with only_run("a", "") as died:
        assert died == ()


class FakeHalfDump:
    """A source whose dump fails after its file is on its way, as when pg_dump dies behind a pipe."""

    def plan(self):
        return SourcePlan(what="fake", bytes_estimate=1, details={})

    def dump(self, folder, outbox):
        folder.mkdir()
        path = folder / "1.dat"
        path.write_bytes(os.urandom(100_000))
        outbox.begin(path)
        time.sleep(0.2)
        raise OpsError("the dump failed")


def test_a_dump_that_fails_after_its_files_went_out_leaves_nothing(s3, folder, own_runtime):
    with pytest.raises(OpsError, match="the dump failed"):
        create(job(FakeHalfDump(), s3, folder), silent)
    assert clean(s3)
    assert clean(folder)


def test_a_pg_dump_that_is_killed_leaves_nothing(source, s3, app, shop, own_runtime, tmp_path):  # noqa: PLR0917 - fixtures add up
    with app.on(shop).connect() as connection:
        connection.execute("CREATE TABLE public.slow AS SELECT md5(i::text) FROM generate_series(1, 1000000) i")
        for _ in range(5):  # a pause of the machine may hide a whole dump
            before, killed, ended = list(s3.list("")), [], threading.Event()

            def kill(killed=killed, ended=ended):
                while not killed and not ended.wait(0.01):
                    killed += connection.execute(
                        "SELECT pid FROM pg_stat_activity WHERE application_name = 'ancla' AND state = 'active'"
                        " AND query LIKE 'COPY%slow%' AND pg_terminate_backend(pid)"
                    ).fetchall()

            thread = threading.Thread(target=kill)
            thread.start()
            try:
                create(job(source, s3, spool=tmp_path), silent)
            except OpsError as error:
                assert isinstance(error, DatabaseLostError)  # noqa: PT017 - so that it is tried once more
                assert "pg_dump failed" in str(error)  # noqa: PT017 - it was killed, or it had sent its rows before
                assert list(s3.list("")) == before
                assert s3.abort_uploads("") == 0
                assert killed
                return
            finally:
                ended.set()
                thread.join()
    pytest.fail("pg_dump was never killed while it copied rows")


RUN = """
import os, sys
from pathlib import Path
from pydantic import SecretStr
from blueprint.outputs import BucketKey, BucketOutput
from ops.backup import run_lock as lock
from ops.backup.create import BackupJob, create
from ops.sources.postgres.tools import Endpoint
from ops.sources.postgres.source import PostgresDatabase
from ops.repository.stores.s3 import S3Store

runtime, bucket, port, ca = sys.argv[1:]
lock.runtime_folder = lambda: Path(runtime)
key = BucketKey(access_key="AKIATEST", secret_key=SecretStr("secret-of-the-test"))
source = PostgresDatabase(
    endpoint=Endpoint(
        host="localhost", hostaddr="127.0.0.1", port=int(port), user="app", password=SecretStr(os.environ["PASSWORD"]),
        database="shop", ca_certificate=Path(ca).read_text(),
    )
)
store = S3Store(BucketOutput.model_validate_json(bucket), key)
print("ready", flush=True)
create(
    BackupJob(environment="staging", project="test", name="shop", source=source, stores=(store,),
              spool=Path(runtime) / "spool"),
    lambda line: print(line, flush=True),
)
print("done", flush=True)
"""


@pytest.fixture
def killed_at(cluster, app, shop, bucket, s3, own_runtime):  # noqa: PLR0917 - fixtures add up
    """Run a backup in a process of its own, kill it -9 after so many seconds; says whether it was at work."""
    (own_runtime / "spool").mkdir()
    (own_runtime / "ca.pem").write_text(cluster.ca_certificate)
    with app.on(shop).connect() as connection:
        connection.execute(
            "CREATE TABLE public.wide AS SELECT i, gen_random_uuid() a, gen_random_uuid() b, gen_random_uuid() c"
            " FROM generate_series(1, 400000) i"
        )

    def run(seconds):
        arguments = [str(own_runtime), bucket.model_dump_json(), str(cluster.port), str(own_runtime / "ca.pem")]
        with subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments],
            env={**os.environ, "PASSWORD": CANARY},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout.readline() == "ready\n"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            at_work = process.poll() is None
            process.kill()
            process.wait()
        return at_work

    return run


def nothing_runs(cluster):
    with cluster.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'"
        eventually(lambda: connection.execute(query).fetchone() == (0,))


def kill_and_go_on(moments, killed_at, cluster, source, s3, own_runtime):  # noqa: PLR0917 - fixtures add up
    at_work = 0
    for seconds in moments:
        at_work += killed_at(seconds)
        known = catalog.entries(s3, "shop")
        if any(entry.complete for entry in known):
            assert catalog.find(s3, "shop").objects
        else:
            with pytest.raises(BackupNotFoundError):
                catalog.find(s3, "shop")
        nothing_runs(cluster)  # pg_dump and its workers died too
        made = create(job(source, s3, spool=own_runtime / "spool"), silent)
        assert all(entry.complete for entry in catalog.entries(s3, "shop")), f"{seconds} s (ANCLA_SEED={SEED})"
        assert s3.abort_uploads("") == 0, "an upload was left open"
        assert list((own_runtime / "spool").iterdir()) == []
        assert catalog.find(s3, "shop") == made
        s3.delete([item.key for item in s3.list("")])
    assert at_work, "it was never killed at work"


@pytest.mark.long
def test_a_kill_at_some_moment_leaves_nothing_after_the_next_run(killed_at, cluster, source, s3, own_runtime):
    print(f"ANCLA_SEED={SEED}")
    moments = [0.1, *random.Random(SEED).sample([0.3, 0.6, 1, 1.5, 2, 3], 2)]
    kill_and_go_on(moments, killed_at, cluster, source, s3, own_runtime)


@pytest.mark.all
def test_a_kill_at_any_moment_leaves_nothing_after_the_next_run(killed_at, cluster, source, s3, own_runtime):
    kill_and_go_on([0.1 * step for step in range(1, 40)], killed_at, cluster, source, s3, own_runtime)
