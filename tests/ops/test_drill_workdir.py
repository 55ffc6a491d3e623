"""A red drill's scratch copy is production data in plain text: it goes at once, or at a time that somebody keeps."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta

import pytest

from ops.cli.drill import drill_command
from ops.drill import workdir
from ops.drill.workdir import Kept, drill_folder, keep


def kept():
    return Kept(backup="b", why="w", look="psql", expires_at=datetime.now(UTC) + timedelta(hours=2))


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """A `systemd-run` that writes down its arguments, and exits with $CODE."""
    program, asked = tmp_path / "bin" / "systemd-run", tmp_path / "asked"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {asked}\nexit "${{CODE:-0}}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(workdir, "SYSTEMD", tmp_path)
    return asked


def test_keeping_is_opt_in():
    assert inspect.signature(drill_command).parameters["keep_failed"].default == "0"


def test_what_is_kept_is_removed_by_a_timer(systemd, tmp_path):
    with drill_folder(tmp_path) as folder:
        assert "systemd removes it after 120 min" in keep(folder, kept())
    asked = systemd.read_text().splitlines()
    assert asked[-2:] == ["--", str(folder)]
    (delay,) = [word for word in asked if word.startswith("--on-active=")]
    assert 7190 <= int(delay.partition("=")[2]) <= 7200
    assert folder.exists()


@pytest.mark.parametrize("why", ["no systemd", "refused"])
def test_where_no_timer_removes_it_that_is_said_with_the_command_that_does(systemd, tmp_path, monkeypatch, why):
    if why == "no systemd":
        monkeypatch.setattr(workdir, "SYSTEMD", tmp_path / "none")
    monkeypatch.setenv("CODE", "1")
    with drill_folder(tmp_path) as folder:
        told = keep(folder, kept())
    assert f"no timer removes it here: the next drill after {kept().expires_at:%H:}" in told
    assert f"`rm -rf --one-file-system -- {folder}`" in told
    assert systemd.exists() == (why == "refused")
