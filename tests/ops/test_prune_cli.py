"""`ops backup prune`: what it prints, asks, keeps and how it ends."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from blueprint.outputs import OutputSecrets
from ops.backup.drill_history import Proofs
from ops.cli import backup_prune
from ops.core.errors import BackupNotFoundError, KeyProblemError, StoreError, VerdictError
from ops.core.signing import Signature, Signer
from ops.drill.checks import QUESTIONS
from ops.drill.evidence.document import Check, Evidence, Status, signed_content
from ops.drill.history import EQUAL, read_proofs
from ops.monitoring.state import home_of
from ops.repository.stores.folder import FolderStore
from ops.stack.init import make_key
from tests.ops.prune_kit import LEAST, NOW, DatedStore, FaultyStore, left, put


@pytest.fixture
def command(folder, monkeypatch, tmp_path):
    """Run `ops backup prune` on a stack whose only destination is the folder; today is the test's."""
    backup = SimpleNamespace(retention=LEAST, signer=None, signers=[])
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
    assert command("--yes", "--accept", small, "--signing-key", str(ours)).exit_code == 0
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
    counting = command.stores["bucket"] = FaultyStore(dated, -1, None)
    assert command("--dry-run").exit_code == 0
    last = counting.calls + 2 + 2 * 5 - 1  # each of two backups: a listing, and five objects
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


def evidence(backup, day, store, *red, damage=None, **more):
    """What a drill writes down, as far as retention reads it."""
    names = ("age", "digests", "content", "time")
    found = dict.fromkeys(names, "passed") | dict.fromkeys(red, "failed") | more
    checks = [{"name": name, "status": status} for name, status in found.items()]
    at = f"2026-11-{day:02}T00:00:00Z"
    return {"backup": backup, "finished_at": at, "store": store, "damage": damage, "checks": checks}


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
        *({}, [], {"backup": 3, "damage": None}, evidence("when", 0, "s3://here")),
    ]
    for number, document in enumerate(documents):
        (tmp_path / f"{number}.json").write_text(json.dumps(document))
    (tmp_path / "torn.json").write_text("{")
    proofs = read_proofs(tmp_path, "s3://here")
    assert set(proofs.verified) == {"equal", "slow and old", "elsewhere", "mended"}
    assert set(proofs.refuted) == {"rotten"}
    assert proofs.refuted["rotten"].endswith("was red: content, digests")
    assert read_proofs(tmp_path / "nowhere", "s3://here") == Proofs()


def test_the_evidence_of_drills_keeps_what_they_proved(command, folder, tmp_path):
    ids = [put(folder, days) for days in (5, 4, 3, 2, 1)]
    drills = tmp_path / "drills"
    drills.mkdir()
    (drills / "b.json").write_text(json.dumps(evidence(ids[1], 20, folder.name)))
    done = command("--yes", "--evidence", str(drills))
    assert done.exit_code == 0, done.output
    assert left(folder) == [ids[1], *ids[3:]]


def test_where_there_are_signers_only_their_evidence_counts(command, folder, tmp_path):
    ours, theirs = Signer(make_key()), Signer(make_key())
    ids = [put(folder, days) for days in (8, 7, 6, 5, 4, 3, 2, 1)]
    drills = tmp_path / "drills"
    drills.mkdir()

    def prove(name, backup, signer, **changed):
        document = evidence(backup, 20, folder.name)
        if signer:
            signed = Signature(key=signer.public, signature=signer.sign(signed_content(document)))
            document |= {"signed": signed.model_dump()} | changed
        (drills / name).write_text(json.dumps(document))

    prove("a.json", ids[0], ours)
    prove("b.json", ids[1], None)
    prove("c.json", ids[2], theirs)
    prove("d.json", ids[3], ours, store="another")
    prove("e.json", ids[4], ours, signed=None)
    assert set(read_proofs(drills, folder.name).verified) == set(ids[:5])  # the control: without signers all count
    command.settings.signers = [ours.public]
    done = command("--yes", "--evidence", str(drills))
    assert done.exit_code == 0, done.output
    assert left(folder) == [ids[0], *ids[6:]]


def test_a_folder_of_evidence_that_was_named_must_be_there(command, folder, tmp_path):
    """The name of the default too: what was typed is meant."""
    ids = [put(folder, days) for days in (3, 2, 1)]
    for name in ("drills", "elsewhere"):
        done = command("--yes", "--evidence", name)
        assert "no folder of evidence" in str(done.exception)
        assert left(folder) == ids
    (tmp_path / "drills").mkdir()
    assert command("--yes", "--evidence", "drills").exit_code == 0
    assert left(folder) == ids[1:]


def test_what_a_real_drill_writes_down_is_what_retention_reads(tmp_path):
    """The other tests write evidence by hand; this one holds that against the drill's own model."""
    fields = Evidence.model_fields.keys()
    assert set(evidence("b", 1, "s")) <= fields
    assert set(Check.model_fields) >= {"name", "status"}
    assert {"age", "time", "clean", EQUAL} <= QUESTIONS.keys()
    assert (Status.PASSED, Status.FAILED) == ("passed", "failed")
