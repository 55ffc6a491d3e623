"""Locks, atomic writes and private folders: what they refuse, and what a killed process leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.core import files, workdir
from ops.core.environment import environment
from ops.core.errors import BusyError, OpsError, SpoolError
from ops.core.files import atomic_write, locked, runtime_folder
from ops.core.workdir import private_folder

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, tempfile
from ops.core.files import locked, runtime_folder
from ops.core.workdir import private_folder
with locked(runtime_folder() / "x.lock"), private_folder() as folder:
    (folder / "pgpass").write_text("secret")
    print(folder, flush=True)
    sys.stdin.read()
"""


def holder(**environment):
    """A process that holds a lock and has a private folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, Path(process.stdout.readline().strip())


def test_runs_with_different_temporary_folders_exclude_each_other(tmp_path, monkeypatch):
    monkeypatch.delenv("ANCLA_RUNTIME")
    mine = runtime_folder()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / name))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / name))
        assert runtime_folder() == mine


def test_a_lock_is_held_until_its_process_dies_and_keeps_the_content_of_its_file(tmp_path, monkeypatch):
    lock = runtime_folder() / "x.lock"
    lock.write_text("a note")
    process, _ = holder(TMPDIR=str(tmp_path))
    try:
        with pytest.raises(BusyError), locked(lock, wait=False):
            pass
    finally:
        process.kill()
        process.communicate()
    with locked(lock, wait=False):
        assert lock.read_text() == "a note"


def test_what_a_killed_process_left_in_its_private_folder_goes_with_the_next_one(tmp_path, monkeypatch):
    process, left = holder(TMPDIR=str(tmp_path))
    assert (left.stat().st_mode & 0o777, left.parent) == (0o700, tmp_path)
    monkeypatch.setattr(workdir, "temporary_folder", lambda: tmp_path)
    with private_folder():
        assert (left / "pgpass").exists(), "its owner is alive"
    process.kill()
    process.communicate()
    with private_folder():
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_for_locks_that_somebody_else_could_write_into_is_refused(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    folder = tmp_path / "runtime"
    monkeypatch.setenv("ANCLA_RUNTIME", str(folder))
    folder.symlink_to(victim)
    with pytest.raises(SpoolError, match="its locks cannot be trusted"):
        runtime_folder()
    folder.unlink()
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(SpoolError, match="its locks cannot be trusted"):
        runtime_folder()
    folder.chmod(0o755)
    assert runtime_folder() == folder
    monkeypatch.setattr(files.os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(SpoolError, match="its locks cannot be trusted"):
        runtime_folder()


def test_a_link_in_place_of_a_lock_is_refused_and_its_file_is_as_it_was(tmp_path):
    (tmp_path / "victim").write_text("content")
    (tmp_path / "x.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"), locked(tmp_path / "x.lock"):
        pass
    assert (tmp_path / "victim").read_text() == "content"


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "state"
    atomic_write(path, b"old", mode=0o640)
    assert path.stat().st_mode & 0o777 == 0o640

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        atomic_write(path, b"new", mode=0o640)
    assert files.disk_full(caught.value)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["state"]


def test_a_variable_with_a_wrong_value_is_one_line(monkeypatch):
    monkeypatch.setenv("ANCLA_NOTIFY", "perhaps")
    with pytest.raises(OpsError, match=r"^ANCLA_NOTIFY: "):
        environment()
    monkeypatch.setenv("ANCLA_NOTIFY", "")
    assert not environment().notify
