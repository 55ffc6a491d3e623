"""The files of a dump on their way into the spool, for a restore that loads what is there while the rest comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from ops.backup.manifest import ObjectRecord
from ops.errors import IntegrityError, SpoolError
from ops.meter import Advance
from ops.sources.pg_loading import Loaded
from ops.sources.pg_packs import is_pack, unpack
from ops.sources.pg_restore import LISTING, archive_in


def in_order(objects: Iterable[ObjectRecord]) -> list[ObjectRecord]:
    """Return objects as a restore needs them: what names all the rest, many small tables, then the largest ones first.

    The list of the archive is the last thing that pg_dump writes, so it may be in the last of the packs.
    """
    return sorted(objects, key=lambda entry: (entry.file != LISTING and not is_pack(entry.file), -entry.size))


class Arriving(Iterator[list[ObjectRecord]]):
    """What comes: `next` waits until more is there. A file that has its name is whole, and packs are unpacked.

    `loaded` and `advance` are told of what is there to be loaded.
    """

    def __init__(
        self,
        fetched: Iterator[list[ObjectRecord]],
        folder: Path,
        advance: Advance,
        loaded: Loaded,
        *,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.loaded = loaded
        self._error: BaseException | None = None
        self._complete = False
        self._fetched, self._folder, self._advance, self._waiting = fetched, folder, advance, waiting

    def __next__(self) -> list[ObjectRecord]:
        """Return the objects that came since the last time.

        Raises:
            OpsError: see `ops.backup.fetch.Fetcher.arriving`.
        """
        try:
            with self._waiting():
                came = next(self._fetched)
                unpack(self._folder)
        except StopIteration:
            raise
        except BaseException as error:
            self._error = error
            raise
        # what is no table's counts as loaded when it has come
        self._advance(sum(entry.file_size for entry in came) - self.loaded.expect())
        return came

    def wait_for_archive(self) -> None:
        """Wait for what names all the rest.

        Raises:
            IntegrityError: it is not among what was backed up.
        """
        while not archive_in(self._folder).is_file() and not (self._folder / LISTING).exists():
            if next(self, None) is None:
                raise IntegrityError(f"the manifest names no {LISTING}: this is no whole dump")

    def finish(self) -> None:
        """Wait for the rest, though no table needs it; all of it is loaded."""
        for _ in self:
            pass
        self._complete = True
        self.loaded.finish()

    def gave_up(self, error: BaseException) -> bool:
        """Say whether an error ended the way here early: the backup is not whole, or this machine's disk is full."""
        if self._complete or isinstance(error, KeyboardInterrupt):
            return False
        return error is self._error or isinstance(error, OSError | SpoolError)
