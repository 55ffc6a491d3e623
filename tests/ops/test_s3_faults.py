"""S3 that is busy, silent or torn at each call of restore, prune and drill: ridden out, or red with nothing half."""

from __future__ import annotations

import os
import random
import secrets
import tempfile
from pathlib import Path

import pytest

from ops.core.errors import RestoreError, RestoreRefusedError, StoreError
from ops.drill import runner as drilling
from ops.repository import catalog
from ops.repository.age import read_identities
from ops.repository.stores.retry import Patience
from ops.repository.stores.s3 import S3Store
from ops.restore import restore as files
from ops.sources.bucket.restore import MARK
from ops.sources.bucket.source import Bucket
from tests.kits.messages import silent
from tests.ops import drill_kit, prune_kit, source_kit
from tests.ops.drill_kit import identity
from tests.ops.faults import KINDS, LASTING, FaultyLine, each_once, red_of
from tests.ops.restore_kit import RestoreJob
from tests.ops.restore_kit import run as restore
from tests.ops.test_prune import complete_ones_are_whole, history

__all__ = ["identity"]

SEED = int(os.environ["ANCLA_SEED"])


def clear(number, method, path):
    """No fault."""


@pytest.fixture
def line(s3_endpoint):
    with FaultyLine(s3_endpoint, clear) as line:
        yield line


class Impatient(Patience):
    """Gives up soon once the line is broken for good; a pause of the machine before that is ridden out."""

    def __init__(self, line):
        super().__init__(pause=0.1)
        self._line = line

    def next_pause(self, since, tries, asked=0):
        self.at_first = self.later = 0.3 if getattr(self._line.fault, "met", False) else 60
        return super().next_pause(since, tries, asked)


@pytest.fixture
def far(line, bucket, key):
    """The store behind the line; `patient` rides out what passes, else it gives up soon."""

    def store(*, patient, of=bucket):
        patience = Patience(at_first=60, later=60, pause=0.1) if patient else Impatient(line)
        return S3Store(of.model_copy(update={"endpoint": line.address}), key, patience=patience, timeout=1)

    return store


def names(cluster):
    with cluster.connect() as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}


def back_up(get):
    """Make a backup of several objects: what is small goes out in one."""
    with get("app").on(get("shop")).connect() as connection:
        for number in range(3):
            connection.execute(
                f"CREATE TABLE public.large{number} AS SELECT md5(i::text) a FROM generate_series(1, 40000) i"
            )
    manifest = drill_kit.make(get("source"), get("identity"), get("s3"))
    assert len(manifest.objects) >= 4


class Restoring:
    """A restore from the store: what fails must make no database."""

    CALLS = 7

    def __init__(self, request):
        get = request.getfixturevalue
        self.cluster, self.admin, self.owner, self.identity = (get(n) for n in ("cluster", "admin", "app", "identity"))
        self.spool = get("tmp_path") / "spool"
        self.spool.mkdir()
        back_up(get)

    def do(self, store):
        self.before = names(self.cluster)
        job = RestoreJob(
            store=store,
            manifest=catalog.find(store, "shop"),
            admin=self.admin,
            owner=self.owner,
            live=("shop",),
            target=f"shop_{secrets.token_hex(4)}",
            spool=self.spool,
            identities=read_identities(self.identity),
        )
        assert restore(job, silent).skipped == []
        assert names(self.cluster) == {*self.before, job.target.into}
        assert list(self.spool.iterdir()) == []

    def left(self):
        assert names(self.cluster) == self.before
        assert list(self.spool.iterdir()) == []


class Drilling:
    """A drill of the store: what fails must leave no scratch and say nothing good."""

    CALLS = 7

    def __init__(self, request):
        get = request.getfixturevalue
        self.identity = get("identity")
        self.spool = Path(tempfile.mkdtemp(prefix="anc-", dir="/tmp"))  # short enough for a socket's path
        self.spool.chmod(0o755)
        request.addfinalizer(self.spool.rmdir)
        back_up(get)

    def do(self, store):
        evidence = drilling.run(drill_kit.job(store, self.identity, spool=self.spool), silent)
        assert evidence.summary() == ""
        self.left()

    def left(self):
        assert list(self.spool.iterdir()) == []


class Pruning:
    """Retention put to work: what fails must leave each backup whole or gone; the next run ends as if it had not."""

    CALLS = 40

    def __init__(self, request):
        self.near = request.getfixturevalue("s3")
        history(self.near)
        self.begin = {}
        for key in prune_kit.keys(self.near):
            with self.near.open(key) as body:
                self.begin[key] = body.read()
        assert len(prune_kit.prune(self.near)) == 4
        self.end = prune_kit.keys(self.near)

    def do(self, store):
        present = set(prune_kit.keys(self.near))
        for key, content in self.begin.items():
            if key not in present:
                self.near.put_bytes(key, content)
        prune_kit.prune(store)
        assert prune_kit.keys(self.near) == self.end

    def left(self):
        complete_ones_are_whole(self.near)
        assert set(self.end) <= set(prune_kit.keys(self.near)), "what stays is untouched"
        prune_kit.prune(self.near)
        assert prune_kit.keys(self.near) == self.end


