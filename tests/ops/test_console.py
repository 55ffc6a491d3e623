"""Progress: a bar where a person looks, a line now and then elsewhere."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from ops import console


@pytest.fixture
def written(monkeypatch):
    """Everything written on a stderr that is no terminal, a line for each call."""
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, soft_wrap=True, highlight=False))
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0)
    monkeypatch.delenv("ANCLA_PROGRESS", raising=False)
    return text


def test_without_a_terminal_lines_say_how_far_how_fast_and_how_long(written):
    with console.progress("verifying s3://b", 4 << 20) as advance:
        advance(1 << 20)
        advance(3 << 20)
    first, last = written.getvalue().splitlines()
    assert first.startswith("· verifying s3://b: 1 of 4 MiB, ")
    assert last.startswith("· verifying s3://b: 4 of 4 MiB, ")
    assert last.endswith("0 s left")


def test_lines_are_json_where_that_is_said_and_few(written, monkeypatch):
    monkeypatch.setenv("ANCLA_PROGRESS", "json")
    with console.progress("x", 100) as advance:
        advance(40)
        monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 3600)
        advance(40)
    (line,) = map(json.loads, written.getvalue().splitlines())
    assert (line["what"], line["done"], line["total"]) == ("x", 40, 100)


def test_on_a_terminal_a_bar_comes_and_goes(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, force_terminal=True, width=120))
    with console.progress("verifying", 2 << 20) as advance:
        advance(1 << 20)
    assert "verifying" in text.getvalue()
    assert "MiB" in text.getvalue()
    assert "· verifying: " not in text.getvalue()
