"""`ops backup verify`: what is damaged is seen, what was read is not read again, a ledger is believed with care."""

from __future__ import annotations

import hashlib
import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from ops.backup.drill_history import DrillHistory
from ops.backup.override import Override, write_override
from ops.backup.verification_log import KEPT, REWRITTEN, VANISHED, note_deleted, read_log
from ops.backup.verify import VerifyJob, verify
from ops.cli import backup_verify
from ops.core.errors import DeleteRefusedError, StoreUnreachableError, VerdictError
from ops.core.signing import Signer
from ops.repository.catalog import Expected, entries, find, put_manifest
from ops.repository.manifest import Manifest, ObjectRecord
from ops.repository.records import SecretsRecord
from ops.repository.stores.folder import FolderStore
from ops.repository.stores.s3 import S3Store
from ops.stack.init import make_key
from tests.kits.messages import silent
from tests.ops.test_watch import make_stack

NOW = datetime(2025, 11, 23, 3, 0, tzinfo=UTC)
OURS = Signer(make_key())
IDS = ("20261121T030000Z-aaaaaa", "20261122T030000Z-bbbbbb")


def back_up(store, backup_id, *, name="app", signer=OURS, objects=2, depends_on=()):
    """Put a backup of small objects; return their keys."""
    records = []
    for number in range(objects):
        content = random.Random(f"{backup_id}{number}").randbytes(3000 + number)
        key = f"{number}.dat.zst.age"
        store.put_bytes(f"{name}/{backup_id}/{key}", content)
        digest = hashlib.sha256(content).hexdigest()
        records.append(
            ObjectRecord(
                key=key,
                size=len(content),
                sha256=digest,
                file=f"{number}.dat",
                file_size=1,
                file_sha256="0" * 64,
                holds=f"table public.t{number}",
            )
        )
    manifest = Manifest(
        id=backup_id,
        name=name,
        environment="staging",
        project="shop",
        source=SecretsRecord(files=(), fingerprint="0" * 64),
        started_at=NOW,
        snapshot_at=NOW,
        finished_at=NOW,
        objects=tuple(records),
        depends_on=depends_on,
    ).sealed(signer)
    put_manifest(store, manifest)
    return [f"{name}/{backup_id}/{record.key}" for record in records]


class CountingStore(FolderStore):
    """A folder that keeps which objects were opened."""

    def __init__(self, root):
        super().__init__(root)
        self.opened = []

    def open(self, key):
        self.opened.append(key)
        return super().open(key)

    def data(self):
        """Return the data objects opened since the last call."""
        opened, self.opened = self.opened, []
        return sorted(key for key in opened if key.endswith(".age"))


@pytest.fixture
def store(tmp_path):
    return CountingStore(tmp_path / "store")


@pytest.fixture
def keys(store):
    found = [key for backup_id in IDS for key in back_up(store, backup_id)]
    store.data()
    return found


def run(store, *, now=NOW, **options):
    options = {"expected": Expected(signer=OURS.public), "signers": [OURS.public], "seal": OURS} | options
    return verify(VerifyJob(store=store, **options), now, silent)


def flip(store, key, at=1500):
    """Change one bit, as a disk does: the store knows of no change."""
    path = store.root / key
    content, status = bytearray(path.read_bytes()), path.stat()
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def logs(store):
    return list((store.root / "ledger").glob("*.json"))


def test_what_was_read_is_not_read_again_until_it_is_old(store, keys):
    verdict = run(store)
    assert (verdict.problems, verdict.read, verdict.objects, verdict.backups) == ([], 4, 4, 2)
    assert store.data() == sorted(keys)
    verdict = run(store, now=NOW + timedelta(days=1))
    assert (verdict.read, verdict.remembered, verdict.oldest) == (0, 4, NOW)
    assert store.data() == []
    more = back_up(store, "20261123T030000Z-cccccc")
    run(store, now=NOW + timedelta(days=2))
    assert store.data() == more
    run(store, now=NOW + timedelta(days=30, hours=1))
    assert store.data() == sorted(keys)
    run(store, now=NOW + timedelta(days=30, hours=2), everything=True)
    assert store.data() == sorted([*keys, *more])


