"""A dump on its way from the store, for a restore that begins with what is there.

The list of the archive comes first. What is needed as files comes into a folder, while tables are made; the rows of
larger tables are in no file: they come when the restore asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from ops.core.errors import IntegrityError
from ops.repository.download import Fetcher
from ops.repository.manifest import ObjectRecord
from ops.repository.records import LISTING, ROWS_FILE, STREAM_FILE
from ops.repository.tail_reader import CancelledError
from ops.sources.postgres.copy_in import Pour
from ops.sources.postgres.restore_progress import Loaded
from ops.sources.postgres.small_file_batches import unpack


def goes_straight(entry: ObjectRecord) -> bool:
    """Say whether an object has the rows of one table and nothing else."""
    return ROWS_FILE.fullmatch(entry.file) is not None


class Coming:
    """What comes. `pours` has the rows of each file that is not in the folder, those with the most bytes first."""

    def __init__(
        self,
        fetcher: Fetcher,
        objects: Iterable[ObjectRecord],
        folder: Path,
        loaded: Loaded,
        *,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        ordered = sorted(objects, key=lambda entry: -entry.file_size)
        self.loaded = loaded
        self.pours: dict[str, Pour] = {
            entry.file: partial(self._pour, entry) for entry in ordered if goes_straight(entry)
        }
        self._files = [entry for entry in ordered if not goes_straight(entry)]
        self._fetcher, self._folder, self._waiting = fetcher, folder, waiting
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="files")

    def __enter__(self) -> Self:
        """Fetch what names all the rest, and begin with what else is needed as files.

        Raises:
            IntegrityError: there is no list among what was backed up.
            OpsError: see `ops.repository.download.Fetcher.all`.
        """
        first = [entry for entry in self._files if entry.file in (LISTING, STREAM_FILE)]
        with self._waiting():
            self._get(first or self._files)  # older backups have it among the small files
        if not any((self._folder / name).exists() for name in (LISTING, STREAM_FILE)):
            raise IntegrityError(f"the manifest names no {LISTING}: this is no whole dump")
        self._rest = self._pool.submit(self._get, [entry for entry in self._files if first and entry not in first])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give up what is on its way."""
        self._fetcher.cancelled.set()
        self._pool.shutdown()

    def files(self, check: Callable[[], None]) -> None:
        """Wait until all that is needed as files is there, or until `check` raises: it is asked every second.

        Raises:
            OpsError: see `ops.repository.download.Fetcher.all`.
        """
        with self._waiting():
            while not wait([self._rest], timeout=1).done:
                check()
            self._rest.result()

    def _get(self, entries: list[ObjectRecord]) -> None:
        self._fetcher.all(entries, self._folder)
        unpack(self._folder)
        # what is no table's counts as loaded when it has come
        self._fetcher.advance(sum(entry.file_size for entry in entries) - self.loaded.expect())

    def _pour(self, entry: ObjectRecord, write: Callable[[bytes], object]) -> None:
        def written(block: bytes) -> None:
            write(block)
            self._fetcher.advance(len(block))

        try:
            self._fetcher.pour(entry, written, compared=True)
        except CancelledError:
            if self._fetcher.cancelled.is_set() and (cause := self._rest.exception()):
                raise cause from None
            raise
