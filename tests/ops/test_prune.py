"""Retention put to work: what it reads of a store, what it deletes, and what is left when it is killed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import typer
from botocore.exceptions import ClientError
from pydantic import SecretStr
from typer.testing import CliRunner

from blueprint.backup import RetentionSettings
from blueprint.outputs import BucketKey, BucketOutput
from ops.backup import catalog, prune_cli
from ops.backup.acceptance import ACCEPTANCE_NAME, Acceptance, write_acceptance
from ops.backup.keys import Signer
from ops.backup.manifest import MANIFEST_NAME, Manifest, ObjectRecord
from ops.backup.prune import Outcome, PruneJob, act, make_plan
from ops.backup.records import SecretFile, SecretsRecord
from ops.errors import (
    BackupNotFoundError,
    DeleteRefusedError,
    KeyProblemError,
    StoreError,
    StoreUnreachableError,
    VerdictError,
)
from ops.stack_init import make_key
from ops.stores.folder import FolderStore
from ops.stores.s3 import S3Store

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LEAST = RetentionSettings(keep_last=2, daily=0, weekly=0, monthly=0, minimum_count=1, minimum_age_hours=0)


class FaultyStore:
    """Passes everything on to a store, but raises at the call with the given number (counted from 0)."""

    def __init__(self, store, fails_at, error):
        self._store, self._fails_at, self._error = store, fails_at, error
        self.calls = 0

    def __getattr__(self, method):
        attribute = getattr(self._store, method)
        if not callable(attribute):
            return attribute

        def call(*positional, **named):
            self.calls += 1
            if self.calls - 1 == self._fails_at:
                raise self._error
            return attribute(*positional, **named)

        return call


class FakeLockedStore:
    """A store with a lock: it does not let go of keys in which one of these texts is."""

    def __init__(self, store, locked):
        self._store, self.locked = store, locked

    def __getattr__(self, name):
        return getattr(self._store, name)

    def delete(self, keys):
        for key in keys:
            if any(text in key for text in self.locked):
                raise DeleteRefusedError(f"{key}: ObjectLocked")
            self._store.delete([key])


class Killed(BaseException):
    """Ends the process at once, as kill -9 does: nobody catches it."""


def put(store, days, *, name="shop", complete=True, objects=3, signer=None, needs=(), environment="staging"):
    """Put a backup of so many days ago into the store; returns its id."""
    at = NOW - timedelta(days=days)
    backup_id = f"{at:%Y%m%dT%H%M%SZ}-{int(days * 24):06x}"
    prefix = catalog.prefix_of(name, backup_id)
    contents = {f"{number}.tar.zst.age": b"x" * (100 + number) for number in range(objects)}
    for key, content in contents.items():
        store.put_bytes(prefix + key, content)
    store.put_bytes(prefix + "RESTORE.md", b"how to")
    manifest = Manifest(
        id=backup_id,
        name=name,
        environment=environment,
        project="test",
        source=SecretsRecord(
            files=tuple(SecretFile(path=f"/{n}", mode=0o600, uid=0, gid=0, size=1) for n in range(objects)),
            fingerprint="0",
        ),
        started_at=at,
        snapshot_at=at,
        finished_at=at,
        objects=tuple(
            ObjectRecord(
                key=key,
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                file=key.split(".")[0],
                file_size=1,
                file_sha256="0" * 64,
                holds="files",
            )
            for key, content in contents.items()
        ),
        depends_on=tuple(needs),
    ).sealed(signer)
    if complete:
        store.put_bytes(prefix + MANIFEST_NAME, manifest.to_bytes())
    return backup_id


def job(store, **more):
    more = {"name": "shop", "policy": LEAST, "environment": "staging", "project": "test", "verified": {}} | more
    return PruneJob(store=store, **more)


def prune(store, **more):
    plan = make_plan(job(store, **more), NOW)
    return {d.id: (d.outcome, d.reason) for d in act(plan, lambda _: None)}


def keys(store):
    return [item.key for item in store.list("")]


def left(store, name="shop"):
    return [entry.id for entry in catalog.entries(store, name)]


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
    assert set(prune(folder, verified={ids[0]: NOW - timedelta(days=3)})) == {ids[1]}


def test_a_manifest_that_cannot_be_believed_and_an_object_that_is_lost_stop_it(store):
    ids = [put(store, days) for days in (4, 3, 2, 1)]
    manifest = catalog.prefix_of("shop", ids[3]) + MANIFEST_NAME
    with store.open(manifest) as body:
        whole = body.read()
    for damage in (b"{", whole.replace(b'"staging"', b'"prod"'), whole.replace(b'_version": 1', b'_version": 99')):
        store.put_bytes(manifest, damage)
        assert prune(store) == {}
    store.put_bytes(manifest, whole)
    lost = catalog.prefix_of("shop", ids[3]) + "0.tar.zst.age"
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
    locked = FakeLockedStore(folder, [f"{ids[0]}/manifest"])
    done = prune(locked)
    assert done[ids[0]] == (Outcome.NOT_YET, f"shop/{ids[0]}/manifest.json: ObjectLocked")
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
        name: (Outcome.NOT_YET, f"{write_once.name}/shop/{name}/manifest.json: {why}") for name in ids[:2]
    }
    complete_ones_are_whole(write_once)
    assert left(write_once) == ids


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
    folder.delete([catalog.prefix_of("shop", backup) + "1.tar.zst.age"])
    with pytest.raises(AssertionError):
        complete_ones_are_whole(folder)


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


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(folder, monkeypatch, tmp_path):
    """Run `ops backup prune` on a stack whose only destination is the folder; today is the test's."""
    backup = SimpleNamespace(retention=LEAST, signer=None, signers=[])
    loaded = SimpleNamespace(outputs=SimpleNamespace(environment="staging", project="test", backup=backup))
    stores = {"bucket": folder}
    monkeypatch.setattr(prune_cli, "load_stack", lambda *_: loaded)
    monkeypatch.setattr(prune_cli.reach, "stores", lambda _: stores)
    monkeypatch.setattr(prune_cli.reach, "store", lambda _, name: stores[name])
    monkeypatch.setattr(prune_cli, "datetime", SimpleNamespace(now=lambda _: NOW))
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(prune_cli.prune_command)

    def run(*arguments, **more):
        return CliRunner().invoke(app, list(arguments), **more)

    run.settings, run.stores = backup, stores
    return run


