"""Create private temporary folders that are locked while in use and removed if their process died.

The folder has a lock file. If its lock is free, its process was killed; the next process that makes a folder
of that kind in the same place removes it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ops.core.errors import BusyError, SpoolError
from ops.core.files import disk_full, locked

SLACK = 64 << 20
"""Bytes that must stay free beside the estimate."""

SPOOL = "ancla-work-"
PRIVATE = "ancla-private-"
LOCK = ".ancla-lock"
YOUNG_SECONDS = 600
"""A folder without a lock file is left alone for this many seconds: its process may be about to take the lock."""


def temporary_folder() -> Path:
    """Return the system's folder for temporary files.

    Raises:
        SpoolError: none is writable.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # raised whatever the reason was that none is writable
        tried = str(error.strerror).partition("[")[2].rstrip("]").replace("'", "")
        raise SpoolError(f"no temporary folder can be written ({tried}): is the disk full?") from None


@contextmanager
def work_folder(
    root: Path, prefix: str, *, mode: int = 0o700, is_kept: Callable[[Path], bool] = lambda _: False
) -> Generator[Path]:
    """Create a locked folder in `root`; it is removed at the end unless `is_kept` returns True for it.

    Raises:
        OSError: it cannot be created.
    """
    with ExitStack() as held:
        folder = _make(root, prefix, held)
        try:
            folder.chmod(mode)
            yield folder
        finally:
            if not is_kept(folder):
                shutil.rmtree(folder, ignore_errors=True)


def sweep(
    root: Path, prefix: str, *, expired: Callable[[Path], bool] = lambda _: True, now: float | None = None
) -> list[Path]:
    """Remove the folders of processes that died, where `expired` returns True for them; return those removed.

    Args:
        root: where to look.
        prefix: prefix of the folders' names.
        expired: called while the folder's lock is held, so that no other process takes it meanwhile.
        now: seconds since 1970.
    """
    moment = time.time() if now is None else now
    found = [folder for folder in sorted(root.glob(f"{prefix}*")) if folder.is_dir() and not folder.is_symlink()]
    for folder in found:
        try:
            if not (folder / LOCK).exists():
                if age(folder, moment) > YOUNG_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            with locked(folder / LOCK, wait=False):
                if expired(folder):
                    shutil.rmtree(folder, ignore_errors=True)
        except (BusyError, OSError):  # in use, another user's, or removed since
            continue
    return [folder for folder in found if not folder.exists()]


def age(folder: Path, now: float) -> float:
    """Return the seconds since a folder changed; 0 when it is gone."""
    try:
        return now - folder.stat().st_mtime
    except OSError:
        return 0


@contextmanager
def private_folder() -> Generator[Path]:
    """Create a folder of mode 0700 for a few small files, such as a password that a program reads from a file.

    Raises:
        SpoolError: it cannot be created.
    """
    root = temporary_folder()
    sweep(root, PRIVATE)
    with ExitStack() as held:
        try:
            folder = held.enter_context(work_folder(root, PRIVATE))
        except OSError as error:
            raise SpoolError(f"{root}: no temporary folder can be created there: {error.strerror}") from None
        yield folder


@contextmanager
def spool(parent: Path | None, *, needed: int, what: str) -> Generator[Path]:
    """Create a folder of mode 0700 with at least `needed` bytes free; it is removed whatever happens.

    Args:
        parent: where to create it; None is the system's temporary folder.
        needed: estimate in bytes.
        what: the use of the space, for the message.

    Raises:
        SpoolError: the folder cannot be created, there is not enough space, or the disk filled up during the work.
    """
    root = parent or temporary_folder()
    with ExitStack() as held:
        try:
            sweep(root, SPOOL)
            free = shutil.disk_usage(root).free
            if free < needed + SLACK:
                raise SpoolError(
                    f"{root}: {what} needs about {mebibytes(needed + SLACK)} MiB, {mebibytes(free)} MiB are free; "
                    "give another folder with --spool, or free some space"
                )
            folder = held.enter_context(work_folder(root, SPOOL))
        except OSError as error:
            raise SpoolError(
                f"{root}: cannot be used as the spool: {error.strerror}; give another with --spool"
            ) from None
        try:
            yield folder
        except OSError as error:
            if disk_full(error):
                raise SpoolError(full(root)) from None
            raise


def full(root: Path) -> str:
    """Return the message for a full disk under `root`."""
    return f"{root}: the disk filled up (or a size limit was reached) during the work; give another folder with --spool"


def mebibytes(size: int) -> int:
    """Convert bytes to MiB, rounded up."""
    return -(-size // (1 << 20))


def _make(root: Path, prefix: str, held: ExitStack) -> Path:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        try:
            held.enter_context(locked(folder / LOCK, wait=False))
        except BusyError:  # a sweep was quicker and removes it
            continue
        except OSError:
            if folder.exists():
                shutil.rmtree(folder, ignore_errors=True)
                raise
            continue
        if (folder / LOCK).exists():
            return folder
