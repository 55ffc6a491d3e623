"""The evidence of `ops backrest drill` and `ops pitr drill`: signed, and each document names the one before."""

from __future__ import annotations

import html
import json
import re
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from ops.cli.app import app as ops_app
from ops.cli.app import main
from ops.core.errors import OpsError
from ops.core.signing import Signature, Signer
from ops.drill.evidence.chain import Head, append
from ops.drill.evidence.document import Phase, canonical, digest, signed_content
from ops.drill.evidence.series import files, keep, series_in
from ops.drill.evidence.verification import verify
from ops.drill.kinds.pgbackrest_evidence import PROVES, QUESTIONS, BackrestEvidence, RecoveredDatabase
from ops.stack.init import make_key
from tests.ops.drill_kit import document, fork_document

RUNNER = Signer(make_key())
KEYS = [RUNNER.public]
START = datetime(2026, 11, 1, 3, tzinfo=UTC)


def evidence(day=0, stanza="main"):
    return BackrestEvidence(
        verdict="green",
        environment="staging",
        stanza=stanza,
        repository=1,
        backup="20261101-030000F",
        backup_type="full",
        backup_stopped_at=START,
        wal_start=None,
        wal_stop=None,
        system="7",
        server_version="15",
        asked_for=None,
        started_at=START + timedelta(days=day),
        finished_at=START + timedelta(days=day, minutes=2),
        size=1,
        checks=[QUESTIONS.passed("rows", "ñ 7 rows")],
        phases=[],
    )


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


def test_one_changed_character_anywhere_is_red_and_names_the_file(drills):
    second = files(drills, "backrest-drill-main")[1]
    whole = second.read_bytes()
    for at in range(0, len(whole), 5):
        second.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert second.name in {file for file, _ in problems(drills)}, whole[max(0, at - 20) : at + 20]
        assert verify(second, KEYS).problems
    second.write_bytes(whole.replace(b'"green"', b'"amber"'))
    assert (second.name, "changed after it was signed") in problems(drills)
    second.write_bytes(whole)
    assert problems(drills) == []


def test_a_removed_link_is_red(drills):
    _, second, third = files(drills, "backrest-drill-main")
    second.unlink()
    assert problems(drills) == [(third.name, "the one before it was changed or taken out")]


def test_the_newest_taken_away_is_red_and_stays_so_when_another_drill_follows(drills):
    newest = files(drills, "backrest-drill-main")[-1]
    newest.unlink()
    assert problems(drills) == [
        ("series-backrest-drill-main.json", "the series goes to document 3, which is missing or changed")
    ]
    fourth = keep(evidence(3), drills, RUNNER)
    assert problems(drills) == [(fourth.name, "the one before it was changed or taken out")]
    for file in files(drills, "backrest-drill-main"):
        file.unlink()
    assert problems(drills) == [
        ("series-backrest-drill-main.json", "the series goes to document 4, which is missing or changed")
    ]


def test_a_head_that_was_changed_or_taken_away_is_red(drills):
    head = drills / "series-backrest-drill-main.json"
    whole = head.read_bytes()
    for at in range(len(whole)):
        head.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert [file for file, _ in problems(drills)] == [head.name], whole[max(0, at - 20) : at + 20]
    head.unlink()
    assert problems(drills) == [(head.name, "the head of the chain is missing or not one")]


