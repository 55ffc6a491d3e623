"""What was asked of the sandbox, one JSON line a call, without secrets. It outlives restarts.

A line is written when the outcome is certain and before the answer leaves. `committed`: the account has changed.
"""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REDACTED = "[redacted]"

# `url` is redacted because the only URLs in request bodies are Slack webhooks, which are credentials.
_SECRET_FIELDS = frozenset(
    {"password", "secret_key", "user_data", "private_key", "token", "uri", "url", "auth", "access_token"}
)


def redact(value: Any) -> Any:
    """Return a copy of a JSON value in which every secret field is replaced by `[redacted]`."""
    if isinstance(value, dict):
        return {
            str(name): REDACTED if name in _SECRET_FIELDS and inner is not None else redact(inner)
            for name, inner in value.items()
        }
    return [redact(inner) for inner in value] if isinstance(value, list) else value


class Journal:
    """An append-only file of calls, numbered from 1."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seq = max((entry["seq"] for entry in self.read()), default=0)
        # O_APPEND: a line is one write, so a kill leaves whole lines behind (a torn last one is skipped when read).
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        if size := os.fstat(self._file).st_size:
            os.write(self._file, b"" if os.pread(self._file, 1, size - 1) == b"\n" else b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def write(self, **entry: Any) -> int:
        """Append one call and return its number."""
        with self._lock:
            self._seq += 1
            line = {"seq": self._seq, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **redact(entry)}
            os.write(self._file, (json.dumps(line) + "\n").encode())
            return self._seq

    def read(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the calls after number `since`."""
        if not self._path.exists():
            return []
        entries: list[dict[str, Any]] = []
        for line in self._path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # the torn last line of a killed sandbox
            if entry["seq"] > since:
                entries.append(entry)
        return entries
