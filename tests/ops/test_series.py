"""The evidence of `ops backrest drill` and `ops pitr drill`: the same chain as that of our own backups."""

from __future__ import annotations

import contextlib
import html
import json
import re
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from ops.cli import backrest
from ops.cli.app import app as ops_app
from ops.cli.app import main
from ops.core.errors import OpsError
from ops.core.signing import Signer
from ops.drill import runner
from ops.drill.evidence.chain import append, heads
from ops.drill.evidence.document import Phase
from ops.drill.evidence.store import documents
from ops.drill.evidence.verification import verify
from ops.drill.kinds.pgbackrest import QUESTIONS
from ops.pgbackrest.target import Target
from ops.stack.init import make_key
from tests.ops.drill_kit import backrest_document, document, fork_document
from tests.ops.test_watch import make_stack

KEY = make_key()
RUNNER = Signer(KEY)
KEYS = [RUNNER.public]
START = datetime(2026, 11, 1, 3, tzinfo=UTC)


def evidence(day=0, stanza="main"):
    began = START + timedelta(days=day)
    checks = [QUESTIONS.passed("rows", "ñ 7 rows")]
    return backrest_document(name=stanza, started_at=began, finished_at=began, checks=checks, databases=[])


def keep(made, folder, signer):
    (link,), _ = append(folder, [made], signer=signer)
    return link.path


def files(folder, series):
    return [link.path for link in documents(folder, series)]


@pytest.fixture
def drills(tmp_path):
    folder = tmp_path / "drills"
    folder.mkdir()
    for day in range(3):
        keep(evidence(day), folder, RUNNER)
    return folder


def problems(folder, keys=KEYS):
    return [(problem.file, problem.what) for problem in verify(folder, keys).problems]


def test_a_sound_series_verifies(drills):
    found = verify(drills, KEYS)
    assert (found.documents, found.problems) == (3, [])
    first, second, _ = files(drills, "backrest-drill-main")
    assert first.name == "backrest-drill-main-000001-20261101T030000Z.json"
    assert json.loads(first.read_bytes())["previous"] is None
    assert json.loads(second.read_bytes())["previous"]
    assert verify(second, KEYS).problems == []


def test_the_page_is_the_documents_own(drills):
    first = files(drills, "backrest-drill-main")[0]
    page = first.with_suffix(".html")
    assert json.loads(first.read_bytes())["page"]["file"] == page.name
    page.write_text(page.read_text().replace("green", "Green"))
    assert problems(drills) == [(page.name, f"changed: not what {first.name} says it is")]
    page.unlink()
    assert problems(drills) == [], "it may be kept elsewhere"


