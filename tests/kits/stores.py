"""Stores of backups that do not do what they are asked."""

from __future__ import annotations

import threading
from typing import Any

from ops.core.errors import StoreError


class FaultyStore:
    """A store that fails at its call number `at` (counted from 0), once; everything else is the real one's.

    The calls of an upload (`put`, `complete`) count too. `calls` is how many there were.
    """

    def __init__(self, store: Any, at: int | None = None, error: BaseException | None = None) -> None:
        self._store, self._at, self._error, self.calls = store, at, error, 0
        self._lock = threading.Lock()

    def count(self, call: str) -> None:
        """Count a call; fail if it is the one."""
        with self._lock:
            number, self.calls = self.calls, self.calls + 1
        if number == self._at:
            raise self._error or StoreError(f"{call}: the line was cut")

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if not callable(real):
            return real

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count(name)
            done = real(*args, **kwargs)
            return _FaultyUpload(self, done) if name == "upload" else done

        return counted


class _FaultyUpload:
    def __init__(self, store: FaultyStore, upload: Any) -> None:
        self._store, self._upload = store, upload
        self.abort = upload.abort

    def put(self, number: int, part: bytes) -> None:
        self._store.count("put")
        self._upload.put(number, part)

    def complete(self) -> None:
        self._store.count("complete")
        self._upload.complete()
