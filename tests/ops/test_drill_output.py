"""What a person reads of a drill on the terminal: the same for every kind."""

from __future__ import annotations

import pytest

from ops.cli.drill_output import print_drill, print_place
from ops.drill.evidence.document import SkippedObject
from tests.ops.drill_kit import backrest_document, document, fork_document

SKIPPED = [SkippedObject(what="view [v]", why="no function f()", mend="CREATE VIEW v AS SELECT 1")]


@pytest.fixture
def printed(capsys):
    def of(result):
        print_drill(result)
        return " ".join(capsys.readouterr().out.split())

    return of


@pytest.mark.parametrize("make", [document, backrest_document, fork_document])
def test_every_kind_shows_its_verdict_every_question_and_what_was_not_made(make, printed):
    made = make(verdict="in part", skipped=SKIPPED)
    text = printed(made)
    assert text.startswith(f"in part drill of {made.subject}"[:40])
    for check in made.checks:
        assert check.status in text
        assert check.question.split()[0] in text
    assert "skipped: view [v]: no function f()" in text
    assert "to fix it: CREATE VIEW v AS SELECT 1" in text
    assert made.figures[:20] in text
    assert "skipped: " not in printed(make())


def test_a_problem_is_shown_once_and_no_more_than_three_of_them(printed):
    made = document()
    check = made.checks[0].model_copy(update={"answer": "gone", "problems": ["gone", "p2", "p3", "p4", "p5"]})
    text = printed(document(checks=[check]))
    assert text.count("gone") == 1
    assert "p3" in text
    assert "and 2 more" in text
    assert "p4" not in text


def test_evidence_that_nobody_signed_is_said_so(capsys, tmp_path):
    print_place(tmp_path / "x.json", signed=True)
    assert "not signed" not in capsys.readouterr().out
    print_place(tmp_path / "x.json", signed=False)
    assert "not signed" in capsys.readouterr().out