def test_an_object_that_is_stored_again_is_read_the_same_night(store, keys):
    """Of its own size, a day after it was verified: its digest is asked 30 days later, the store's own date at once."""
    run(store)
    store.data()
    (store.root / keys[0]).write_bytes(b"x" * 3000)
    (problem,) = run(store, now=NOW + timedelta(days=1)).problems
    assert keys[0] in problem
    assert store.data() == [keys[0]]


def test_what_vanished_behind_our_back_is_named_until_a_person_gives_it_up(store, keys):
    more = [f"2026112{day}T050000Z-cccccc" for day in range(3)]
    for each in more:
        back_up(store, each)
    assert run(store).problems == []
    for each in more:
        store.delete([item.key for item in store.list(f"app/{each}/")])
    for _ in range(2):
        assert run(store).problems == [f"{store.name}/app/{each}/: {VANISHED}" for each in more]
        assert run(store, name="app").problems
    note_deleted(store, [f"app/{each}/" for each in more[:2]], NOW, signer=OURS, signers=[OURS.public])
    assert run(store).problems == [f"{store.name}/app/{more[2]}/: {VANISHED}"]
    note_deleted(store, [f"app/{more[2]}/"], NOW, signer=OURS, signers=[OURS.public])
    assert run(store).problems == []


def test_what_was_rewritten_under_its_own_id_is_named_though_it_equals_its_manifest(store, keys):
    run(store)
    before = find(store, "app", IDS[0]).digest
    back_up(store, IDS[0], objects=1)
    expected = [f"{store.name}/app/{IDS[0]}/: {REWRITTEN}"]
    for _ in range(2):
        assert run(store, everything=True).problems == expected
    store.delete([item.key for item in store.list("ledger/")])
    assert run(store).problems == [], "the log lies where the attacker is"
    history = {"app": DrillHistory(seen={IDS[0]: {before}, "20261101T030000Z-dddddd": {"d" * 64}})}
    assert run(store, history=history).problems == [
        f"{store.name}/app/20261101T030000Z-dddddd/: {VANISHED}",
        *expected,
    ]
    override = Override(
        name="app", backup=IDS[0], manifest=find(store, "app", IDS[0]).digest, accepted_at=NOW, accepted_by="kim",
        warnings=(),
    )  # fmt: skip
    write_override(store, override, Signer(make_key()))
    assert expected[0] in run(store, history=history).problems
    write_override(store, override, OURS)
    assert expected[0] not in run(store, history=history).problems


def test_a_backup_for_another_recipient_is_named(store, keys):
    assert run(store, expected=Expected(signer=OURS.public)).problems == []
    wanted = Expected(signer=OURS.public, recipients=["age1ours"])
    told = run(store, expected=wanted).problems
    assert [text.rpartition(": ")[2] for text in told] == [
        "not encrypted, though backup.recipients names who may read it"
    ] * 2


def test_what_a_change_of_keys_makes_of_older_backups_is_accepted_once(store, keys):
    former = Signer(make_key())
    for each in IDS:
        back_up(store, each, signer=former)
    assert len(run(store).problems) == 2
    accepted = Override(
        name="app", backup=IDS[1], manifest=find(store, "app", IDS[1]).digest, accepted_at=NOW, accepted_by="kim",
        warnings=(),
    )  # fmt: skip
    write_override(store, accepted, OURS)
    assert run(store).problems == []
    back_up(store, "20261120T030000Z-cccccc", signer=former)
    assert len(run(store).problems) == 1, "dated before, and arrived after it"


def test_a_sample_is_drawn_from_all_of_it(store, keys):
    run(store)
    store.data()
    assert run(store, sample=3).read == 3
    assert len(store.data()) == 3
    assert run(store, sample=99).read == 4


def test_a_manifest_that_was_lost_is_named_at_once_and_stays_named(store, keys):
    """Its page, which is written before it, tells it from a backup that is being made, or was broken off."""
    manifest = f"app/{IDS[0]}/manifest.json"
    store.put_bytes(f"app/{IDS[0]}/RESTORE.md", b"how to")
    run(store)
    store.delete([manifest])
    for _ in range(2):
        assert run(store, everything=True).problems == [f"{store.name}/{manifest}: missing, but RESTORE.md exists"]
    store.delete([item.key for item in store.list("ledger/")])
    assert run(store).problems == [], "nobody has seen it complete: it may be in progress"
    later = max(entry.stored_at for entry in entries(store)) + timedelta(hours=25)
    assert len(run(store, now=later).problems) == 1
    store.delete([f"app/{IDS[0]}/RESTORE.md"])
    assert run(store, now=later).problems == [], "remains of a backup, or of a prune"


