"""Define the interface of a backup store. Keys are paths with `/`, relative to the store's own prefix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object in a listing. `size` in bytes."""

    key: str
    size: int
    modified: datetime


class Upload(Protocol):
    """An upload in parts of one size; only the last part may be shorter. Parts may come from several threads."""

    def put(self, number: int, part: bytes) -> None:
        """Store part `number`, counted from 1. Calling it again with the same part is safe."""
        ...

    def complete(self) -> None:
        """Make the object visible; all its parts are stored."""
        ...

    def abort(self) -> None:
        """Discard the upload. Never raises."""
        ...


class Store(Protocol):
    """A store for backups. Every method may raise `StoreError`; an object exists completely or not at all."""

    @property
    def name(self) -> str:
        """Return its name in messages, such as s3://bucket/prefix."""
        ...

    def upload(self, key: str) -> Upload:
        """Start to store an object in parts."""
        ...

    def put_bytes(self, key: str, content: bytes) -> None:
        """Store a small object."""
        ...

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Read an object as a stream. Raises `ObjectMissingError` if it does not exist."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose key begins with `prefix`, ordered by key."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a missing one is no error."""
        ...

    def abort_uploads(self, prefix: str, *, older_than_hours: float = 0) -> int:
        """Abort unfinished uploads under `prefix`; return their number."""
        ...
