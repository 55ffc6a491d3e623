"""Progress: a bar where a person looks, a line now and then elsewhere, JSON lines for a program."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import termios
import textwrap
from pathlib import Path

import pytest
from rich.console import Console

from ops.core import console
from ops.core.console import Progress

ROOT = Path(__file__).resolve().parents[2]
WORK = """
import time
from ops.core import console
console.show_progress(console.Progress("{way}"))
with console.progress("backing up [shop]", 4 << 20, about=True) as advance:
    for _ in range(6):
        advance(1 << 20)
        time.sleep(0.15)
    console.step("a [red]line[/] between")
console.print_json({{"done": True}})
"""


@pytest.fixture
def written(monkeypatch):
    """Everything written on a stderr that is no terminal, a line for each call."""
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, soft_wrap=True, highlight=False))
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(console, "_shown", Progress.AUTO)
    return text


def on_a_terminal(way):
    """Run the work with stderr on a pseudo-terminal; returns what stdout and the terminal got."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    command = [sys.executable, "-c", textwrap.dedent(WORK).format(way=way)]
    # TERM and the rest as a person's: a test runner may have set what a terminal would not
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", "LANG": "C.UTF-8"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # Linux: the other end is closed
                break
            if not block:
                break
            seen += block
        stdout, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0, seen.decode()
    assert json.loads(stdout) == {"done": True}
    return seen.decode()


def test_without_a_terminal_lines_say_how_far_how_fast_and_how_long(written):
    with console.progress("verifying s3://b", 4 << 20) as advance:
        advance(1 << 20)
        advance(3 << 20)
    first, last = written.getvalue().splitlines()
    assert first.startswith("· verifying s3://b: 1 of 4 MiB, ")
    assert last.startswith("· verifying s3://b: 4 of 4 MiB, ")
    assert last.endswith("0 s left")


def test_an_estimate_is_called_one_and_may_be_passed(written):
    with console.progress("backing up", 4 << 20, about=True) as advance:
        advance(1 << 20)
        advance(4 << 20)
    first, last = written.getvalue().splitlines()
    assert first.startswith("· backing up: 1 of about 4 MiB, ")
    assert last.startswith("· backing up: 5 of about 4 MiB, ")
    assert not last.endswith("left")


def test_lines_are_few(written, monkeypatch):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 3600)
    with console.progress("x", 1 << 30) as advance:
        for _ in range(1000):
            advance(1 << 20)
    assert not written.getvalue()


def test_lines_are_json_where_that_is_said_and_every_one_of_them(written):
    console.show_progress(Progress.JSON)
    console.step("begun [/x]")
    with console.progress("x", 100) as advance:
        advance(40)
        advance(40)
    console.warning("not sent [/x]")
    console.error("failed [/x]")
    console.interrupted()
    begun, *lines, warned, failed, ended = map(json.loads, written.getvalue().splitlines())
    assert begun == {"step": "begun [/x]"}
    assert [warned, failed, ended] == [{"warning": "not sent [/x]"}, {"error": "failed [/x]"}, {"error": "interrupted"}]
    assert [(line["what"], line["done"], line["total"], line["about"]) for line in lines] == [
        ("x", 40, 100, False), ("x", 80, 100, False), ("x", 80, 100, False)
    ]  # fmt: skip


def test_a_step_is_printed_as_it_is(written):
    console.step("table [red]public[/red].x [/nothing]")
    assert written.getvalue() == "· table [red]public[/red].x [/nothing]\n"


def test_on_a_terminal_a_bar_moves_is_gone_at_the_end_and_leaves_stdout_alone():
    seen = on_a_terminal("auto")
    assert "━" in seen
    assert "backing up [shop]" in seen
    assert "2 of about 4 MiB" in seen
    assert "MiB/s" in seen
    assert "s left" in seen
    assert "6 of about 4 MiB" in seen
    assert "a [red]line[/] between" in seen
    assert all(len(line) < 200 for line in seen.split("\r"))


@pytest.mark.parametrize("way", ["plain", "json"])
def test_on_a_terminal_no_bar_where_lines_are_asked_for(way):
    seen = on_a_terminal(way)
    assert "━" not in seen
    assert ('{"step": ' in seen) == (way == "json")


def test_progress_of_another_ops_is_shown_as_our_own(written):
    console.relay({"what": "up [/x]", "done": 1 << 20, "total": 4 << 20, "about": True, "rate": 1 << 19, "added": 1})
    console.relay({"what": "up"})
    console.relay({"step": "begun [/x]"})
    console.relay({"warning": "slow"})
    assert written.getvalue().splitlines() == [
        "· up [/x]: 1 of about 4 MiB, 0.5 MiB/s, 6 s left",
        "· begun [/x]",
        "warning: slow",
    ]
    console.show_progress(Progress.JSON)
    console.relay({"what": "up", "done": 1})
    assert json.loads(written.getvalue().splitlines()[-1]) == {"what": "up", "done": 1}
