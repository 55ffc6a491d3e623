"""Reading a file, or a pipe, while somebody still writes to it; what has been read gives its disk space back."""

from __future__ import annotations

import ctypes
import os
import select
import stat
import threading
from pathlib import Path
from typing import Self

from ops.core.errors import OpsError, SpoolError
from ops.core.progress import Advance, ignored

BLOCK = 1 << 20
POLL_SECONDS = 0.05
HOLE = 32 << 20
"""Bytes that are given back at once."""

_PUNCH_HOLE_KEEP_SIZE = 0x03  # linux/falloc.h


class CancelledError(Exception):
    """Another part of the same work failed; this one stopped for it."""


class Growing:
    """A file that grows at its end while it is read; it ends where it is when `whole` is set.

    A pipe ends only then too, not when its writer closes it: a writer that died closes its end as well. `advance` is
    told of every block.
    """

    def __init__(
        self, path: Path, whole: threading.Event, cancelled: threading.Event, advance: Advance = ignored
    ) -> None:
        self._pipe = stat.S_ISFIFO(path.stat().st_mode)
        self._file, self._writable = _open(path, pipe=self._pipe)
        self._path, self._whole, self._cancelled, self._advance = path, whole, cancelled, advance
        self._freed = 0
        self.size = 0
        self.error: OpsError | CancelledError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def read(self, size: int = BLOCK, /) -> bytes:
        """Return the next bytes; nothing at the end. Waits where the writer is slower."""
        while True:
            if self._cancelled.is_set():
                raise self._stop(CancelledError(str(self._path)))
            whole = self._whole.is_set()  # before the read: what was written before it is then seen
            try:
                block = os.read(self._file, size)
            except BlockingIOError:  # a pipe that is empty, and whose writer still has it open
                block = b""
                if not whole:
                    select.select([self._file], [], [], POLL_SECONDS)
                    continue
            except OSError as error:
                raise self._stop(SpoolError(f"{self._path}: cannot be read: {error.strerror}")) from None
            if block:
                self.size += len(block)
                self._advance(len(block))
                self._give_back()
                return block
            if whole:
                self._hold_to_size()
                return b""
            self._whole.wait(POLL_SECONDS)

    def _hold_to_size(self) -> None:
        size = self.size if self._pipe else os.fstat(self._file).st_size
        if size != self.size:
            raise self._stop(SpoolError(f"{self._path}: {self.size} bytes were read of a file of {size}"))

    def _give_back(self) -> None:
        if self._writable and self.size - self._freed >= HOLE:
            self._writable = _punch(self._file, self._freed, self.size - self._freed)
            self._freed = self.size

    def _stop(self, error: OpsError | CancelledError) -> OpsError | CancelledError:
        self.error = error
        return error


def _open(path: Path, *, pipe: bool) -> tuple[int, bool]:
    """Open for reading; say whether holes may be punched, which asks for the right to write."""
    if not pipe:
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            return file, os.fstat(file).st_nlink == 1  # under another name somebody else still reads it
        except PermissionError:
            pass
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), False  # a pipe's writer may still have to come


def _punch(file: int, offset: int, length: int) -> bool:
    """Free the blocks of a part of a file, whose size stays; say whether this system can."""
    fallocate = getattr(ctypes.CDLL(None), "fallocate", None)  # Python has none; Linux alone
    if fallocate is None:
        return False
    arguments = (ctypes.c_int(file), ctypes.c_int(_PUNCH_HOLE_KEEP_SIZE), ctypes.c_long(offset), ctypes.c_long(length))
    return bool(fallocate(*arguments) == 0)
