"""A kind of drill is its steps and its part of the document: this one counts sheep, and goes through all the rest."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import pytest
from typer.testing import CliRunner

from ops.cli.app import app
from ops.cli.drill_output import print_plans
from ops.cli.drill_session import Session
from ops.core.errors import OpsError, VerdictError
from ops.drill import runner
from ops.drill.context import Drill
from ops.drill.evidence.catalogue import Language
from ops.drill.evidence.document import DETAILS, Detail, Questions, Status
from ops.drill.evidence.verification import verify
from ops.sources.base import Skipped
from tests.kits.messages import silent
from tests.ops.drill_kit import RUNNER


@pytest.fixture(autouse=True)
def flock_detail(monkeypatch, tmp_path):
    """The part of the document; defining the class makes the kind known."""
    monkeypatch.setenv("ANCLA_AUDIT", str(tmp_path / "audit.jsonl"))

    class FlockDetail(Detail):
        kind: Literal["flock"] = "flock"
        wool: str = ""

        @property
        def proves(self):
            return "sheep can be counted"

        @property
        def data_at(self):
            return None

        def series(self, document):
            return f"flock-{document.name}"

        def title(self, document):
            return f"Drill of the flock: {document.name}"

        def facts(self, document):
            return {"wool": self.wool}

    yield FlockDetail
    DETAILS.pop("flock", None)


@dataclass(frozen=True, kw_only=True)
class FlockDrill(Drill):
    questions = Questions(
        rows="Is there a sheep?", colour="Which colour?", time="In time?", clean="Is the meadow empty?"
    )
    always = frozenset({"rows", "clean"})

    detail: type[Detail]
    sheep: int = 3
    skipped: tuple[Skipped, ...] = ()
    broken: type[BaseException] | None = None
    look: str = ""

    def plan(self):
        return {"flock": "hill", "wool_bytes": 2048, "counting_seconds": 3}

    def run(self, found):
        detail = self.detail()
        found.about(detail, name="hill", backup="flock-1", environment="staging")
        (found.folder / "sheep").write_text("meh")
        with found.phase("count"):
            if self.broken is not None:
                raise self.broken
            detail.wool, found.rows = "white", self.sheep
            found.answer_rows(self.sheep)
        found.skipped, found.look = list(self.skipped), self.look
        found.recovered(found.began - 90)


@pytest.fixture
def flock(flock_detail, tmp_path):
    (tmp_path / "spool").mkdir()

    def make(**more):
        return FlockDrill(detail=flock_detail, spool=tmp_path / "spool", **more)

    return make


def status(document):
    return {check.name: check.status for check in document.checks}


def test_the_runner_times_judges_and_removes(flock, tmp_path):
    made = runner.run(flock(rto_minutes=2), silent)
    assert (made.verdict, made.rows, made.detail.wool, made.chain) == ("green", 3, "white", "flock-hill")
    assert status(made) == dict.fromkeys(("rows", "time", "clean"), Status.PASSED)
    assert [phase.name for phase in made.phases] == ["count"]
    assert made.rto_seconds >= 90
    assert status(runner.run(flock(rto_minutes=1), silent))["time"] is Status.FAILED
    assert status(runner.run(flock(), silent))["time"] is Status.SKIPPED, "no budget was given"
    empty = runner.run(flock(sheep=0), silent)
    assert (empty.verdict, [check.name for check in empty.red]) == ("red", ["rows"])
    assert runner.run(flock(sheep=0, may_be_empty=True), silent).verdict == "green"
    assert runner.run(flock(skipped=(Skipped(what="lamb", why="ran away"),)), silent).verdict == "in part"
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_had_to_be_asked_and_was_not_is_red(flock, monkeypatch):
    monkeypatch.setattr(FlockDrill, "always", frozenset({"rows", "colour", "clean"}))
    made = runner.run(flock(), silent)
    assert (made.verdict, made.red, status(made)["colour"]) == ("red", [], Status.SKIPPED)


def test_a_red_one_with_something_to_look_into_stays_and_nothing_else_does(flock, tmp_path):
    for gone in ({"look": "count again"}, {"sheep": 0}, {"broken": OpsError}):
        with pytest.raises(OpsError) if "broken" in gone else nullcontext():
            runner.run(flock(keep_hours=1, **gone), silent)
        assert list((tmp_path / "spool").iterdir()) == []
    made = runner.run(flock(keep_hours=1, sheep=0, look="count again"), silent)
    (kept,) = (tmp_path / "spool").iterdir()
    assert (kept / "sheep").read_text() == "meh"
    assert status(made)["clean"] is Status.PASSED


def test_it_is_signed_chained_shown_printed_and_verified(flock, tmp_path, capsys):
    folder = tmp_path / "drills"
    folder.mkdir()
    for as_json in (False, True):
        session = Session(evidence=folder, signer=RUNNER, language=Language.EN, as_json=as_json)
        with session.kept():
            session.hold(flock())
        session.judge()
    printed = capsys.readouterr().out
    assert "green drill of flock-1 of hill" in printed
    assert json.loads(printed[printed.index("{") :])["detail"] == {"kind": "flock", "wool": "white"}
    found = verify(folder, [RUNNER.public])
    assert (found.problems, found.heads["flock-hill"][0]) == ([], 2)
    assert "Drill of the flock: hill" in next(folder.glob("*.html")).read_text()
    done = CliRunner().invoke(app, ["evidence", "verify", str(folder), "--key", RUNNER.public])
    assert done.exit_code == 0, done.exception
    listed = CliRunner().invoke(app, ["evidence", "list", str(folder), "--json"])
    assert [(row["name"], row["verdict"]) for row in json.loads(listed.stdout)] == [("hill", "green")] * 2
    red = Session(evidence=folder, signer=None, language=Language.EN, as_json=False)
    with red.kept():
        red.hold(flock(sheep=0))
    with pytest.raises(VerdictError, match="drill of flock-1 of hill is red: rows: "):
        red.judge()


def test_an_ended_run_keeps_what_it_made(flock, tmp_path):
    folder = tmp_path / "drills"
    folder.mkdir()
    session = Session(evidence=folder, signer=RUNNER, language=Language.EN, as_json=False)

    def both():
        with session.kept():
            session.hold(flock())
            session.hold(flock(broken=KeyboardInterrupt))

    with pytest.raises(KeyboardInterrupt):
        both()
    assert verify(folder, [RUNNER.public]).documents == 1
    assert list((tmp_path / "spool").iterdir()) == []


def test_its_plan_is_printed_by_its_units(flock, capsys):
    print_plans(flock().plan(), as_json=False)
    told = capsys.readouterr().out
    for line in ("flock: hill", "wool: 2.0 KiB", "counting: 3.0 s", "nothing was made"):
        assert line in told
    print_plans([flock().plan()], as_json=True)
    assert json.loads(capsys.readouterr().out) == [dict(flock().plan())]


def test_a_document_of_a_kind_that_is_not_known_is_named_and_not_called_forged(flock, tmp_path):
    session = Session(evidence=tmp_path, signer=RUNNER, language=Language.EN, as_json=False)
    with session.kept():
        session.hold(flock())
    del DETAILS["flock"]
    (problem,) = [each for each in verify(tmp_path, [RUNNER.public]).problems if each.file.endswith("Z.json")]
    assert "written by another version of Ancla: detail: unknown kind of drill" in problem.what
