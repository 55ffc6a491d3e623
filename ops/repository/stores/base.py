"""What a place for backups must be able to do. Keys are paths with `/`, relative to the store's own prefix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object as a listing shows it. `size` in bytes."""

    key: str
    size: int
    modified: datetime


class Upload(Protocol):
    """An object on its way, in parts of one size, the last one alone shorter. Parts may come from several threads."""

    def put(self, number: int, part: bytes) -> None:
        """Store part `number`, counted from 1. Asked again with the same part, it is stored again."""
        ...

    def complete(self) -> None:
        """Make the object be there; all its parts are stored."""
        ...

    def abort(self) -> None:
        """Leave nothing. Never raises."""
        ...


class Store(Protocol):
    """A place for backups. Every method may raise `StoreError`; an object is there completely, or not at all."""

    @property
    def name(self) -> str:
        """What messages call it, such as s3://bucket/prefix."""
        ...

    def upload(self, key: str) -> Upload:
        """Begin to store an object in parts."""
        ...

    def put_bytes(self, key: str, content: bytes) -> None:
        """Store a small object."""
        ...

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Read an object as a stream. Raises `ObjectMissingError` when it is not there."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose key begins with `prefix`, ordered by key."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there is no error."""
        ...

    def abort_uploads(self, prefix: str, *, older_than_hours: float = 0) -> int:
        """End uploads under `prefix` that were begun and never completed; return how many."""
        ...
