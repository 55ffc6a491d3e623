"""Use a folder as a store: for copies that are damaged on purpose, and for removable disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from ops.core.errors import DeleteRefusedError, ObjectMissingError, StoreError
from ops.repository.stores.base import StoredObject


class _FolderUpload:
    def __init__(self, path: Path) -> None:
        self._path, self._partial = path, path.with_name(path.name + ".partial")
        self._size = 0  # of every part except the last
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)

    def put(self, number: int, part: bytes) -> None:
        if number == 1:
            self._size = len(part)
        with _explained(self._path):
            left, offset = memoryview(part), (number - 1) * self._size
            while left:  # a nearly full disk accepts a part of it before it fails
                written = os.pwrite(self._file, left, offset)
                left, offset = left[written:], offset + written

    def complete(self) -> None:
        with _explained(self._path):
            os.fsync(self._file)
            os.close(self._file)
            self._partial.replace(self._path)

    def abort(self) -> None:
        with suppress(OSError):
            os.close(self._file)
        self._partial.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error


class FolderStore:
    """Keeps objects as files under `root`. A file gets its final name when it is complete."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """Return the folder's path."""
        return str(self.root)

    def upload(self, key: str) -> _FolderUpload:
        """Write the parts into a temporary file beside the final one, then rename."""
        return _FolderUpload(self._path(key))

    def put_bytes(self, key: str, content: bytes) -> None:
        """Write a small file."""
        upload = self.upload(key)
        try:
            upload.put(1, content)
            upload.complete()
        except BaseException:
            upload.abort()
            raise

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
        """Unlink files, and remove folders left empty."""
        for key in keys:
            path = self._path(key)
            try:
                path.unlink(missing_ok=True)
                if path.parent.is_dir() and not any(path.parent.iterdir()):
                    shutil.rmtree(path.parent)
            except PermissionError as error:
                raise DeleteRefusedError(f"{path}: not deleted: {error.strerror}") from None
            except OSError as error:
                raise StoreError(f"{path}: cannot be deleted: {error.strerror}") from None

    def abort_uploads(self, prefix: str, *, older_than_hours: float = 0) -> int:
        """Do nothing: an unfinished file is unlinked by its writer."""
        del prefix, older_than_hours
        return 0

    def _path(self, key: str) -> Path:
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise StoreError(f"{self.name}: the key {key} leads outside the folder")
        return path
