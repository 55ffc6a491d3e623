"""The private folder that a dump passes through, gone when the work ends, and the disk errors that can happen there.

A folder is locked by the run that works in it. What a killed run left is nobody's, and the next one removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ops.core.errors import SpoolError

SLACK = 64 << 20
"""Bytes that must stay free beside the estimate."""

PREFIX = "ancla-spool-"
NEW = "ancla-new-"
YOUNG_SECONDS = 600
"""A new folder is left alone for so long: its run may be about to lock it."""

_HALF_A_BLOCK = re.compile(r"wrote only \d+ of \d+ bytes")
"""PostgreSQL's words where a part of its last block still went in."""

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def temporary_folder() -> Path:
    """Return the folder for temporary files: the system's, or the spool while there is one.

    Raises:
        SpoolError: none can be written.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # Python's words for whatever kept it from writing some bytes into each
        tried = str(error.strerror).partition("[")[2].rstrip("]").replace("'", "")
        raise SpoolError(f"no temporary folder can be written ({tried}): is the disk full?") from None


@contextmanager
def spool(parent: Path | None, *, needed: int, what: str) -> Generator[Path]:
    """Make a folder of mode 0700 with at least `needed` bytes free; it is removed whatever happens.

    Everything that asks for a temporary folder meanwhile gets it in this one, so that nothing outlives a kill for long.

    Args:
        parent: where to make it; the system's temporary folder when None.
        needed: estimate in bytes.
        what: what the space is for, for the message.

    Raises:
        SpoolError: the folder cannot be made, there is not enough room, or the disk filled up during the work.
    """
    root = parent or temporary_folder()
    try:
        _sweep(root)
        free = shutil.disk_usage(root).free
        if free < needed + SLACK:
            raise SpoolError(
                f"{root}: {what} needs about {mebibytes(needed + SLACK)} MiB, {mebibytes(free)} MiB are free; "
                "give another folder with --spool, or make room"
            )
        folder, lock = _make(root)
    except OSError as error:
        raise SpoolError(f"{root}: cannot be used as the spool: {error.strerror}; give another with --spool") from None
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield folder
    except OSError as error:
        if error.errno in FULL:
            raise SpoolError(full(root)) from None
        raise
    finally:
        if tempfile.tempdir == str(folder):
            tempfile.tempdir = before if before and Path(before).is_dir() else None
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(root: Path) -> tuple[Path, int]:
    """Make a locked folder; it has a name that others look at only when it is locked."""
    new = Path(tempfile.mkdtemp(prefix=NEW, dir=root))
    lock = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return new.rename(root / new.name.replace(NEW, PREFIX)), lock


def _sweep(root: Path) -> None:
    """Remove what killed runs left."""
    young = time.time() - YOUNG_SECONDS
    for folder in [*root.glob(PREFIX + "*"), *(new for new in root.glob(NEW + "*") if _changed(new) < young)]:
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:  # another user's, or gone since
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


def _changed(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:  # it has its name by now
        return time.time()


def full(root: Path) -> str:
    """Say that the disk of `root` is full."""
    return f"{root}: the disk filled up (or a size limit was met) during the work; give another folder with --spool"


def mebibytes(size: int) -> int:
    """Return whole MiB, rounded up."""
    return -(-size // (1 << 20))


def says_full(text: str, returncode: int) -> bool:
    """Say whether a tool's messages, or the signal that ended it, mean a full disk or a file-size limit."""
    return (
        os.strerror(errno.ENOSPC) in text
        or os.strerror(errno.EFBIG) in text
        or os.strerror(errno.EDQUOT) in text
        or _HALF_A_BLOCK.search(text) is not None
        or returncode in (-25, 128 + 25)  # SIGXFSZ
    )