@pytest.mark.parametrize("at", [0, 1500, 2999])
def test_one_flipped_bit_is_named_and_stays_named(store, keys, at):
    flip(store, keys[2], at)
    for day in range(2):
        verdict = run(store, now=NOW + timedelta(days=day))
        (problem,) = verdict.problems
        assert keys[2] in problem
        assert "table public.t0" in problem
        assert "sha256" in problem
        assert verdict.oldest is None
    assert verdict.read == 1, "the others are known to be whole"
    flip(store, keys[2], at)
    assert run(store).problems == []


def test_damage_after_it_was_verified_is_seen_by_the_next_full_reading(store, keys):
    run(store)
    flip(store, keys[0])
    assert run(store).problems == []
    assert len(run(store, everything=True).problems) == 1
    assert len(run(store).problems) == 1, "and it has left the ledger"


def test_what_is_missing_short_or_of_another_hand_is_named(store, keys):
    (store.root / keys[0]).unlink()
    (store.root / keys[1]).write_bytes(b"short")
    back_up(store, "20261123T030000Z-cccccc", signer=Signer(make_key()), objects=1)
    back_up(store, "20261123T040000Z-dddddd", signer=None, objects=0, depends_on=("20261101T030000Z-eeeeee", IDS[0]))
    manifest = store.root / "app" / IDS[1] / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"staging"', b'"stagimg"'))
    told = "\n".join(run(store).problems)
    assert f"{keys[0]} (table public.t0): missing" in told
    assert f"{keys[1]} (table public.t1): 5 bytes, but 3001 were written" in told
    assert "cccccc/: not signed with the environment's key" in told
    assert "dddddd/: not signed with the environment's key" in told
    assert "needs 20261101T030000Z-eeeeee, which is gone" in told
    assert IDS[1] in told
    assert len(told.splitlines()) == 6


def test_one_name_does_not_forget_the_others(store, keys):
    other = back_up(store, IDS[0], name="web")
    run(store)
    store.data()
    run(store, name="web", everything=True)
    assert store.data() == other
    assert run(store).read == 0


def test_a_ledger_of_another_hand_or_of_the_future_is_not_believed(store, keys):
    another = Signer(make_key())
    run(store, seal=another, signers=[another.public])
    assert len(logs(store)) == 1
    assert run(store, seal=None).read == 4
    assert run(store).read == 4
    assert run(store).read == 0
    assert run(store, now=NOW - timedelta(days=1)).read == 4
    newest = max(logs(store))
    newest.write_bytes(newest.read_bytes().replace(b'"app/', b'"apq/', 1))
    assert read_log(store, []) != read_log(store, [OURS.public]), "changed: an older one is trusted"


def test_a_ledger_that_nobody_would_believe_is_not_written(store, keys):
    """It would push out those that are believed."""
    run(store)
    for seal in (Signer(make_key()), None) * KEPT:
        assert run(store, seal=seal, everything=True).problems == []
    assert run(store).read == 0
    assert len(logs(store)) == 1
    run(store, seal=None, signers=[], everything=True)
    assert len(logs(store)) == 2, "where no key is named all are believed"


def test_what_was_never_read_is_not_verified_before(store, keys):
    verdict = run(store, sample=1)
    assert (verdict.objects, verdict.read, verdict.remembered) == (4, 1, 0)
    run(store)
    assert run(store, sample=1).remembered == 3


def test_a_ledger_is_never_written_again_and_old_ones_go(store, keys):
    seen = {}
    for day in range(KEPT + 3):
        run(store, now=NOW + timedelta(days=day), everything=True)
        for path in logs(store):
            assert seen.setdefault(path.name, path.read_bytes()) == path.read_bytes()
    assert len(seen) == KEPT + 3
    assert len(logs(store)) == KEPT
    assert len(list((store.root / "ledger").iterdir())) == 2 * KEPT, "each with its signature"


