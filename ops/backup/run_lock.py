"""One run at a time of one backup set, and a note of the runs that failed, for the next one to clean up after.

The lock is this computer's. What two computers could back up at once is locked where it is (PostgreSQL: an advisory
lock in the session of the dump).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator

from ops.core.errors import BusyError, SpoolError
from ops.core.files import atomic_write, locked, runtime_folder

KEPT = 20
"""Notes of failed runs. What older ones left is so old that retention removes it."""


@contextlib.contextmanager
def only_run(what: str, note: str) -> Generator[tuple[str, ...]]:
    """Hold the lock of `what`. Yields the notes of the runs that died or failed since one succeeded.

    Args:
        what: names the lock, such as environment and backup set.
        note: one word that the next run gets, should this one die or raise: it may not have cleaned up everywhere.

    Raises:
        BusyError: another run holds it.
        SpoolError: there is no folder for it, or it cannot be written.
    """
    name = re.sub(r"[^A-Za-z0-9.-]", "_", what)
    path, notes = (runtime_folder() / f"{name}.{kind}" for kind in ("lock", "failed"))
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(path, wait=False))
            left = notes.read_text().split()[-KEPT:] if notes.exists() else []
            atomic_write(notes, " ".join([*left, note]).encode(), mode=0o600)
        except BusyError:
            raise BusyError(f"{what}: another run is at work here; wait for it ({path})") from None
        except OSError as error:
            raise SpoolError(f"{error.filename or path}: the lock cannot be made: {error.strerror}") from None
        yield tuple(left)
        notes.unlink(missing_ok=True)