def test_the_page_is_the_documents_own(drills):
    first = files(drills, "backrest-drill-main")[0]
    page = first.with_suffix(".html")
    assert json.loads(first.read_bytes())["page"]["file"] == page.name
    page.write_text(page.read_text().replace("green", "Green"))
    assert problems(drills) == [(page.name, f"not what {first.name} says it is: changed")]
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
            "databases": [RecoveredDatabase(database="shop", rows=1234, tables=[])],
        }
    )
    page = keep(wrong, tmp_path, RUNNER).with_suffix(".html").read_text()
    text = html.unescape(" ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split()))
    assert "red Drill of pgBackRest's backup: main" in text
    for said in (PROVES, "Does pg_amcheck find heap", "3 complaints", "90 s", "budget 60 s", "1 234", "recover"):
        assert said in text, said
    assert "index &lt;b&gt;orders_pkey&lt;/b&gt;" in page
    assert RUNNER.public.split()[1][:8] in page or "SHA256:" in page
    assert 'class="over"' in page
    assert "http" not in page, "nothing is from elsewhere"


def test_space_another_key_no_key_and_another_name_are_red(drills):
    first, _, third = files(drills, "backrest-drill-main")
    assert {what[:40] for _, what in problems(drills, [Signer(make_key()).public])} == {
        "signed by a key that is not believed: ss"
    }
    third.write_bytes(third.read_bytes() + b"\n")
    assert (third.name, "changed") in problems(drills)
    third.rename(drills / "backrest-drill-other-20261103T030000Z.json")
    assert any(file.startswith("backrest-drill-other") for file, _ in problems(drills))
    for file in drills.iterdir():
        file.unlink()
    keep(evidence(), drills, None)
    assert problems(drills) == [(first.name, "not signed"), ("series-backrest-drill-main.json", "not signed")]


def test_a_document_by_another_ones_name_is_red(tmp_path):
    keep(evidence(), tmp_path, RUNNER).rename(tmp_path / "backrest-drill-other-20261101T030000Z.json")
    assert (
        "backrest-drill-other-20261101T030000Z.json",
        "renamed: it is backrest-drill-main-000001-20261101T030000Z.json",
    ) in problems(tmp_path)


def test_each_stanza_has_its_own_series(drills):
    keep(evidence(9, "main-2"), drills, RUNNER)
    keep(evidence(10), drills, RUNNER)
    assert series_in(drills) == ["backrest-drill-main", "backrest-drill-main-2"]
    assert len(files(drills, "backrest-drill-main")) == 4
    assert problems(drills) == []


def test_drills_that_overlap_and_a_clock_that_was_set_back_break_nothing(drills):
    """The one that began first may end last; two may begin within one second."""
    written = [keep(evidence(day), drills, RUNNER) for day in (9, 8, 8, 7, 10)]
    assert files(drills, "backrest-drill-main")[3:] == written
    assert len(set(written)) == 5
    assert problems(drills) == []
    written[2].unlink()
    assert problems(drills) == [(written[3].name, "the one before it was changed or taken out")]


def test_what_an_older_ancla_wrote_verifies_and_is_gone_on_from(tmp_path):
    previous = None
    for day in range(2):  # without a number, in the document and in its name
        moment = evidence(day).model_copy(update={"previous": previous}).model_dump(mode="json", exclude={"sequence"})
        signed = Signature(key=RUNNER.public, signature=RUNNER.sign(signed_content(moment)))
        raw = canonical(moment | {"signed": signed.model_dump()})
        (tmp_path / f"backrest-drill-main-2026110{day + 1}T030000Z.json").write_bytes(raw)
        previous = digest(raw)
    head = Head(environment="backrest-drill-main", sequence=2, sha256=previous).sealed(RUNNER)
    (tmp_path / "series-backrest-drill-main.json").write_bytes(canonical(head.model_dump(mode="json")))
    assert (series_in(tmp_path), problems(tmp_path)) == (["backrest-drill-main"], [])
    third = keep(evidence(0), tmp_path, RUNNER)
    assert third.name == "backrest-drill-main-000003-20261101T030000Z.json"
    assert files(tmp_path, "backrest-drill-main")[2] == third
    assert problems(tmp_path) == []


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
    append(drills, [document(started_at=START)], log="", render=lambda *_: "", signer=None)
    keep(fork_document(started_at=START - timedelta(days=9)), drills, None)
    names = [name for _, name, _, _ in listed(drills)[0]]
    assert (names[0], sorted(names[1:3]), names[3:]) == (fork_document().cluster_name, ["main", "shop"], ["main"] * 2)
    (tmp_path / "other.json").write_text("{}")
    for place, why in {tmp_path / "none": "no such folder", tmp_path / "other.json": "no evidence there"}.items():
        assert why in str(listed(place)[1].exception)


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
