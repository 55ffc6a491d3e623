"""The audit log: what was changed, removed or put in is seen, and rotation and a full disk are no change."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
import typer

from ops.cli.watch import audit_show, audit_verify
from ops.core.errors import OpsError, SourceError, VerdictError
from ops.monitoring import audit


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    monkeypatch.setenv("ANCLA_AUDIT", str(tmp_path / "log" / "audit.jsonl"))


def log(count=3):
    for number in range(count):
        audit.record("backup create", result="done", backup=f"b{number}")
    return audit.log_path()


def test_every_change_of_the_audit_log_is_seen():
    path = log()
    assert audit.read(path).problems == []
    lines = path.read_text().splitlines(keepends=True)
    edits = {
        "a character": [lines[0], lines[1].replace('"b1"', '"b2"'), lines[2]],
        "a line less": [lines[0], lines[2]],
        "the first": lines[1:],
        "the last": lines[:2],
        "all": [],
        "a line more": [lines[0], lines[1], lines[1], lines[2]],
        "no JSON": [lines[0], "x" + lines[1], lines[2]],
        "the last is no JSON": [*lines[:2], "x" + lines[2]],
        "all but the last": lines[2:],
        "another file": ['{"a": 1}\n'],
    }
    unseen = []
    for what, edited in edits.items():
        path.write_text("".join(edited))
        if not audit.read(path).problems:
            unseen.append(what)
    assert unseen == []


def test_what_is_no_audit_log_is_not_whole(tmp_path):
    (tmp_path / "other.json").write_text('{"a": 1}\n')
    assert audit.read(tmp_path / "other.json").problems == ["other.json: contains no line of an audit log"]


def test_the_audit_log_goes_on_over_rotation_and_over_a_line_that_was_torn():
    path = log()
    path.rename(path.with_name("audit.jsonl.1"))
    with log(2).open("ab") as file:
        file.write(b'{"number": 6, "prev')  # a disk that filled up
    log(1)
    found = audit.read(path)
    assert (found.problems, found.torn, [entry["number"] for entry in found.entries]) == ([], 1, [1, 2, 3, 4, 5, 6])
    path.with_name(".audit.jsonl.head").unlink()
    log(1)
    assert audit.read(path).problems == []


def test_a_beginning_that_is_gone_is_explained_by_as_many_files_as_rotation_keeps(monkeypatch):
    assert f"rotate {audit.ROTATED}\n" in Path("host/templates/audit.logrotate").read_text()
    monkeypatch.setattr(audit, "ROTATED", 2)
    path = log(1)
    for kept in (1, 2):  # as logrotate does, which removes what would be one too many
        for number in range(kept, 0, -1):
            old = path if number == 1 else path.with_name(f"audit.jsonl.{number - 1}")
            old.rename(path.with_name(f"audit.jsonl.{number}"))
        log(1)
    path.with_name("audit.jsonl.1").replace(path.with_name("audit.jsonl.2"))
    path.rename(path.with_name("audit.jsonl.1"))
    log(1)
    found = audit.read(path)
    assert ([entry["number"] for entry in found.entries], found.problems) == ([2, 3, 4], [])
    path.with_name("audit.jsonl.2").unlink()
    assert "begins at line 3" in audit.read(path).problems[0]


def as_another(path, told):
    if os.geteuid() == 0:
        os.setuid(65534)
    for command in (audit_show, audit_verify):
        try:
            command(log=path)
        except OpsError as error:
            told.put(str(error))


def test_who_may_not_enter_the_folder_is_told_to_use_sudo():
    path = log()
    path.parent.chmod(0)
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    reader = context.Process(target=as_another, args=(path, told))
    reader.start()
    lines = [told.get(timeout=60) for _ in range(2)]
    reader.join(60)
    path.parent.chmod(0o700)
    assert lines == [f"{path}: cannot be read: Permission denied; on the droplet use sudo"] * 2


def write_many(count):
    for number in range(count):
        audit.record("test", result="done", n=number)


def test_many_write_the_audit_log_at_once():
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(25,)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    found = audit.read(audit.log_path())
    assert (found.problems, found.torn, len(found.entries)) == ([], 0, 100)


def test_a_command_leaves_one_line_however_it_ends():
    @audit.audited("drill")
    def command(*, name, error=None, dry_run=False):
        audit.note(backup="b1", stack="staging")
        if error:
            raise error

    command(name="a")
    command(name="a", dry_run=True)
    for error in (VerdictError("red"), SourceError("x"), typer.Exit(1), ValueError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            command(name="b", error=error)
    entries = audit.read(audit.log_path()).entries
    assert [entry["result"] for entry in entries] == ["done", "red", "failed", "failed", "failed", "interrupted"]
    assert {key: entries[0][key] for key in ("verb", "name", "backup", "stack")} == {
        "verb": "drill",
        "name": "a",
        "backup": "b1",
        "stack": "staging",
    }
    assert entries[0]["user"]
    assert entries[0]["host"]
