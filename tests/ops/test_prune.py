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
from blueprint.settings.backup import RetentionSettings
from ops.backup.drill_history import DrillHistory
from ops.backup.override import OVERRIDE_NAME, Override, write_override
from ops.backup.prune import LOST, Outcome, act, make_plan
from ops.backup.verification_log import REWRITTEN, VANISHED
from ops.backup.verify import VerifyJob, verify
from ops.core.errors import KeyProblemError, StoreError, StoreUnreachableError
from ops.core.signing import Signer
from ops.repository import catalog
from ops.repository.catalog import Expected
from ops.repository.manifest import MANIFEST_NAME, time_of
from ops.repository.stores.folder import FolderStore
from ops.repository.stores.s3 import S3Store
from ops.stack.init import make_key
from tests.kits.stores import FaultyStore
from tests.ops.prune_kit import NOW, DatedStore, FakeLockedStore, Killed, job, keys, left, prune, put


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


def digest_of(store, backup):
    return catalog.read_manifest(store, "shop", backup).digest


def test_what_was_drilled_stays(folder):
    ids = [put(folder, days) for days in (4, 3, 2, 1)]
    history = DrillHistory(verified={(ids[0], digest_of(folder, ids[0])): NOW - timedelta(days=3)})
    assert set(prune(folder, history=history)) == {ids[1]}
    strange = DrillHistory(verified={(ids[2], "0" * 64): NOW - timedelta(days=3)})
    assert set(prune(folder, history=strange)) == {ids[0]}, "of other content: it proves nothing"


def test_what_a_drill_could_not_restore_is_in_doubt(folder):
    ids = [put(folder, days) for days in (4, 3, 2, 1)]
    assert prune(folder, history=DrillHistory(failed={(ids[3], digest_of(folder, ids[3])): "red: content"})) == {}
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
    assert set(plan.problems.values()) == {"of test/prod, not of test/staging"}
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
    assert set(prune(folder)) >= set(ids)  # the control: without a key to compare them with


# --- a person's word --------------------------------------------------------------------------------------------------


def accept(store, backup_id, signer=None, **more):
    facts = {
        "name": "shop",
        "backup": backup_id,
        "manifest": digest_of(store, backup_id),
        "accepted_at": NOW,
        "accepted_by": "kim",
        "warnings": (),
    } | more
    write_override(store, Override(**facts), signer)


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
    rewrite(store, after[1])
    assert prune(store) == {}
    accept(store, after[1])
    rewrite(store, after[1], rows=4)
    assert prune(store) == {}, "what a person has looked at was another one"


def test_where_there_are_signers_only_their_word_counts(folder, signers):
    for days in (4, 3, 2):
        put(folder, days)
    small = put(folder, 1, objects=1)
    named = (signers.ours.public,)
    for wrong in (
        lambda: accept(folder, small),
        lambda: accept(folder, small, signers.theirs),
        lambda: accept(folder, small, signers.ours, backup="another"),
        lambda: accept(folder, small, signers.ours, manifest="0" * 64),
        lambda: folder.put_bytes(catalog.prefix_of("shop", small) + OVERRIDE_NAME, b"{}"),
    ):
        wrong()
        assert prune(folder, signers=named, seal=signers.ours) == {}
    accept(folder, small, signers.ours)
    assert len(prune(folder, signers=named, seal=signers.ours)) == 2  # the control


# --- behind our back: each was tried by a person who holds the droplet's keys -----------------------------------------


def rewrite(store, backup, *, rows=1, signer=None):
    """Put another manifest under the same id, as the droplet's key allows it, signed or not."""
    found = catalog.read_manifest(store, "shop", backup)
    tables = tuple(table.model_copy(update={"rows": rows}) for table in found.source.tables)
    source = found.source.model_copy(update={"tables": tables})
    catalog.put_manifest(store, found.model_copy(update={"source": source}).sealed(signer))


def held(store, **more):
    """What the plan says is wrong, while it deletes nothing."""
    plan = make_plan(job(store, **more), NOW)
    assert plan.doomed == []
    return plan.problems


