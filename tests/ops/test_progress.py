"""What `backup create`, `restore` and `drill` show while they work: on a terminal, without one, and to a program."""

from __future__ import annotations

import json

import pytest

from ops.core import console
from tests.ops.test_cli import ops, outputs
from tests.ops.test_mistakes import at_a_terminal, encrypted

__all__ = ["encrypted", "ops", "outputs"]

STRETCHES = {
    "create": ["backing up shop"],
    "restore": ["restoring shop"],
    "drill": ["fetching shop", "loading shop"],
}
VERBS = {"create": ["backup", "create"], "restore": ["restore", "-i", "right"], "drill": ["drill", "-i", "right"]}


def sampled(*always):
    """Each verb; `make test` takes these of them."""
    return [pytest.param(verb, marks=[] if verb in always else [pytest.mark.all]) for verb in VERBS]


@pytest.mark.parametrize("verb", sampled("create", "drill"))
def test_without_a_terminal_each_stretch_says_now_and_then_how_far_it_is(verb, ops, encrypted, monkeypatch):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0)
    done = ops(*VERBS[verb], "--outputs", encrypted[0], "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    for what in STRETCHES[verb]:
        told = [line for line in done.stderr.splitlines() if line.startswith(f"· {what}: ")]
        assert told, done.stderr
        assert all("MiB/s" in line for line in told)
        assert ("of about" in told[0]) == (verb == "create")
    assert "━" not in done.stderr


@pytest.mark.parametrize("verb", sampled("restore"))
def test_at_its_own_pace_it_says_no_line_an_object(verb, ops, encrypted, monkeypatch):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 3600)
    done = ops(*VERBS[verb], "--outputs", encrypted[0])
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert 2 <= len(lines) <= 6, lines
    assert not [line for line in lines if "MiB/s" in line]


@pytest.mark.parametrize("verb", sampled("restore"))
def test_as_json_every_line_is_one_and_the_last_of_a_stretch_is_all_of_it(verb, ops, encrypted):
    done = ops(*VERBS[verb], "--outputs", encrypted[0], "--json", "--progress", "json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any("step" in line for line in lines)
    last = {line["what"]: line for line in lines if "what" in line}
    assert list(last) == STRETCHES[verb]
    for what in ("fetching shop", "restoring shop"):
        if what in last:
            assert last[what]["done"] == last[what]["total"] > 0
    assert all(line["done"] > 0 and line["rate"] > 0 for line in last.values())


@pytest.mark.long
@pytest.mark.parametrize("verb", sampled("restore"))
def test_on_a_terminal_there_is_a_bar_and_none_where_lines_are_asked_for(verb, encrypted, tmp_path):
    words = [tmp_path / word if word == "right" else word for word in VERBS[verb]]
    words += ["--outputs", encrypted[0], *(["--evidence", tmp_path / "drills"] if verb == "drill" else [])]
    code, seen = at_a_terminal(tmp_path, words, when="━━", keys=b"")
    assert code == 0, seen
    assert all(what in seen for what in STRETCHES[verb])
    code, seen = at_a_terminal(tmp_path, [*words, "--progress", "plain"], when="·", keys=b"")
    assert code == 0, seen
    assert not any(f"{what} ━" in seen for what in STRETCHES[verb])
