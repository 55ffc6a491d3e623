"""Read a file or a pipe while another process still writes it."""

from __future__ import annotations

import os
import select
import stat
import threading
from pathlib import Path
from typing import Self

from ops.core.errors import OpsError, SpoolError
from ops.core.progress import OnBytes, noop

BLOCK = 1 << 20
POLL_SECONDS = 0.05


class CancelledError(Exception):
    """The work was cancelled because another part of it failed."""


class TailReader:
    """Reads a growing file; `whole` is set once the file is complete.

    A pipe, too, ends only then, not when its writer closes it: a writer that died closes its end as well. `advance` is
    called with the size of every block.
    """

    def __init__(self, path: Path, whole: threading.Event, cancelled: threading.Event, advance: OnBytes = noop) -> None:
        self._pipe = stat.S_ISFIFO(path.stat().st_mode)
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe may have no writer yet
        self._path, self._whole, self._cancelled, self._advance = path, whole, cancelled, advance
        self.size = 0
        self.error: OpsError | CancelledError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def read(self, size: int = BLOCK, /) -> bytes:
        """Return the next bytes; nothing at the end. Waits for a slower writer."""
        while True:
            if self._cancelled.is_set():
                raise self._stop(CancelledError(str(self._path)))
            whole = self._whole.is_set()  # before the read, so that everything written before it is seen
            try:
                block = os.read(self._file, size)
            except BlockingIOError:  # an empty pipe whose writer still has it open
                block = b""
                if not whole:
                    select.select([self._file], [], [], POLL_SECONDS)
                    continue
            except OSError as error:
                raise self._stop(SpoolError(f"{self._path}: cannot be read: {error.strerror}")) from None
            if block:
                self.size += len(block)
                self._advance(len(block))
                return block
            if whole:
                self._require_all_read()
                return b""
            self._whole.wait(POLL_SECONDS)

    def _require_all_read(self) -> None:
        size = self.size if self._pipe else os.fstat(self._file).st_size
        if size != self.size:
            raise self._stop(SpoolError(f"{self._path}: {self.size} bytes were read, but the file has {size}"))

    def _stop(self, error: OpsError | CancelledError) -> OpsError | CancelledError:
        self.error = error
        return error