def test_a_dry_run_gives_the_reason_for_each_and_deletes_nothing(command, folder):
    ids = [put(folder, days) for days in (3, 2, 1)]
    done = command("--dry-run")
    assert done.exit_code == 0, done.output
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines() if "│" in line]
    assert [(name, word, why) for _, name, _, word, why, _ in rows] == [
        (ids[0], "delete", "no rule keeps it"),
        (ids[1], "keep", "last 2"),
        (ids[2], "keep", "last 2"),
        ("", "", "newest good"),
    ]
    assert "1 would go" in done.stdout
    assert left(folder) == ids


def test_it_asks_and_a_no_deletes_nothing(command, folder):
    ids = [put(folder, days) for days in (3, 2, 1)]
    for answer in ("n\n", ""):
        assert command(input=answer).exit_code == 1
        assert left(folder) == ids
    assert command(input="y\n").exit_code == 0
    assert left(folder) == ids[1:]


def test_as_json_it_asks_nothing_and_so_needs_a_word(command, folder):
    ids = [put(folder, days) for days in (3, 2, 1)]
    assert command("--json").exit_code == 2
    done = command("--json", "--yes")
    assert done.exit_code == 0, done.output
    (shop,) = json.loads(done.stdout)["sets"]
    assert [(b["id"], b["decision"], b["outcome"]) for b in shop["backups"]] == [
        (ids[0], "delete", "deleted"),
        (ids[1], "keep", None),
        (ids[2], "keep", None),
    ]
    assert left(folder) == ids[1:]


def test_a_backup_in_doubt_is_red_until_it_is_accepted_once(command, folder):
    ids = [put(folder, days) for days in (4, 3, 2)]
    small = put(folder, 1, objects=1)
    held = command("--yes")
    assert isinstance(held.exception, VerdictError)
    assert "1 rows, 3 in" in str(held.exception)
    assert left(folder) == [*ids, small]
    assert isinstance(command("--yes", "--accept", "20260101T000000Z-000000").exception, BackupNotFoundError)
    assert command("--dry-run", "--accept", small).exit_code == 0
    assert isinstance(command("--yes").exception, VerdictError)  # a dry run keeps no word
    assert command("--yes", "--accept", small).exit_code == 0
    assert left(folder) == [ids[2], small]
    assert command("--yes").exit_code == 0


def test_where_words_are_signed_an_unsigned_or_strange_one_is_refused_at_once(command, folder, signers, tmp_path):
    for days in (4, 3, 2):
        put(folder, days)
    small = put(folder, 1, objects=1)
    ours, strange = tmp_path / "ours", tmp_path / "strange"
    key = make_key()
    ours.write_text(key.get_secret_value())
    strange.write_text(make_key().get_secret_value())
    command.settings.signers = [Signer(key).public]
    for wrong in ([], ["--signing-key", str(strange)], ["--signing-key", str(tmp_path / "nowhere")]):
        assert isinstance(command("--yes", "--accept", small, *wrong).exception, KeyProblemError)
    assert command("--yes", "--accept", small, "--signing-key", str(ours)).exit_code == 0
    assert command("--yes").exit_code == 0
    assert len(left(folder)) == 2


def test_a_store_that_fails_does_not_keep_the_others_from_being_pruned(command, folder, tmp_path):
    ids = [put(folder, days) for days in (3, 2, 1)]
    command.stores["broken"] = FaultyStore(FolderStore(tmp_path / "other"), 0, StoreError("no answer"))
    command.stores["last"] = last = FolderStore(tmp_path / "last")
    for days in (3, 2, 1):
        put(last, days)
    done = command("--yes")
    assert isinstance(done.exception, StoreError)
    assert "no answer" in str(done.exception)
    assert left(folder) == left(last) == ids[1:]


def test_the_evidence_of_green_drills_keeps_what_they_proved(command, folder, tmp_path):
    ids = [put(folder, days) for days in (5, 4, 3, 2, 1)]
    drills = tmp_path / "drills"
    drills.mkdir()
    document = {"verdict": "green", "damage": None, "backup": ids[1], "finished_at": "2026-11-20T00:00:00Z"}
    (drills / "b.json").write_text(json.dumps(document))
    (drills / "a.json").write_text(json.dumps(document | {"backup": ids[0], "verdict": "red"}))
    (drills / "c.json").write_text(json.dumps(document | {"backup": ids[0], "damage": "flipped-byte"}))
    for number, torn in enumerate(("{", "[]", "{}", '{"verdict": "green", "backup": 3, "finished_at": "now"}')):
        (drills / f"torn-{number}.json").write_text(torn)
    done = command("--yes", "--evidence", str(drills))
    assert done.exit_code == 0, done.output
    assert left(folder) == [ids[1], *ids[3:]]
