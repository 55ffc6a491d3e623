"""The folder a drill works in. All that a drill makes is under it, so that one removal, or one sweep, removes all.

A lock on a file in it dies with the drill: a folder whose lock is free, and that is not kept on purpose, is what a
killed drill has left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ValidationError

from ops.core.errors import SpoolError
from ops.core.workdir import temporary_folder

PREFIX = "ancla-drill-"
LOCK = "lock"
KEPT = "kept.json"
YOUNG_SECONDS = 600
"""A folder without a lock is left alone for so long: its drill may be about to take it."""


class Kept(BaseModel):
    """Why a red drill's scratch is still there, until when, and how to look into it."""

    backup: str
    why: str
    expires_at: AwareDatetime
    look: str


@contextmanager
def drill_folder(parent: Path | None) -> Generator[Path]:
    """Make the folder of one drill; it is removed at the end, unless `keep` was called.

    Everything that asks for a temporary folder meanwhile gets it under this one.

    Raises:
        SpoolError: it cannot be made.
    """
    root = _parent(parent)
    try:
        folder, lock = _make(root)
    except OSError as error:
        raise SpoolError(f"{root}: cannot be used as the spool: {error.strerror}; give another with --spool") from None
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        if not is_kept(folder):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def keep(folder: Path, kept: Kept) -> None:
    """Let what was restored stay when the drill ends."""
    (folder / KEPT).write_text(kept.model_dump_json(indent=2) + "\n")


def is_kept(folder: Path) -> bool:
    """Say whether `keep` was called."""
    return (folder / KEPT).exists()


def sweep(parent: Path | None, now: datetime | None = None) -> list[Path]:
    """Remove what killed drills have left, and what was kept and is past its time; returns the folders."""
    moment = now or datetime.now(UTC)
    there = [folder for folder in sorted(_parent(parent).glob(f"{PREFIX}*")) if not folder.is_symlink()]
    for folder in there:
        _remove_left(folder, moment)
    return [folder for folder in there if not folder.exists()]


def _remove_left(folder: Path, now: datetime) -> None:
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        if folder.is_dir() and _age(folder, now) > YOUNG_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
        return
    except OSError:  # somebody else's
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_past(folder, now):  # locked until it is gone, so that no drill takes it for its own meanwhile
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:  # at work
        return
    finally:
        os.close(lock)


def _is_past(folder: Path, now: datetime) -> bool:
    try:
        return Kept.model_validate_json((folder / KEPT).read_bytes()).expires_at <= now
    except FileNotFoundError:
        return True
    except (OSError, ValidationError):  # a note that nobody can read keeps nothing for ever
        return _age(folder, now) > YOUNG_SECONDS


def _age(folder: Path, now: datetime) -> float:
    try:
        return now.timestamp() - folder.stat().st_mtime
    except OSError:
        return 0


def _make(parent: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        folder.chmod(0o711)  # the scratch server's user passes through; what is inside is closed by itself
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (folder / LOCK).exists():
                return folder, lock
        except BlockingIOError:
            pass
        os.close(lock)  # a sweep was quicker, and removes it


def _parent(parent: Path | None) -> Path:
    return parent or temporary_folder()
