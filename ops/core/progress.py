"""How work tells how far it has come, in bytes. `ops.core.console.progress` is how a person is shown it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]
"""Called, from any thread, with the bytes that were done since the last call."""


class Meter(Protocol):
    """Opened for a stretch of work; gives what is called while it goes on."""

    def __call__(self, what: str, total: int, /, *, about: bool = False) -> AbstractContextManager[Advance]:
        """Begin a stretch.

        Args:
            what: is done, such as `fetching shop`.
            total: bytes; 0 where nobody knows.
            about: the total is an estimate, which the work may pass or not reach.
        """
        ...


@contextmanager
def unseen(what: str, total: int, /, *, about: bool = False) -> Generator[Advance]:
    """Show nothing."""
    del what, total, about
    yield ignored


def ignored(done: int, /) -> None:
    """Take bytes that nobody counts."""
    del done