def test_a_backup_that_was_rewritten_since_its_drill_holds_retention_and_is_named(folder, signers):
    """Signed by the environment's own key, and equal to its own manifest: only the drill's evidence knows another."""
    ids = [put(folder, days, signer=signers.ours) for days in (5, 4, 3, 2, 1)]
    history = DrillHistory(
        verified={(ids[0], digest_of(folder, ids[0])): NOW - timedelta(days=1)},
        seen={ids[0]: {digest_of(folder, ids[0])}},
    )
    assert len(prune(folder, history=history, signer=signers.ours.public)) == 2  # the control
    for days in (4, 3):
        put(folder, days, signer=signers.ours)
    rewrite(folder, ids[0], rows=4, signer=signers.ours)
    again = DrillHistory(verified=history.verified, seen={ids[0]: {*history.seen[ids[0]], digest_of(folder, ids[0])}})
    for known in (history, again):  # a drill of the rewritten one is green: it equals its own manifest
        assert held(folder, history=known, signer=signers.ours.public) == {ids[0]: REWRITTEN}
    assert prune(folder, history=again, accepted={ids[0]}).keys() == {ids[1], ids[2]}


@pytest.mark.long
def test_backups_that_are_dated_into_the_past_do_not_make_us_delete_the_honest_ones(folder, signers):
    """Half a year of honest ones; beside each that the policy keeps, one dated an hour later, and seven new ones."""
    policy = RetentionSettings(keep_last=7, daily=7, weekly=4, monthly=6, minimum_count=3, minimum_age_hours=0)
    dated = DatedStore(folder)
    more = {"policy": policy, "signer": signers.ours.public}
    for days in range(180, 0, -1):
        put(folder, days, signer=signers.ours, objects=1)
    prune(dated, **more)
    honest = left(folder)
    assert len(honest) > 12
    forged = [put(folder, days - 1 / 24, signer=signers.ours, objects=1) for days in ages(honest)]
    dated.came = dict.fromkeys(forged, NOW - timedelta(minutes=5))
    found = held(dated, **more)
    assert found.keys() == {name for name, days in zip(forged, ages(forged), strict=True) if days * 24 > 13}
    assert all("arrived 2026-11-23 11:55" in what for what in found.values())
    assert set(honest) <= set(left(folder))


def ages(ids):
    """Days."""
    return [(NOW - time_of(name)) / timedelta(days=1) for name in ids]


def test_a_backup_that_vanished_holds_retention_and_what_we_pruned_does_not(folder, signers):
    more = {"signers": (signers.ours.public,), "seal": signers.ours}
    ids = [put(folder, days, signer=signers.ours) for days in (5, 4, 3, 2, 1)]
    verify(VerifyJob(store=DatedStore(folder), **more), NOW, lambda _: None)
    assert len(prune(folder, **more)) == 3
    assert make_plan(job(folder, **more), NOW).problems == {}, "what we have deleted is not missed"
    folder.delete([item.key for item in folder.list(f"shop/{ids[3]}/")])
    put(folder, 0.5, signer=signers.ours)
    put(folder, 0.4, signer=signers.ours)
    assert held(folder, **more) == {ids[3]: VANISHED}
    assert make_plan(job(folder, **more, accepted={ids[3]}), NOW).given_up == [ids[3]]
    assert prune(folder, **more, accepted={ids[3]}).keys() == {ids[4]}
    assert make_plan(job(folder, **more), NOW).problems == {}


def test_a_backup_that_only_a_drill_has_seen_is_missed_too(folder):
    """The log lies in the bucket of whoever deleted the backup; the evidence does not."""
    ids = [put(folder, days) for days in (3, 2, 1)]
    assert held(folder, history=DrillHistory(seen={"20261001T030000Z-0a1b2c": {"d" * 64}})) == {
        "20261001T030000Z-0a1b2c": VANISHED
    }
    assert prune(folder).keys() == {ids[0]}


def test_without_a_key_to_record_it_nothing_is_deleted(folder, signers):
    ids = [put(folder, days) for days in (3, 2, 1)]
    for seal in (None, signers.theirs):
        with pytest.raises(KeyProblemError, match="give --signing-key"):
            prune(folder, signers=(signers.ours.public,), seal=seal)
        assert left(folder) == ids
    assert prune(folder, signers=(signers.ours.public,), seal=signers.ours).keys() == {ids[0]}


def test_backups_for_another_recipient_or_for_nobody_hold_retention(folder):
    for days in (4, 3, 2, 1):
        put(folder, days)
    ours, wanted = ("age1ours",), Expected(recipients=["age1ours", "age1escrow"])
    assert held(folder, expected=wanted)
    for entry in catalog.entries(folder):
        for_us(folder, entry.id, ours)
    assert prune(folder, expected=wanted)
    newest = left(folder)[-1]
    for_us(folder, newest, ("age1theirs",))
    assert list(held(folder, expected=wanted)) == [newest]
    assert "none of which is in backup.recipients" in held(folder, expected=wanted)[newest]