def test_a_store_that_lets_nothing_go_keeps_every_ledger(store, keys, monkeypatch):
    def refuse(found):
        if list(found):
            raise DeleteRefusedError("locked")

    monkeypatch.setattr(store, "delete", refuse)
    for day in range(KEPT + 2):
        assert run(store, now=NOW + timedelta(days=day), everything=True).problems == []
    assert len(logs(store)) == KEPT + 2


def test_a_key_that_only_reads_is_enough(store, keys, monkeypatch):
    def refuse(key, content):
        raise StoreUnreachableError("the key pair is refused")

    flip(store, keys[0])
    monkeypatch.setattr(store, "put_bytes", refuse)
    assert len(run(store).problems) == 1
    assert run(store).read == 4


def test_what_was_read_before_the_store_went_away_is_in_the_ledger(store, keys, monkeypatch):
    opened = store.open

    def open_until(key):
        if key == keys[-1]:
            raise StoreUnreachableError("no answer")
        return opened(key)

    monkeypatch.setattr(store, "open", open_until)
    monkeypatch.setattr("ops.backup.verify.READERS", 1)
    with pytest.raises(StoreUnreachableError):
        run(store)
    monkeypatch.undo()
    assert 0 < run(store).read < 4


def test_the_ledger_is_no_backup_and_the_catalogue_comes_from_the_bucket_alone(s3, bucket, key):
    """What a new desk with nothing but the bucket's key sees is all there is."""
    for backup_id in IDS:
        back_up(s3, backup_id)
    known = entries(s3)
    assert run(s3).read == 4
    stranger = S3Store(bucket, key)
    assert entries(stranger) == known
    assert [(entry.name, entry.id, entry.complete) for entry in known] == [("app", each, True) for each in IDS]
    assert find(stranger, "app").id == IDS[-1]
    assert run(stranger).read == 0
    s3.delete([f"app/{IDS[1]}/manifest.json"])
    assert [entry.complete for entry in entries(stranger)] == [True, False]


@pytest.fixture
def command(store, keys, monkeypatch, tmp_path):
    """The command on this store; returns it, and its environment's signer is the one of the backups."""
    stack = make_stack(sources=("app",), on_machine=False, backup_signing_key=SecretStr(""))
    stack = stack.__class__(
        name="staging",
        outputs=stack.outputs.model_copy(
            update={"backup": stack.outputs.backup.model_copy(update={"signer": OURS.public})}
        ),
        secrets=stack.secrets.model_copy(update={"backup_signing_key": None}),
    )
    monkeypatch.setenv("ANCLA_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("ANCLA_AUDIT", str(tmp_path / "audit.jsonl"))
    monkeypatch.setattr(backup_verify, "load_stack", lambda *_: stack)
    monkeypatch.setattr(backup_verify.destinations, "stores", lambda _: {"b": store})
    return backup_verify.verify_command


def test_the_command_names_the_damage_exits_3_and_raises_an_alert_until_it_is_gone(store, keys, command, capsys):
    command(as_json=True)
    assert json.loads(capsys.readouterr().out)["stores"][store.name]["problems"] == []
    flip(store, keys[1])
    with pytest.raises(VerdictError, match=r"1\.dat\.zst\.age .*verify-damaged") as raised:
        command(everything=True)
    assert raised.value.exit_code == 3
    state = next(Path(store.root.parent, "state").rglob("watch.json"))
    assert f"verify/{store.name}" in json.loads(state.read_text())["alerts"]
    flip(store, keys[1])
    command(sample=1)
    assert json.loads(state.read_text())["alerts"], "a sample proves nothing of the rest"
    command()
    assert json.loads(state.read_text())["alerts"] == {}
    assert 'ancla_verify_damaged_objects{environment="staging"' in next(state.parent.rglob("*.prom")).read_text()


def test_fresh_exits_3_when_late_and_names_the_runbook(store, command, capsys):
    backup_verify.fresh_command(max_age=10**6)
    assert "newest complete backup of app" in capsys.readouterr().out
    with pytest.raises(VerdictError, match="backup-missing") as raised:
        backup_verify.fresh_command(max_age=0.001, as_json=True)
    assert raised.value.exit_code == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["fresh"], document["sets"][0]["backup"]) == (False, IDS[1])
