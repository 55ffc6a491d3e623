"""A store whose reads are timed, so that a drill can tell waiting for the store from decrypting and decompressing."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from ops.repository.stores.base import Store, StoredObject, Upload


class TimedStore:
    """Another store, with `seconds`: how long all threads together waited for its bytes."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self.seconds = 0.0

    @property
    def name(self) -> str:
        """The store's own."""
        return self._store.name

    @contextmanager
    def open(self, key: str) -> Generator[BinaryIO]:
        """Read an object, and time it."""
        begun = time.monotonic()
        with self._store.open(key) as body:
            timed = _TimedBody(body, time.monotonic() - begun)
            try:
                yield cast("BinaryIO", timed)
            finally:
                with self._lock:
                    self.seconds += timed.seconds

    def upload(self, key: str) -> Upload:
        """The store's own."""
        return self._store.upload(key)

    def put_bytes(self, key: str, content: bytes) -> None:
        """The store's own."""
        self._store.put_bytes(key, content)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """The store's own."""
        return self._store.list(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        """The store's own."""
        self._store.delete(keys)

    def abort_uploads(self, prefix: str, *, older_than_hours: float = 0) -> int:
        """The store's own."""
        return self._store.abort_uploads(prefix, older_than_hours=older_than_hours)


class _TimedBody:
    def __init__(self, body: BinaryIO, seconds: float) -> None:
        self._body = body
        self.seconds = seconds

    def read(self, size: int = -1, /) -> bytes:
        begun = time.monotonic()
        try:
            return self._body.read(size)
        finally:
            self.seconds += time.monotonic() - begun
