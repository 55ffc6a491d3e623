"""How long pg_restore's workers spent on rows and how long on indexes and constraints, by what it says of its work."""

from __future__ import annotations

import re
import time

_ITEM = re.compile(r"(launching|finished) item (\d+) (\S+(?: DATA)?)")
ROWS = frozenset({"TABLE DATA", "BLOBS", "SEQUENCE"})


class Loading:
    """Takes the lines of `pg_restore --verbose --jobs`; `rows` and `rest` are worker-seconds."""

    def __init__(self) -> None:
        self.rows = self.rest = 0.0
        self._begun: dict[str, float] = {}

    def __call__(self, line: str) -> None:
        """Take a line, at the moment it was written."""
        match = _ITEM.search(line)
        if match is None:
            return
        what, number, kind = match.groups()
        if what == "launching":
            self._begun[number] = time.monotonic()
        elif (begun := self._begun.pop(number, None)) is not None:
            seconds = time.monotonic() - begun
            if kind in ROWS:
                self.rows += seconds
            else:
                self.rest += seconds

    @property
    def share(self) -> float:
        """The part of the work that was rows; all of it where nothing was said."""
        whole = self.rows + self.rest
        return self.rows / whole if whole else 1.0