def for_us(store, backup, recipients):
    found = catalog.read_manifest(store, "shop", backup)
    catalog.put_manifest(store, found.model_copy(update={"recipients": recipients}).sealed())


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
    assert done[first][1] == f"{second} depends on it and still exists"
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
    counting = FaultyStore(place)
    assert len(prune(counting)) == 4
    assert counting.calls > 40
    assert prune(place) == {}
    return counting.calls, keys(place)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
def test_killed_at_any_call_it_leaves_no_torn_backup_and_the_next_run_ends_as_if_nothing_had_been(
    tmp_path, before, straight, error
):
    calls, left_over = straight
    ended_well = 0
    for call in range(calls):
        place = FolderStore(shutil.copytree(before, tmp_path / str(call)))
        try:
            prune(FaultyStore(place, call, error))
        except type(error):
            pass
        else:  # old logs are removed where the store lets them go
            ended_well += 1
        complete_ones_are_whole(place)
        prune(place)
        assert keys(place) == left_over, f"after a failure of call {call}"
    assert ended_well <= (0 if isinstance(error, Killed) else 2)


def test_the_check_of_torn_backups_sees_one(folder):
    backup = put(folder, 1)
    complete_ones_are_whole(folder)
    folder.delete([catalog.prefix_of("shop", backup) + "1.dat.zst.age"])
    with pytest.raises(AssertionError):
        complete_ones_are_whole(folder)


FACTS = {"name": "shop", "manifest": "0" * 64, "accepted_at": NOW, "accepted_by": "me", "warnings": ()}


@pytest.mark.parametrize("which", [0, 3])
def test_a_backup_that_lost_its_manifest_is_held_until_a_person_lets_it_go(folder, which):
    """It is told from the remains of a run that was broken off."""
    ids = [put(folder, days) for days in (5, 4, 3, 2)]
    remains = put(folder, 6, complete=False)
    lost = ids[which]
    folder.delete([catalog.prefix_of("shop", lost) + MANIFEST_NAME])
    assert make_plan(job(folder), NOW).problems == {lost: LOST}
    assert prune(folder) == {}
    write_override(folder, Override(**{**FACTS, "backup": lost}), None)
    assert prune(folder) == {}, "an earlier override was of a complete backup"
    assert prune(folder, accepted={lost}).keys() == {lost, remains, ids[1] if which == 0 else ids[0]}
    assert make_plan(job(folder), NOW).problems == {}


LOGGED = 4
"""Calls that record what goes before anything does: two listings, the new log, the removal of old ones."""


@pytest.mark.parametrize("call", range(5))
def test_what_a_killed_prune_has_left_of_a_backup_is_in_no_doubt(folder, call):
    ids = [put(folder, days) for days in (4, 3, 2)]
    plan = make_plan(job(folder), NOW)
    faulty = FaultyStore(folder, LOGGED + 1 + call, Killed())
    with pytest.raises(Killed):
        list(act(replace(plan, job=replace(plan.job, store=faulty)), NOW, lambda _: None))
    assert make_plan(job(folder), NOW).problems == {}
    assert prune(folder) == {ids[0]: (Outcome.DELETED, "")}


def test_one_that_is_completed_between_plan_and_act_stays(folder):
    for days in (2, 1):
        put(folder, days)
    slow = put(folder, 4, complete=False)
    plan = make_plan(job(folder), NOW)
    assert [candidate.id for candidate in plan.doomed] == [slow]
    put(folder, 4)
    (done,) = act(plan, NOW, lambda _: None)
    assert (done.outcome, done.reason) == (Outcome.NOT_YET, "was completed in the meantime")
    assert slow in left(folder)


def test_two_runs_at_once_do_no_harm_to_each_other(store):
    ids = [put(store, days) for days in (4, 3, 2, 1)]
    first, second = make_plan(job(store), NOW), make_plan(job(store), NOW)
    for plan in (first, second):
        assert [done.outcome for done in act(plan, NOW, lambda _: None)] == [Outcome.DELETED] * 2
    assert left(store) == ids[2:]
    complete_ones_are_whole(store)
