"""How far pg_restore has come with the rows of a directory archive: of each data file what it has read of it.

A file is read by one worker, from its beginning to its end. Where it stands is in /proc; without that, a file counts
when pg_restore says that its table is done.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ops.core.progress import Advance, Meter

LOOK_SECONDS = 1.0
_DONE = re.compile(r"finished item (\d+) TABLE DATA")
_DATA = re.compile(r"(?:blob_)?\d+\.dat")


@contextmanager
def loading(folder: Path, meter: Meter, what: str) -> Generator[Callable[[str], None]]:
    """Show how much of the archive in `folder` is loaded; yields what takes each line of `pg_restore --verbose`."""
    total = sum(path.stat().st_size for path in _data(folder))
    if not total:  # a stream, of which all files are one
        yield lambda _: None
        return
    with meter(what, total) as advance, following(folder, advance) as loaded:
        loaded.expect()
        yield loaded.hear


@contextmanager
def following(folder: Path, advance: Advance) -> Generator[Loaded]:
    """Tell `advance` of what is loaded of the files that are expected in `folder`."""
    stop, loaded = threading.Event(), Loaded(folder.resolve(), advance)
    looking = threading.Thread(target=loaded.watch, args=(stop,), daemon=True)
    looking.start()
    try:
        yield loaded
    finally:
        stop.set()
        looking.join()


def _data(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if _DATA.fullmatch(path.name))


class Loaded:
    """What is known of each file, in bytes. It is told by one thread and looks with another."""

    def __init__(self, folder: Path, advance: Advance) -> None:
        self._folder, self._advance = folder, advance
        self._sizes: dict[str, int] = {}
        self._read: dict[str, int] = {}
        self._lock = threading.Lock()

    def expect(self) -> int:
        """Take note of the data files that are there now; returns the bytes of those that were not before."""
        with self._lock:
            new = {path.name: path.stat().st_size for path in _data(self._folder) if path.name not in self._sizes}
            self._sizes |= new
            self._read |= dict.fromkeys(new, 0)
            return sum(new.values())

    def finish(self) -> None:
        """Take note that all of them are loaded."""
        for name, size in list(self._sizes.items()):
            self._note(name, size)

    def hear(self, line: str) -> None:
        """Take a line of pg_restore."""
        if match := _DONE.search(line):
            name = f"{match[1]}.dat"
            self._note(name, self._sizes.get(name, 0))

    def watch(self, stop: threading.Event) -> None:
        """Look from time to time, until `stop`."""
        while not stop.wait(LOOK_SECONDS):
            for name, position in positions(self._folder):
                self._note(name, position)

    def _note(self, name: str, read: int) -> None:
        with self._lock:
            more = min(read, self._sizes.get(name, 0)) - self._read.get(name, 0)
            if more > 0:
                self._read[name] += more
                self._advance(more)


def positions(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield each file of `folder` that a process below this one has open, with how far it has read it."""
    for process in _below("self"):
        with suppress(OSError):  # it has ended
            for entry in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError, ValueError):  # closed meanwhile
                    file = entry.readlink()
                    if file.parent == folder:
                        told = Path(f"/proc/{process}/fdinfo/{entry.name}").read_text()
                        yield file.name, int(told.split(maxsplit=2)[1])  # "pos:\t<bytes>"


def _below(process: str) -> Iterator[str]:
    with suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            with suppress(OSError):
                for child in (thread / "children").read_text().split():
                    yield child
                    yield from _below(child)
