"""Provide locks, atomic writes and detection of full disks for all packages."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ops.core.environment import environment
from ops.core.errors import BusyError, SpoolError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TORN_BLOCK = re.compile(r"wrote only \d+ of \d+ bytes")
"""PostgreSQL's message when part of its last block still fitted on the disk."""


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Generator[None]:
    """Hold an exclusive lock on a file of this computer. The kernel releases it when the process ends, however it ends.

    The file is created where it is missing, with mode 0600, and stays. Its content is left as it is.

    Args:
        path: the lock file; its folder must exist. A symbolic link is refused.
        wait: whether to wait for the lock while another process holds it.

    Raises:
        BusyError: another process holds it, and `wait` is False.
        OSError: the file cannot be opened.
    """
    lock = FileLock(path, timeout=-1 if wait else 0, mode=0o600, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(f"{path}: another run holds this lock") from None
    try:
        yield
    finally:
        lock.release()


def atomic_write(path: Path, content: bytes, *, mode: int) -> None:
    """Replace a file's content: after a crash it holds the old content or the new one, never a part.

    The mode is set before the first byte is written. The folder must exist.

    Raises:
        OSError: the file cannot be written; it is unchanged.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def runtime_folder() -> Path:
    """Return the private folder for locks, which must be the same one for every run of a user.

    That is /run/ancla for root and /tmp/ancla-UID for others, whatever TMPDIR or XDG_RUNTIME_DIR are: two runs with
    different ones must still block each other. $ANCLA_RUNTIME replaces it.

    Raises:
        SpoolError: it cannot be created, or another user could write into it.
    """
    user = os.geteuid()
    folder = environment().runtime or Path("/run/ancla" if user == 0 else f"/tmp/ancla-{user}")  # noqa: S108  # its owner and mode are checked below
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise SpoolError(
            f"{folder}: the folder for locks cannot be created: {error.strerror}; set ANCLA_RUNTIME"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SpoolError(
            f"{folder}: is not a folder that only this user can write into, so its locks cannot be trusted; "
            "remove it, or set ANCLA_RUNTIME to another one"
        )
    return folder


def disk_full(error: OSError) -> bool:
    """Return True if an error means a full disk, an exhausted quota or a file-size limit."""
    return error.errno in _FULL


def reports_full_disk(text: str, returncode: int) -> bool:
    """Return True if a tool's messages, or the signal that ended it, indicate a full disk or a file-size limit."""
    return (
        any(os.strerror(code) in text for code in _FULL)
        or _TORN_BLOCK.search(text) is not None
        or returncode in (-25, 128 + 25)  # SIGXFSZ
    )
