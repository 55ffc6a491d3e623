"""One run at a time, of one backup set: a lock that the kernel takes back from whoever dies, and says who has failed.

Machines do not share it. What two machines could back up at once is locked where it is (PostgreSQL: an advisory lock
in the session of the dump).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Generator
from pathlib import Path

from ops.core.errors import BusyError, SpoolError
from ops.core.workdir import temporary_folder

KEPT = 20
"""Notes of failed runs. What older ones left is so old that retention clears it away."""


@contextlib.contextmanager
def only_run(what: str, note: str) -> Generator[tuple[str, ...]]:
    """Hold the lock of `what`. Yields the notes of the runs that died or failed since one ended well.

    Args:
        what: names the lock, such as environment and backup set.
        note: one word that the next run gets, should this one die or raise: it may not have cleaned up everywhere.

    Raises:
        BusyError: another run holds it.
        SpoolError: there is no folder for it.
    """
    try:
        path = runtime_folder() / (re.sub(r"[^A-Za-z0-9.-]", "_", what) + ".lock")
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise SpoolError(f"{error.filename}: the lock cannot be made: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"{what}: another run is at work here; wait for it ({path})") from None
        file.seek(0)
        left = file.read().split()[-KEPT:]
        _write(file.fileno(), " ".join([*left, note]))
        yield tuple(left)
        _write(file.fileno(), "")


def runtime_folder() -> Path:
    """Return the folder for what lives as long as the machine runs: /run/ancla for root, else the user's own.

    `ANCLA_RUNTIME` is taken instead where it is set.
    """
    chosen = os.environ.get("ANCLA_RUNTIME")
    if chosen:
        folder = Path(chosen)
    elif os.geteuid() == 0:
        folder = Path("/run/ancla")
    else:
        base = os.environ.get("XDG_RUNTIME_DIR")
        folder = Path(base) / "ancla" if base else temporary_folder() / f"ancla-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _write(file: int, text: str) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, text.encode(), 0)
