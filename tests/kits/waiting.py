"""Wait for what comes by itself."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(condition: Callable[[], object], seconds: float = 60, pause: float = 0.01) -> None:
    """Ask until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"did not come within {seconds:g} s"
        time.sleep(pause)
