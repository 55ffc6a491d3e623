"""Allow one run per backup set at a time, and note failed runs, for the next one to clean up after.

The lock is this computer's. A source that two computers could back up is locked at the source (PostgreSQL: an advisory
lock in the session of the dump).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator

from ops.core.errors import BusyError, SpoolError
from ops.core.files import atomic_write, locked, runtime_folder

KEPT = 20
"""Maximum number of notes of failed runs. Retention removes what older runs left."""


@contextlib.contextmanager
def only_run(what: str, note: str) -> Generator[tuple[str, ...]]:
    """Hold the lock of `what`. Yields the notes of runs that died or failed since the last success.

    Args:
        what: name of the lock, such as environment and backup set.
        note: a word for the next run, should this one die or raise before it has cleaned up everywhere.

    Raises:
        BusyError: another run holds it.
        SpoolError: its folder is missing or cannot be written.
    """
    name = re.sub(r"[^A-Za-z0-9.-]", "_", what)
    path, notes = (runtime_folder() / f"{name}.{kind}" for kind in ("lock", "failed"))
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(path, wait=False))
            left = notes.read_text().split()[-KEPT:] if notes.exists() else []
            atomic_write(notes, " ".join([*left, note]).encode(), mode=0o600)
        except BusyError:
            raise BusyError(f"{what}: another run is in progress here; wait for it ({path})") from None
        except OSError as error:
            raise SpoolError(f"{error.filename or path}: the lock cannot be created: {error.strerror}") from None
        yield tuple(left)
        notes.unlink(missing_ok=True)