WORKS = {"restore": Restoring, "drill": Drilling, "prune": Pruning}


@pytest.fixture(params=WORKS)
def work(request):
    return WORKS[request.param](request)


def ride_out(work, line, store, kinds):
    line.fault = each_once(kinds, SEED)
    work.do(store)
    assert len(line.fault.failed) >= 7
    assert {kind for kind, _, _ in line.fault.failed} <= {*kinds, "lost"}
    line.fault = clear


def test_what_passes_is_ridden_out_at_every_call(work, line, far):
    """Each request fails once, by a fault that is drawn."""
    print(f"ANCLA_SEED={SEED}")
    ride_out(work, line, far(patient=True), [kind for kind in KINDS if kind != "hang"])


@pytest.mark.all
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_what_passes_is_ridden_out_at_every_call(work, line, far, kind):
    ride_out(work, line, far(patient=True), [kind])


def fail_from(points, work, line, far):
    """The store fails for good at a call: that is red, in one line, and nothing half is left."""
    chance, reds = random.Random(SEED), 0
    for at in points:
        kind = chance.choice(LASTING)
        store = far(patient=False)
        red = red_of(line, at, kind, lambda store=store: work.do(store))
        if red is not None:
            reds += 1
            here = f"{kind} from call {at} on (ANCLA_SEED={SEED}): {red}"
            assert isinstance(red, StoreError), here
            assert "s3://" in str(red), here
            work.left()
    assert reds >= 2
    work.do(far(patient=False))


@pytest.mark.long
def test_what_lasts_is_red_at_some_calls_and_the_next_run_is_clean(work, line, far):
    print(f"ANCLA_SEED={SEED}")
    fail_from([0, *random.Random(SEED).sample(range(1, work.CALLS), 2)], work, line, far)


@pytest.mark.all
def test_what_lasts_is_red_at_every_call_and_the_next_run_is_clean(work, line, far):
    work.do(far(patient=False))
    assert len(line.requests) >= work.CALLS
    fail_from(range(len(line.requests)), work, line, far)


# --- a bucket as the target -------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(s3, folder, key):
    """A backup of a bucket of twelve objects, one of them in parts; returns how to put it back under a prefix."""
    for number in range(12):
        s3.put_bytes(f"{number}", os.urandom(9 << 20 if number == 0 else 1000))
    manifest = source_kit.backup(Bucket(store=s3), folder)

    def put_back(store):
        job = files.RestoreJob(store=folder, manifest=manifest, target=Bucket(store=store))
        return files.run(job, silent).rows

    return put_back


def elsewhere(bucket, number):
    return bucket.model_copy(update={"prefix": f"back/{number}"})


def test_a_bucket_is_filled_through_what_passes(pictures, line, far, bucket):
    line.fault = each_once([kind for kind in KINDS if kind != "hang"], SEED)
    assert pictures(far(patient=True, of=elsewhere(bucket, 0))) == 12
    assert len(line.fault.failed) > 24


def fill_with_faults(points, pictures, line, far, bucket, key):  # noqa: PLR0917 - fixtures add up
    chance, marked = random.Random(SEED), 0
    for at in points:
        kind, place = chance.choice(LASTING), elsewhere(bucket, at + 1)
        store = far(patient=False, of=place)
        red = red_of(line, at, kind, lambda store=store: pictures(store))
        found = {item.key for item in S3Store(place, key).list("")}
        if red is not None and found:
            marked += 1
            here = f"{kind} from call {at} on (ANCLA_SEED={SEED}): {red}"
            assert MARK in found, here
            assert MARK in str(red) if isinstance(red, RestoreError) else isinstance(red, StoreError), here
            with pytest.raises(RestoreRefusedError, match="is not empty"):
                pictures(S3Store(place, key))
    assert marked
    assert pictures(far(patient=False, of=elsewhere(bucket, 0))) == 12
    assert MARK not in {item.key for item in S3Store(elsewhere(bucket, 0), key).list("")}


@pytest.mark.long
def test_a_bucket_that_fails_for_good_is_red_and_stays_marked(pictures, line, far, bucket, key):
    points = [0, *random.Random(SEED).sample(range(2, 30), 2)]
    fill_with_faults(points, pictures, line, far, bucket, key)


@pytest.mark.all
def test_a_bucket_that_fails_for_good_at_every_call_is_red_and_stays_marked(pictures, line, far, bucket, key):
    pictures(far(patient=False, of=elsewhere(bucket, "count")))
    fill_with_faults(range(len(line.requests)), pictures, line, far, bucket, key)
