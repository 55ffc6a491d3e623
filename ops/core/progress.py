"""Define how work reports its progress, in bytes. `ops.core.console.progress` shows it to a person."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

OnBytes = Callable[[int], None]
"""Called from any thread with the number of bytes done since the last call."""


class ProgressFactory(Protocol):
    """Opened for one phase of work; yields the callback that the work calls as it proceeds."""

    def __call__(self, what: str, total: int, /, *, about: bool = False) -> AbstractContextManager[OnBytes]:
        """Begin a phase.

        Args:
            what: the work, such as `fetching shop`.
            total: bytes; 0 if unknown.
            about: the total is an estimate, which the work may exceed or not reach.
        """
        ...


@contextmanager
def no_progress(what: str, total: int, /, *, about: bool = False) -> Generator[OnBytes]:
    """Show nothing."""
    del what, total, about
    yield noop


def noop(done: int, /) -> None:
    """Ignore the bytes reported."""
    del done
