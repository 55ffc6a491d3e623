"""Retention put to work: what it reads of a store, what it deletes, and what is left when it is killed."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from pydantic import SecretStr

from blueprint.outputs import BucketKey, BucketOutput
from ops.backup.drill_history import Proofs
from ops.backup.override import ACCEPTANCE_NAME, Acceptance, write_acceptance
from ops.backup.prune import LOST, Outcome, act, make_plan
from ops.core.errors import StoreError, StoreUnreachableError
from ops.core.signing import Signer
from ops.repository import catalog
from ops.repository.manifest import MANIFEST_NAME
from ops.repository.stores.folder import FolderStore
from ops.repository.stores.s3 import S3Store
from ops.stack.init import make_key
from tests.ops.prune_kit import NOW, FakeLockedStore, FaultyStore, Killed, job, keys, left, prune, put


@pytest.fixture(params=["folder", "s3"])
def store(request):
    return request.getfixturevalue(request.param)


def test_old_ones_go_whole_and_what_stays_is_untouched(store):
    ids = [put(store, days) for days in (5, 4, 3, 2, 1)]
    other = put(store, 9, name="mail")
    broken = put(store, 7, complete=False)
    young = put(store, 0.5, complete=False)
    kept = [key for key in keys(store) if any(part in key for part in (*ids[3:], other, young))]
    assert prune(store) == dict.fromkeys([*ids[:3], broken], (Outcome.DELETED, ""))
    assert keys(store) == kept
    assert prune(store) == {}


def test_a_plan_changes_nothing(folder):
    for days in (3, 2, 1):
        put(folder, days)
    before = keys(folder)
    plan = make_plan(job(folder), NOW)
    assert len(plan.doomed) == 1
    assert keys(folder) == before


def test_what_was_drilled_stays(folder):
    ids = [put(folder, days) for days in (4, 3, 2, 1)]
    assert set(prune(folder, proofs=Proofs(verified={ids[0]: NOW - timedelta(days=3)}))) == {ids[1]}


def test_what_a_drill_could_not_restore_is_in_doubt(folder):
    ids = [put(folder, days) for days in (4, 3, 2, 1)]
    assert prune(folder, proofs=Proofs(refuted={ids[3]: "red: content"})) == {}
    assert len(prune(folder)) == 2


def test_a_manifest_that_cannot_be_believed_and_an_object_that_is_lost_stop_it(store):
    ids = [put(store, days) for days in (4, 3, 2, 1)]
    manifest = catalog.prefix_of("shop", ids[3]) + MANIFEST_NAME
    with store.open(manifest) as body:
        whole = body.read()
    for damage in (b"{", whole.replace(b'"staging"', b'"prod"'), whole.replace(b'_version": 1', b'_version": 99')):
        store.put_bytes(manifest, damage)
        assert prune(store) == {}
    store.put_bytes(manifest, whole)
    lost = catalog.prefix_of("shop", ids[3]) + "0.dat.zst.age"
    store.put_bytes(lost, b"shorter")
    assert prune(store) == {}
    store.put_bytes(lost, b"x" * 100)
    assert set(prune(store)) == set(ids[:2])  # the control


def test_another_environments_backups_in_the_same_place_are_not_ours_to_thin_out(folder):
    for days in (4, 3, 2, 1):
        put(folder, days, environment="prod")
    plan = make_plan(job(folder), NOW)
    assert plan.in_doubt[0].warnings == ("of test/prod, not of test/staging",)
    assert plan.doomed == []


@pytest.fixture
def signers():
    return SimpleNamespace(ours=Signer(make_key()), theirs=Signer(make_key()))


def test_backups_that_are_not_signed_by_the_environment_push_nothing_out(folder, signers):
    ids = [put(folder, days, signer=signers.ours) for days in (9, 8, 7)]
    for days in (4, 3, 2):
        put(folder, days, signer=signers.theirs)
    put(folder, 1)
    assert prune(folder, signer=signers.ours.public) == {}
    assert set(prune(folder)) >= set(ids)  # the control: without a key to hold them against


# --- a person's word --------------------------------------------------------------------------------------------------


def accept(store, backup_id, signer=None, **more):
    facts = {"name": "shop", "backup": backup_id, "accepted_at": NOW, "accepted_by": "kim", "warnings": ()} | more
    acceptance = Acceptance(**facts)
    write_acceptance(store, acceptance.sealed(signer) if signer else acceptance)


def test_an_acceptance_is_kept_in_the_store_and_counts_for_every_later_run(store):
    ids = [put(store, days) for days in (4, 3, 2)]
    small = put(store, 1, objects=1)
    assert prune(store) == {}
    assert set(prune(store, accepted={small})) == set(ids[:2])
    after = [put(store, days, objects=1) for days in (0.9, 0.8, 0.7)]
    assert prune(store) == {}
    accept(store, small)
    assert set(prune(store)) == {ids[2], after[0]}
    assert left(store) == [small, *after[1:]]


def test_where_there_are_signers_only_their_word_counts(folder, signers):
    for days in (4, 3, 2):
        put(folder, days)
    small = put(folder, 1, objects=1)
    named = (signers.ours.public,)
    for wrong in (
        lambda: accept(folder, small),
        lambda: accept(folder, small, signers.theirs),
        lambda: accept(folder, small, signers.ours, backup="another"),
        lambda: folder.put_bytes(catalog.prefix_of("shop", small) + ACCEPTANCE_NAME, b"{}"),
    ):
        wrong()
        assert prune(folder, signers=named) == {}
    accept(folder, small, signers.ours)
    assert len(prune(folder, signers=named)) == 2  # the control


# --- locks ------------------------------------------------------------------------------------------------------------


def test_what_the_store_does_not_let_go_is_told_and_gone_the_next_time(folder):
    ids = [put(folder, days) for days in (4, 3, 2, 1)]
    before = keys(folder)
    locked = FakeLockedStore(folder, [f"{ids[0]}/"])
    done = prune(locked)
    assert done[ids[0]] == (Outcome.NOT_YET, f"shop/{ids[0]}/RESTORE.md: ObjectLocked")
    assert done[ids[1]] == (Outcome.DELETED, "")
    assert keys(folder) == [key for key in before if ids[1] not in key]  # whole, manifest and all
    locked.locked = []
    assert prune(locked) == {ids[0]: (Outcome.DELETED, "")}


def test_what_a_locked_one_depends_on_stays_too(folder):
    first = put(folder, 5)
    second = put(folder, 4, needs=[first])
    third = put(folder, 3, needs=[second])
    for days in (2, 1):
        put(folder, days)
    before = keys(folder)
    done = prune(FakeLockedStore(folder, [third]))
    assert [(name, outcome) for name, (outcome, _) in done.items()] == [
        (third, Outcome.NOT_YET),
        (second, Outcome.NOT_YET),
        (first, Outcome.NOT_YET),
    ]
    assert done[first][1] == f"{second} depends on it, and is still there"
    assert keys(folder) == before
    assert list(prune(folder)) == [third, second, first]


@pytest.fixture
def write_once(s3_endpoint, key):
    """A bucket of a real S3 server whose objects are locked for a day."""
    bucket = BucketOutput(name=f"locked-{secrets.token_hex(4)}", region="us-east-1", endpoint=s3_endpoint)
    store = S3Store(bucket, key)
    lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}}
    store.client.create_bucket(Bucket=bucket.name, ObjectLockEnabledForBucket=True)
    store.client.put_object_lock_configuration(Bucket=bucket.name, ObjectLockConfiguration=lock)
    store.put_bytes("probe", b"")
    with contextlib.suppress(ClientError):
        store.client.delete_object(Bucket=bucket.name, Key="probe")
    if not list(store.list("probe")):
        pytest.skip("this S3 server keeps versions: a locked object seems to go")
    return store


def test_a_write_once_bucket_keeps_its_backups_whole_and_says_why(write_once, s3):
    ids = [put(write_once, days) for days in (4, 3, 2, 1)]
    why = "not deleted: Access Denied because object protected by object lock."
    assert prune(write_once) == {
        name: (Outcome.NOT_YET, f"{write_once.name}/shop/{name}/RESTORE.md: {why}") for name in ids[:2]
    }
    complete_ones_are_whole(write_once)
    assert left(write_once) == ids


def test_a_lock_that_the_store_tells_of_is_a_reason_to_keep(write_once, s3):
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    ids = [put(write_once, days) for days in (4, 3, 2, 1)]
    address, manifest = write_once.address(catalog.prefix_of("shop", ids[0]) + MANIFEST_NAME)
    retention = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
    write_once.client.put_object_retention(Bucket=address, Key=manifest, Retention=retention)
    steps = {candidate.id: decision for candidate, decision in make_plan(job(write_once), datetime.now(UTC)).steps}
    assert steps[ids[0]].reasons == (f"locked until {until:%Y-%m-%d %H:%M} UTC",)
    assert not steps[ids[1]].keep  # locked by the bucket's default, of which this server says nothing beforehand
    assert s3.locked_until(f"shop/{put(s3, 1)}/{MANIFEST_NAME}") is None


def test_a_wrong_key_is_no_lock(bucket, s3):
    put(s3, 3)
    stranger = S3Store(bucket, BucketKey(access_key="AKIATEST", secret_key=SecretStr("wrong")))
    with pytest.raises(StoreUnreachableError, match="key pair is refused"):
        stranger.delete([keys(s3)[0]])


# --- killed and broken off --------------------------------------------------------------------------------------------


def history(store):
    """Three to delete, of which two are a chain, remains of a broken one, and three that stay."""
    full = put(store, 9)
    put(store, 8, needs=[full])
    put(store, 7)
    put(store, 6, complete=False)
    base = put(store, 3)
    put(store, 2)
    put(store, 1, needs=[base])


def complete_ones_are_whole(store):
    for entry in catalog.entries(store):
        if entry.complete:
            manifest = catalog.read_manifest(store, entry.name, entry.id)
            assert catalog.missing_objects(store, manifest) == []
            assert set(manifest.depends_on) <= {e.id for e in catalog.entries(store) if e.complete}


ERRORS = {"killed": Killed(), "a store that fails": StoreError("503 SlowDown")}


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """The history once, on disk: to be copied for each try."""
    place = FolderStore(tmp_path_factory.mktemp("history") / "store")
    history(place)
    return place.root


@pytest.fixture(scope="module")
def straight(before, tmp_path_factory):
    """How many calls a run without trouble makes, and what it leaves."""
    place = FolderStore(shutil.copytree(before, tmp_path_factory.mktemp("straight") / "store"))
    counting = FaultyStore(place, -1, None)
    assert len(prune(counting)) == 4
    assert counting.calls > 40
    assert prune(place) == {}
    return counting.calls, keys(place)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
def test_killed_at_any_call_it_leaves_no_torn_backup_and_the_next_run_ends_as_if_nothing_had_been(
    tmp_path, before, straight, error
):
    calls, left_over = straight
    for call in range(calls):
        place = FolderStore(shutil.copytree(before, tmp_path / str(call)))
        with pytest.raises(type(error)):
            prune(FaultyStore(place, call, error))
        complete_ones_are_whole(place)
        prune(place)
        assert keys(place) == left_over, f"after a failure of call {call}"


def test_the_check_of_torn_backups_sees_one(folder):
    backup = put(folder, 1)
    complete_ones_are_whole(folder)
    folder.delete([catalog.prefix_of("shop", backup) + "1.dat.zst.age"])
    with pytest.raises(AssertionError):
        complete_ones_are_whole(folder)


@pytest.mark.parametrize("which", [0, 3])
def test_a_backup_that_lost_its_manifest_is_held_until_a_person_lets_it_go(folder, which):
    """It is told from the remains of a run that was broken off."""
    ids = [put(folder, days) for days in (5, 4, 3, 2)]
    remains = put(folder, 6, complete=False)
    lost = ids[which]
    folder.delete([catalog.prefix_of("shop", lost) + MANIFEST_NAME])
    assert [(doubt.id, doubt.warnings) for doubt in make_plan(job(folder), NOW).in_doubt] == [(lost, (LOST,))]
    assert prune(folder).keys() == ({ids[1]} if which == 0 else set()), "what came before it is held"
    write_acceptance(folder, Acceptance(name="shop", backup=lost, accepted_at=NOW, accepted_by="me", warnings=()))
    assert prune(folder) == {}, "an earlier word was of a whole backup"
    assert prune(folder, accepted={lost}).keys() == {lost, remains} | ({ids[0]} if which else set())
    assert make_plan(job(folder), NOW).in_doubt == []


@pytest.mark.parametrize("call", range(5))
def test_what_a_killed_prune_has_left_of_a_backup_is_in_no_doubt(folder, call):
    ids = [put(folder, days) for days in (4, 3, 2)]
    plan = make_plan(job(folder), NOW)
    with pytest.raises(Killed):
        list(act(replace(plan, store=FaultyStore(folder, 1 + call, Killed())), lambda _: None))
    assert make_plan(job(folder), NOW).in_doubt == []
    assert prune(folder) == {ids[0]: (Outcome.DELETED, "")}


def test_one_that_is_completed_between_plan_and_act_stays(folder):
    for days in (2, 1):
        put(folder, days)
    slow = put(folder, 4, complete=False)
    plan = make_plan(job(folder), NOW)
    assert [candidate.id for candidate in plan.doomed] == [slow]
    put(folder, 4)
    (done,) = act(plan, lambda _: None)
    assert (done.outcome, done.reason) == (Outcome.NOT_YET, "was completed in the meantime")
    assert slow in left(folder)


def test_two_runs_at_once_do_no_harm_to_each_other(store):
    ids = [put(store, days) for days in (4, 3, 2, 1)]
    first, second = make_plan(job(store), NOW), make_plan(job(store), NOW)
    for plan in (first, second):
        assert [done.outcome for done in act(plan, lambda _: None)] == [Outcome.DELETED] * 2
    assert left(store) == ids[2:]
    complete_ones_are_whole(store)