def test_the_page_says_what_was_proved_what_is_wrong_and_how_long_it_took(tmp_path):
    wrong = evidence().model_copy(
        update={
            "verdict": "red",
            "rto_seconds": 90.0,
            "rto_budget_seconds": 60,
            "checks": [QUESTIONS.failed("amcheck", "3 complaints", ["index <b>orders_pkey</b>"])],
            "phases": [Phase(name="restore", begin=0, seconds=60), Phase(name="recover", begin=60, seconds=30)],
        }
    )
    page = keep(wrong, tmp_path, RUNNER).with_suffix(".html").read_text()
    text = html.unescape(" ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split()))
    assert "red Drill of pgBackRest's backup: main" in text
    for said in (wrong.proves, "Does pg_amcheck find heap", "3 complaints", "90 s", "budget 60 s", "1 234", "recover"):
        assert said in text, said
    assert "index &lt;b&gt;orders_pkey&lt;/b&gt;" in page
    assert RUNNER.public.split()[1][:8] in page or "SHA256:" in page
    assert 'class="over"' in page
    assert "http" not in page, "nothing is from elsewhere"


def test_space_another_key_no_key_and_another_name_are_red(drills):
    first, _, third = files(drills, "backrest-drill-main")
    assert {what[:39] for _, what in problems(drills, [Signer(make_key()).public])} == {
        "signed by a key that is not trusted: ss"
    }
    third.write_bytes(third.read_bytes() + b"\n")
    assert (third.name, "changed after it was signed") in problems(drills)
    for file in drills.iterdir():
        file.unlink()
    keep(evidence(), drills, None)
    assert problems(drills) == [(first.name, "not signed"), ("chain-backrest-drill-main-000001.json", "not signed")]


def test_a_document_by_another_ones_name_is_red(tmp_path):
    file, other = keep(evidence(), tmp_path, RUNNER), "backrest-drill-other-000001-20261101T030000Z.json"
    for suffix in ("", ".sig"):
        file.with_name(file.name + suffix).rename(tmp_path / f"{other}{suffix}")
    assert (other, "renamed: it is document 1 of backrest-drill-main") in problems(tmp_path)


def test_each_stanza_has_its_own_series(drills):
    keep(evidence(9, "main-2"), drills, RUNNER)
    keep(evidence(10), drills, RUNNER)
    assert sorted(heads(drills)) == ["backrest-drill-main", "backrest-drill-main-2"]
    assert len(files(drills, "backrest-drill-main")) == 4
    assert problems(drills) == []


def test_drills_that_overlap_and_a_clock_that_was_set_back_break_nothing(drills):
    """The one that began first may end last; two may begin within one second."""
    written = [keep(evidence(day), drills, RUNNER) for day in (9, 8, 8, 7, 10)]
    assert files(drills, "backrest-drill-main")[3:] == written
    assert len(set(written)) == 5
    assert problems(drills) == []
    written[2].unlink()
    assert problems(drills) == [(written[3].name, "the chain is broken before it: document 6 missing")]


def test_drills_that_end_at_once_wait_for_each_other(tmp_path):
    running = [threading.Thread(target=keep, args=(evidence(0, f"s{n % 2}"), tmp_path, RUNNER)) for n in range(2)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    assert problems(tmp_path) == []
    with pytest.raises(OpsError, match="cannot be written"):
        keep(evidence(), tmp_path / "none", RUNNER)


def listed(place):
    done = CliRunner().invoke(ops_app, ["evidence", "list", str(place), "--json"])
    rows = json.loads(done.stdout) if done.exit_code == 0 else []
    return [(row["sequence"], row["name"], row["backup"], row["verdict"]) for row in rows], done


def test_ops_evidence_list_lists_drills_of_every_kind_and_one_document(drills, tmp_path):
    rows, _ = listed(drills)
    assert rows == [(number, "main", "20261101-030000F", "green") for number in (1, 2, 3)]
    assert listed(files(drills, "backrest-drill-main")[0])[0] == rows[:1]
    append(drills, [document(started_at=START)], signer=None)
    keep(fork_document(started_at=START - timedelta(days=9)), drills, None)
    names = [name for _, name, _, _ in listed(drills)[0]]
    assert (names[0], sorted(names[1:3]), names[3:]) == (fork_document().name, ["main", "shop"], ["main"] * 2)
    (tmp_path / "other.json").write_text("{}")
    for place, why in {tmp_path / "none": "no such folder", tmp_path / "other.json": "no evidence; run"}.items():
        assert why in str(listed(place)[1].exception)


def test_a_drill_on_the_droplet_leaves_its_evidence_to_the_workstation(tmp_path, monkeypatch, capsys):
    """Or there were two series of one name: one unsigned there, and one here whose numbers differ."""
    made, asked = evidence(), []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANCLA_AUDIT", str(tmp_path / "audit.jsonl"))
    monkeypatch.setattr(backrest.driver, "find", lambda *_: None)
    monkeypatch.setattr(runner, "run", lambda *_, **__: made)
    done = CliRunner().invoke(ops_app, ["backrest", "drill", "--here", "--stanza", "main", "--report-only", "--json"])
    assert done.exit_code == 0, done.exception
    assert not (tmp_path / "drills").exists()

    def there(chosen, model, arguments, config):
        asked.extend(arguments)
        return model.model_validate_json(done.stdout)

    monkeypatch.setattr(backrest, "_target", lambda *_: Target(stanza="main", stack=make_stack(on_machine=False)))
    monkeypatch.setattr(backrest, "_on_droplet", there)
    monkeypatch.setattr(backrest, "alert_on_error", lambda *_: contextlib.nullcontext())
    (tmp_path / "key").write_text(KEY.get_secret_value())
    local = CliRunner().invoke(ops_app, ["backrest", "drill", "--signing-key", "key"])
    assert local.exit_code == 0, local.exception
    assert "--report-only" in asked
    assert not any(word.startswith("--evidence") for word in asked)
    assert verify(tmp_path / "drills", KEYS).heads.keys() == {"backrest-drill-main"}
    assert problems(tmp_path / "drills") == []


def test_ops_evidence_verify_says_it(drills, monkeypatch, capsys):
    def ops(*words):
        monkeypatch.setattr(sys, "argv", ["ops", "evidence", "verify", str(drills), "--key", RUNNER.public, *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    code, told = ops("--json")
    assert (code, json.loads(told.out)["documents"]) == (0, 3)
    files(drills, "backrest-drill-main")[1].unlink()
    code, told = ops()
    assert (code, "backrest-drill-main-000003-20261103T030000Z.json" in told.err) == (3, True)
