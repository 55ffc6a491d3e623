"""A short stretch that Ctrl-C and SIGTERM wait for: between asking for what costs money and knowing how to end it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_back(report: Callable[[str], None], what: str) -> Generator[None]:
    """Hold SIGINT and SIGTERM back until the block has ended, then let them through as one KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are delivered to the main thread alone
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
