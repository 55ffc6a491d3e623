"""`ops backup prune`: what it prints, asks, keeps and how it ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from blueprint.outputs import OutputSecrets
from ops.cli import backup_prune
from ops.core.errors import BackupNotFoundError, KeyProblemError, StoreError, VerdictError
from ops.core.signing import Namespace, Signer, canonical, seal
from ops.drill.checks import QUESTIONS
from ops.drill.evidence.document import Check, Status
from ops.drill.evidence.store import write_signed
from ops.drill.history import EQUAL, read_history
from ops.monitoring.state import home_of
from ops.repository import catalog
from ops.repository.stores.folder import FolderStore
from ops.stack.init import make_key
from tests.kits.stores import FaultyStore
from tests.ops.drill_kit import document
from tests.ops.prune_kit import LEAST, NOW, DatedStore, left, put


@pytest.fixture
def command(folder, monkeypatch, tmp_path):
    """Run `ops backup prune` on a stack whose only destination is the folder; today is the test's."""
    backup = SimpleNamespace(retention=LEAST, signer=None, signers=[], recipients=[], destinations={})
    loaded = SimpleNamespace(
        name="staging",
        outputs=SimpleNamespace(environment="staging", project="test", backup=backup),
        secrets=OutputSecrets(),
        on_machine=False,
    )
    stores = {"bucket": DatedStore(folder)}  # the folder's files came today, which is not the test's
    monkeypatch.setattr(backup_prune, "load_stack", lambda *_: loaded)
    monkeypatch.setattr(backup_prune.destinations, "stores", lambda _: stores)
    monkeypatch.setattr(backup_prune.destinations, "store", lambda _, name: stores[name])
    monkeypatch.setattr(backup_prune, "datetime", SimpleNamespace(now=lambda _: NOW))
    monkeypatch.setenv("ANCLA_AUDIT", str(tmp_path / "audit.jsonl"))
    monkeypatch.setenv("ANCLA_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(backup_prune.prune_command)

    def run(*arguments, **more):
        return CliRunner().invoke(app, list(arguments), **more)

    def alerts():
        state = json.loads((home_of(loaded) / "watch.json").read_text())
        return {key: alert["runbook"] for key, alert in state["alerts"].items()}

    run.settings, run.stores, run.alerts = backup, stores, alerts
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
    assert "1 would be deleted" in done.stdout
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


def test_a_backup_with_a_problem_is_red_until_it_is_accepted_once(command, folder):
    ids = [put(folder, days) for days in (4, 3, 2)]
    small = put(folder, 1, objects=1)
    held = command("--yes")
    assert isinstance(held.exception, VerdictError)
    assert "1 rows, 3 is the median" in str(held.exception)
    assert left(folder) == [*ids, small]
    assert isinstance(command("--yes", "--accept", "20260101T000000Z-000000").exception, BackupNotFoundError)
    assert command("--dry-run", "--accept", small).exit_code == 0
    assert isinstance(command("--yes").exception, VerdictError)  # a dry run writes no override
    assert command.alerts() == {"prune": "backup-in-doubt"}
    assert command("--yes", "--accept", small).exit_code == 0
    assert command.alerts() == {}
    assert left(folder) == [ids[2], small]
    assert command("--yes").exit_code == 0


def test_where_words_are_signed_an_unsigned_or_strange_one_is_refused_at_once(command, folder, tmp_path):
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
    done = command("--yes", "--accept", small, "--signing-key", str(ours))
    assert done.exit_code == 0, done.exception
    assert command("--yes").exit_code == 0
    assert len(left(folder)) == 2


def test_a_name_that_nothing_is_backed_up_under_is_told(command, folder):
    put(folder, 1)
    assert isinstance(command("--yes", "--name", "shup").exception, BackupNotFoundError)
    assert command("--yes", "--name", "shop").exit_code == 0


def test_a_store_that_fails_does_not_keep_the_others_from_being_pruned(command, folder, tmp_path):
    ids = [put(folder, days) for days in (3, 2, 1)]
    command.stores["broken"] = FaultyStore(FolderStore(tmp_path / "other"), 0, StoreError("no answer"))
    last = FolderStore(tmp_path / "last")
    command.stores["last"] = DatedStore(last)
    for days in (3, 2, 1):
        put(last, days)
    done = command("--yes")
    assert isinstance(done.exception, StoreError)
    assert "no answer" in str(done.exception)
    assert left(folder) == left(last) == ids[1:]
    assert command.alerts() == {"prune": "store-unreachable"}
    assert command("--yes", "--store", "last").exit_code == 0
    assert command.alerts() == {"prune": "store-unreachable"}, "of one store alone: nothing is known of the other"


def test_what_went_before_the_store_failed_is_told_and_written_down(command, folder, tmp_path):
    ids = [put(folder, days) for days in (4, 3, 2, 1)]
    dated = DatedStore(folder)
    counting = command.stores["bucket"] = FaultyStore(dated)
    assert command("--dry-run").exit_code == 0
    last = counting.calls + 4 + 2 + 2 * 5 - 1  # the record; each of two backups: a listing, and five objects
    command.stores["bucket"] = FaultyStore(dated, last, StoreError("no answer"))
    done = command("--yes", "--json")
    assert isinstance(done.exception, StoreError)
    assert "run it again" in str(done.exception)
    (shop,) = json.loads(done.stdout)["sets"]
    assert [b["outcome"] for b in shop["backups"]] == [None, "deleted", None, None]
    assert json.loads((tmp_path / "audit.jsonl").read_text().splitlines()[-1])["deleted"] == [ids[1]]
    assert left(folder) == [ids[0], *ids[2:]], "what is left of it is told as incomplete"
    command.stores["bucket"] = dated
    assert command("--yes").exit_code == 0
    assert left(folder) == ids[2:]


def evidence(backup, day, store, *red, damage=None, digest="d" * 64, name="shop", **more):
    """What a drill writes down, as far as it is read again."""
    names = ("age", "digests", "content", "time")
    found = dict.fromkeys(names, "passed") | dict.fromkeys(red, "failed") | more
    checks = [Check(name=each, question="?", status=Status(status), answer="") for each, status in found.items()]
    at = datetime(2026, 11, day, tzinfo=UTC)
    made = document(
        series="drill-staging", sequence=1, backup=backup, manifest_digest=digest, store=store, damage=damage,
        name=name, verdict="red" if red else "green", started_at=at, finished_at=at, checks=checks,
    )  # fmt: skip
    return made.model_dump(mode="json")


def leave(folder, number, document, signer=None):
    """Put a document into a folder of evidence."""
    folder.mkdir(exist_ok=True)
    path = folder / f"drill-staging-{number:06d}-20261120T000000Z-shop.json"
    write_signed(path, seal(canonical(document), signer, Namespace.EVIDENCE))
    return path


def digest_of(store, backup):
    return catalog.read_manifest(store, "shop", backup).digest


def test_what_drills_proved_is_read_from_their_evidence(tmp_path):
    documents = [
        evidence("equal", 20, "s3://here"),
        evidence("slow and old", 19, "s3://here", "age", "time"),
        evidence("elsewhere", 18, "s3://there"),
        evidence("not reached", 18, "s3://here", content="skipped"),
        evidence("control", 20, "s3://here", damage="stale"),
        evidence("control", 20, "s3://here", "digests", damage="flip"),
        evidence("rotten", 10, "s3://here"),
        evidence("rotten", 20, "s3://here", "content", "digests"),
        evidence("mended", 10, "s3://here", "digests"),
        evidence("mended", 20, "s3://here"),
        evidence("rotten elsewhere", 20, "s3://there", "digests"),
        evidence("rewritten", 10, "s3://here"),
        evidence("rewritten", 20, "s3://here", digest="e" * 64),
        seen := evidence("equal", 20, "s3://here", name="other"),
        *({}, [], {"backup": 3, "damage": None}, evidence("when", 1, "s3://here") | {"finished_at": "never"}),
    ]
    seen["detail"]["present"] = {"seen": "f" * 64}
    for number, made in enumerate(documents):
        leave(tmp_path, number, made)
    (tmp_path / "drill-staging-000099-20261120T000000Z-torn.json").write_text("{")
    found = read_history(tmp_path, "s3://here")
    history = found["shop"]
    assert {backup for backup, digest in history.verified if digest == "d" * 64} == {
        "equal", "slow and old", "elsewhere", "mended", "rewritten",
    }  # fmt: skip
    assert ("rewritten", "e" * 64) in history.verified
    assert history.seen["rewritten"] == {"d" * 64, "e" * 64}
    assert "elsewhere" not in history.seen
    assert history.failed.keys() == {("rotten", "d" * 64)}
    assert history.failed["rotten", "d" * 64].endswith("was red: content, digests")
    assert found["other"].seen == {"equal": {"d" * 64}, "seen": {"f" * 64}}
    assert read_history(tmp_path / "nowhere", "s3://here") == {}


def test_the_evidence_of_drills_keeps_what_they_proved_and_only_that(command, folder, tmp_path):
    ids = [put(folder, days) for days in (6, 5, 4, 3, 2, 1)]
    drills = tmp_path / "drills"
    leave(drills, 1, evidence(ids[1], 20, folder.name, digest=digest_of(folder, ids[1])))
    done = command("--yes", "--evidence", str(drills))
    assert done.exit_code == 0, done.output
    assert left(folder) == [ids[1], *ids[4:]]
    put(folder, 0.5)
    leave(drills, 2, evidence(ids[4], 20, folder.name, digest="0" * 64))
    leave(drills, 3, evidence("20261001T030000Z-0a1b2c", 20, folder.name))
    done = command("--yes", "--json", "--evidence", str(drills))
    assert isinstance(done.exception, VerdictError)
    assert f"{ids[4]} of shop (rewritten since" in str(done.exception)
    assert "20261001T030000Z-0a1b2c of shop (vanished" in str(done.exception)
    assert json.loads(done.stdout)["sets"][0]["vanished"].keys() == {"20261001T030000Z-0a1b2c"}
    accept = ("--accept", ids[4], "--accept", "20261001T030000Z-0a1b2c")
    done = command("--yes", "--evidence", str(drills), *accept)
    assert done.exit_code == 0, done.exception
    done = command("--yes", "--evidence", str(drills))
    assert done.exit_code == 0, done.exception


def test_where_there_are_signers_only_their_evidence_counts(command, folder, tmp_path):
    key, theirs = make_key(), Signer(make_key())
    ours = Signer(key)
    (tmp_path / "ours").write_text(key.get_secret_value())
    ids = [put(folder, days) for days in (8, 7, 6, 5, 4, 3, 2, 1)]
    drills = tmp_path / "drills"

    def prove(number, backup, signer):
        return leave(drills, number, evidence(backup, 20, folder.name, digest=digest_of(folder, backup)), signer)

    prove(1, ids[0], ours)
    prove(2, ids[1], None)
    prove(3, ids[2], theirs)
    changed = prove(4, ids[3], ours)
    changed.write_bytes(changed.read_bytes().replace(b'"staging"', b'"stagimg"', 1))
    prove(5, ids[4], ours).with_suffix(".json.sig").unlink()
    verified = read_history(drills, folder.name)["shop"].verified
    assert {backup for backup, _ in verified} == set(ids[:5])  # the control: without signers all count
    command.settings.signers = [ours.public]
    done = command("--yes", "--evidence", str(drills), "--signing-key", str(tmp_path / "ours"))
    assert done.exit_code == 0, done.output
    assert left(folder) == [ids[0], *ids[6:]]


def test_a_folder_of_evidence_that_was_named_must_be_there(command, folder, tmp_path):
    """The name of the default too: what was typed is meant."""
    ids = [put(folder, days) for days in (3, 2, 1)]
    for name in ("drills", "elsewhere"):
        done = command("--yes", "--evidence", name)
        assert "no such folder" in str(done.exception)
        assert left(folder) == ids
    (tmp_path / "drills").mkdir()
    assert command("--yes", "--evidence", "drills").exit_code == 0
    assert left(folder) == ids[1:]


def test_what_retention_reads_is_what_a_drill_asks():
    assert {"age", "time", "clean", EQUAL} <= QUESTIONS.keys()
