"""A folder as a store: for copies that are damaged on purpose, and for a disk that is carried away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from ops.errors import ObjectMissingError, StoreError
from ops.stores.base import ByteStream, StoredObject

_PART = 1 << 20


class FolderStore:
    """Objects are files under `root`. A file gets its name when it is whole."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.root)

    def put_stream(self, key: str, stream: ByteStream, *, expected_size: int) -> None:
        """Write the stream beside its place, then rename."""
        del expected_size  # a file has no parts
        path = self._path(key)
        partial = path.with_name(path.name + ".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                while block := stream.read(_PART):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
        finally:
            partial.unlink(missing_ok=True)

    def put_bytes(self, key: str, content: bytes) -> None:
        """Write a small file."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(path.name + ".partial")
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from error

    @contextmanager
    def open(self, key: str) -> Generator[BinaryIO]:
        """Open the file."""
        try:
            file = self._path(key).open("rb")
        except FileNotFoundError:
            raise ObjectMissingError(f"{self.name}: no object {key}") from None
        except OSError as error:
            raise StoreError(f"{self._path(key)}: cannot be read: {error.strerror}") from error
        with file:
            yield file

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Walk the folder."""
        if not self.root.is_dir():
            return
        for path in sorted(self.root.rglob("*")):
            key = path.relative_to(self.root).as_posix()
            if path.is_file() and key.startswith(prefix) and not key.endswith(".partial"):
                status = path.stat()
                yield StoredObject(key=key, size=status.st_size, modified=datetime.fromtimestamp(status.st_mtime, UTC))

    def delete(self, keys: Iterable[str]) -> None:
        """Unlink files, and folders left empty."""
        for key in keys:
            path = self._path(key)
            path.unlink(missing_ok=True)
            if path.parent.is_dir() and not any(path.parent.iterdir()):
                shutil.rmtree(path.parent)

    def abort_uploads(self, prefix: str, *, older_than_hours: float = 0) -> int:
        """Nothing to do: an unfinished file is unlinked by the one who wrote it."""
        del prefix, older_than_hours
        return 0

    def _path(self, key: str) -> Path:
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise StoreError(f"{self.name}: the key {key} leads out of the folder")
        return path
