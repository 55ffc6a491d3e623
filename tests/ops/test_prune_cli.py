"""`ops backup prune`: what it prints, asks, keeps and how it ends."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from ops.backup import prune_cli
from ops.backup.keys import Signer
from ops.errors import BackupNotFoundError, KeyProblemError, StoreError, VerdictError
from ops.stack_init import make_key
from ops.stores.folder import FolderStore
from tests.ops.prune_kit import LEAST, NOW, FaultyStore, left, put


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
