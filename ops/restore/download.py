"""Fetch and verify the files of a backup: all before a restore begins, or some while it is running."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from ops.core.errors import IntegrityError
from ops.core.progress import OnBytes, noop
from ops.core.workers import run_all
from ops.repository.download import Fetcher, Identities
from ops.repository.incremental import Piece
from ops.repository.manifest import ObjectRecord
from ops.repository.stores.base import Store
from ops.repository.tail_reader import BLOCK, CancelledError
from ops.repository.upload import WORKERS
from ops.sources.base import Pour, RestoreTarget, never


@dataclass(frozen=True, kw_only=True)
class FetchedDownload:
    """All files are in `folder`. `pours` streams those that the target wants as a stream."""

    folder: Path
    pours: Mapping[str, Pour] = field(default_factory=dict[str, Pour])

    def wait(self, check: Callable[[], None] = never) -> Path:
        """Return the folder."""
        del check
        return self.folder


def fetched(folder: Path, target: RestoreTarget[object], advance: OnBytes = noop) -> FetchedDownload:
    """Return the download of a folder that has all files; `advance` is called with the bytes read by `pours`."""
    files = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: -path.stat().st_size)
    pours: dict[str, Pour] = {path.name: partial(_read, path, advance) for path in files if target.streams(path.name)}
    return FetchedDownload(folder=folder, pours=pours)


def _read(path: Path, advance: OnBytes, write: Callable[[bytes], object]) -> None:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            write(block)
            advance(len(block))


def fetch(store: Store, pieces: Iterable[Piece], folder: Path, identities: Identities, advance: OnBytes = noop) -> None:
    """Fetch and verify objects, largest first; those of earlier backups go into folders named by their ids.

    Raises:
        IntegrityError, ObjectMissingError, KeyProblemError: see `ops.repository.download`.
    """
    cancelled = threading.Event()

    def one(piece: Piece) -> None:
        fetcher = Fetcher(store=store, prefix=piece.prefix, identities=identities, cancelled=cancelled, advance=advance)
        fetcher.one(piece.entry, piece.folder(folder))

    largest_first = sorted(pieces, key=lambda piece: -piece.entry.size)
    run_all(one, largest_first, workers=WORKERS, name="fetch", stop=cancelled)


class StreamingDownload:
    """Fetches files while the target is being filled; see `ops.sources.base.Download`."""

    def __init__(
        self,
        fetcher: Fetcher,
        objects: Iterable[ObjectRecord],
        folder: Path,
        target: RestoreTarget[object],
        *,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        ordered = sorted(objects, key=lambda entry: -entry.file_size)
        self.folder = folder
        self.pours: dict[str, Pour] = {
            entry.file: partial(self._pour, entry) for entry in ordered if target.streams(entry.file)
        }
        files = [entry for entry in ordered if not target.streams(entry.file)]
        self._first = [entry for entry in files if target.needs_first(entry.file)]
        self._others = [entry for entry in files if entry not in self._first]
        self._fetcher, self._waiting = fetcher, waiting
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="files")

    def __enter__(self) -> Self:
        """Fetch the files needed first, and start to fetch the other ones that are needed as files.

        Raises:
            IntegrityError: a file needed first is not in the backup.
            OpsError: see `ops.repository.download.Fetcher.all`.
        """
        if not self._first:
            raise IntegrityError("the manifest names no table of contents of the dump: it is incomplete")
        with self._waiting():
            self._get(self._first)
        self._rest = self._pool.submit(self._get, self._others)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the fetches in progress."""
        self._fetcher.cancelled.set()
        self._pool.shutdown()

    def wait(self, check: Callable[[], None] = never) -> Path:
        """Wait until all files are in the folder, or until `check`, which is called every second, raises.

        Raises:
            OpsError: see `ops.repository.download.Fetcher.all`.
        """
        with self._waiting():
            while not wait([self._rest], timeout=1).done:
                check()
            self._rest.result()
        return self.folder

    def _get(self, entries: list[ObjectRecord]) -> None:
        self._fetcher.all(entries, self.folder)
        self._fetcher.advance(sum(entry.file_size for entry in entries))  # small: loaded quickly once fetched

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
