"""Defer Ctrl-C and SIGTERM for a moment, such as between ordering a paid resource and knowing how to destroy it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def defer_interrupts(report: Callable[[str], None], what: str) -> Generator[None]:
    """Defer SIGINT and SIGTERM until the block has ended, then raise one KeyboardInterrupt for them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are delivered to the main thread only
        return
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        caught.append(number)
        report(f"interrupted; first {what}")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        raise KeyboardInterrupt
