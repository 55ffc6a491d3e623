"""Run pg_dump, and upload each of its files from the moment it appears until its writer has closed it.

/proc shows which file is still being written: pg_dump opens each data file once. Without /proc the
files are uploaded after the dump. A stream uses no disk, and one connection dumps everything.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path

from ops.core.errors import DatabaseLostError, SourceError, SpoolError
from ops.core.files import reports_full_disk
from ops.core.workdir import full
from ops.repository.records import LISTING, STREAM_FILE
from ops.sources.base import Outbox
from ops.sources.postgres.small_file_batches import MOST, PACK, SMALL, Packer
from ops.sources.postgres.tools import Endpoint, Tool, find_tool, run_tool, tool_message, with_parent_death_signal

TICK_SECONDS = 0.1
LOST = re.compile(
    r"server closed the connection|terminating connection|SSL connection has been closed|connection reset by peer"
    r"|could not (receive data from|send data to) server|connection refused"
    r"|the database system is (shutting down|starting up)",
    re.IGNORECASE,
)
"""What pg_dump says when the server, or the way to it, went away."""
HELD = 64
"""How many uploaded files stay open, to check that nobody writes to them any more."""
COMMON = ("--compress=0", "--no-password", "--lock-wait-timeout=60000", "--no-subscriptions")


class Running:
    """A running pg_dump. Call `look` until it returns False, then `conclude`."""

    def __init__(self, process: subprocess.Popen[str], endpoint: Endpoint, folder: Path) -> None:
        self._process, self._endpoint, self._folder = process, endpoint, folder
        self._messages = list[str]()
        self._listener = threading.Thread(target=self._listen, daemon=True)  # a disk may be full, so no file
        self._listener.start()

    def close(self) -> None:
        """Terminate it if it still runs, and read its last message."""
        if self._process.poll() is None:
            self._process.terminate()  # not kill: it then cancels its workers' queries
        self._process.wait()
        self._listener.join()

    def runs(self, outbox: Outbox) -> bool:
        """Return True if pg_dump still runs.

        Raises:
            SourceError: it failed.
            SpoolError: it found the disk full.
            OpsError: the outbox failed, so the rest of the dump would be useless.
        """
        outbox.check()
        if self._process.poll() is None:
            return True
        self._listener.join()
        if self._process.returncode != 0:
            stderr = "".join(self._messages)
            if reports_full_disk(stderr, self._process.returncode):
                raise SpoolError(full(self._folder.parent))
            kind = DatabaseLostError if LOST.search(stderr) else SourceError
            raise kind(f"{self._endpoint}: pg_dump failed: {tool_message(stderr)}")
        return False

    def wait(self, seconds: float = TICK_SECONDS) -> None:
        """Wait a moment, or until it ends."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def _listen(self) -> None:
        if self._process.stderr is not None:
            with self._process.stderr as stderr:
                self._messages += stderr


class RunningStream(Running):
    """A pg_dump into a pipe, which is complete only when pg_dump has succeeded."""

    spool_bytes = 0

    def look(self, outbox: Outbox) -> bool:
        """Return True if pg_dump still runs; see `runs`."""
        if self.runs(outbox):
            return True
        outbox.finish(self._folder / STREAM_FILE)
        return False

    def conclude(self, tool: Tool, variables: Mapping[str, str]) -> dict[Path, str]:
        """Return the only file with its content; its list of entries is read when it is fetched."""
        del tool, variables
        return {self._folder / STREAM_FILE: "the whole dump"}


class RunningDump(Running):
    """A pg_dump into a folder. `spool_bytes` is the maximum in it at once."""

    def __init__(self, process: subprocess.Popen[str], endpoint: Endpoint, folder: Path) -> None:
        super().__init__(process, endpoint, folder)
        self._growing: set[Path] = set()
        self._handed: set[Path] = set()
        self._packer = Packer(folder)
        self._held = dict[str, tuple[int, int]]()
        self.spool_bytes = 0

    def close(self) -> None:
        """Terminate it if it still runs, and close the files that are held open."""
        super().close()
        for file, _ in self._held.values():
            os.close(file)
        self._held.clear()

    def look(self, outbox: Outbox) -> bool:
        """Start to upload new files and finish complete ones; return True if pg_dump still runs.

        Raises:
            SourceError: pg_dump failed, or wrote to a file after its upload; see also `runs`.
        """
        running = self.runs(outbox)
        sizes = self._data_files()
        for path in [path for path, size in sizes.items() if size >= SMALL]:
            self._growing.add(path)
            self._hand_out(path, outbox)
            del sizes[path]
        still_open = _open_files(self._process.pid) if running else set[str]()
        if still_open is not None:
            for path in [path for path in self._growing if str(path) not in still_open]:
                self._growing.remove(path)
                self._hold(path)
                outbox.finish(path)
            closed = [path for path in sizes if str(path) not in still_open]
            if len(closed) >= MOST or sum(sizes[path] for path in closed) >= PACK:
                # by their current size: some may have grown since the first look
                small = [path for path in closed if path.stat().st_size < SMALL]
                for path in small:
                    self._hold(path)
                pack = self._packer.pack(small)
                self._hand_out(pack, outbox)
                outbox.finish(pack)
        if not running:
            for name in list(self._held):
                self._release(name)
        return running

    def _hold(self, path: Path) -> None:
        """Keep an uploaded file open, with its current size."""
        while len(self._held) >= HELD:
            self._release(next(iter(self._held)))
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._held[path.name] = (file, os.fstat(file).st_size)

    def _release(self, name: str) -> None:
        """Close an uploaded file.

        Raises:
            SourceError: it has grown since.
        """
        file, size = self._held.pop(name)
        grown = os.fstat(file).st_size
        os.close(file)
        if grown != size:
            raise SourceError(
                f"{self._endpoint}: pg_dump wrote to {name} ({size} bytes, now {grown}) after it had gone out: "
                "/proc does not show its open files; run the backup again with `stream`"
            )

    def _hand_out(self, path: Path, outbox: Outbox) -> None:
        self._handed.add(path)
        outbox.begin(path)

    def conclude(self, tool: Tool, variables: Mapping[str, str]) -> dict[Path, str]:
        """Return every file of the dump with its content, uploaded or not.

        Raises:
            SourceError: the table of contents cannot be read, or names data that no file has.
        """
        listing = run_tool(find_tool("pg_restore", at_least=tool.version), ["--list", str(self._folder)], variables)
        if listing.returncode != 0:
            raise SourceError(f"{self._endpoint}: the new dump cannot be listed: {tool_message(listing.stderr)}")
        tables = table_files(listing.stdout)
        left = {path for path in self._folder.iterdir() if path.is_file()} - self._handed
        small = {path for path in left if path.name != LISTING and path.stat().st_size < SMALL}
        if len(small) > 1:
            left = left - small | {self._packer.pack(small)}
        files, packs = left | self._handed, self._packer.packs
        names = {path.name for path in files}.union(*packs.values())
        lost = sorted(tables.keys() - names)
        if lost:
            raise SourceError(f"{self._endpoint}: pg_dump wrote no file for {tables[lost[0]]}")
        named = {LISTING: "table of contents of the dump", "blobs.toc": "list of the large objects"}
        held = {name: tables.get(name) or named.get(name) or "large objects" for name in names}
        return {path: self._packer.holds(path, held) if path in packs else held[path.name] for path in sorted(files)}

    def _data_files(self) -> dict[Path, int]:
        """Return the data files that were not uploaded yet, with their sizes in bytes."""
        found, used = dict[Path, int](), 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat()
                except FileNotFoundError:  # sent since
                    continue
                used += status.st_blocks * 512
                path = Path(entry.path)
                if path.suffix == ".dat" and path.name != LISTING and path not in self._handed:
                    found[path] = status.st_size
        self.spool_bytes = max(self.spool_bytes, used)
        return found


@contextlib.contextmanager
def dumping(
    tool: Tool, endpoint: Endpoint, variables: Mapping[str, str], folder: Path, options: list[str]
) -> Generator[RunningDump]:
    """Start pg_dump in directory format, uncompressed, into `folder`; the end of the block ends it."""
    folder.mkdir(mode=0o700)
    folder = folder.resolve()  # as in /proc
    command = [str(tool.path), "--format=directory", f"--file={folder}", "--no-sync", *COMMON, *options]
    with contextlib.closing(RunningDump(_start(command, variables, subprocess.DEVNULL), endpoint, folder)) as running:
        yield running


@contextlib.contextmanager
def streaming(  # noqa: PLR0913, PLR0917  # as `dumping`, and where to
    tool: Tool, endpoint: Endpoint, variables: Mapping[str, str], folder: Path, options: list[str], outbox: Outbox
) -> Generator[RunningStream]:
    """Start pg_dump in custom format, uncompressed, into a pipe in `folder` that the outbox reads."""
    folder.mkdir(mode=0o700)
    pipe = folder / STREAM_FILE
    os.mkfifo(pipe, 0o600)
    outbox.begin(pipe)
    end = _reader_has_come(pipe, outbox)
    try:
        process = _start([str(tool.path), "--format=custom", *COMMON, *options], variables, end)
    finally:
        os.close(end)  # pg_dump has its own copy
    with contextlib.closing(RunningStream(process, endpoint, folder)) as running:
        yield running


def _reader_has_come(pipe: Path, outbox: Outbox) -> int:
    """Open the pipe for writing once a reader has opened it: data written before that would be lost."""
    while True:
        outbox.check()
        try:
            end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            time.sleep(TICK_SECONDS / 10)
        else:
            os.set_blocking(end, True)
            return end


def _start(command: list[str], variables: Mapping[str, str], stdout: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*with_parent_death_signal(), *command],
        env=dict(variables) | {"LC_MESSAGES": "C"},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        restore_signals=False,  # SIGXFSZ stays ignored: a file-size limit is then an error with a name
    )


def table_files(listing: str) -> dict[str, str]:
    """Return each table's data file with its content, from the output of `pg_restore --list`."""
    held: dict[str, str] = {}
    for line in listing.splitlines():
        identifier, _, rest = line.partition("; ")
        words = rest.split()  # tableoid oid TABLE DATA schema table owner
        if identifier.isdigit() and words[2:4] == ["TABLE", "DATA"]:
            held[f"{identifier}.dat"] = f"table {words[4]}.{' '.join(words[5:-1])}"
    return held


def _open_files(pid: int) -> set[str] | None:
    """Return the files that a process and its children hold open; None if this is unknown.

    A worker is forked before it opens a file: a file that was seen before the call, and is not in the result, is
    closed. Only "no such file" and "no such process" mean that a process or a file is gone; any other error means that
    the result is unknown.
    """
    found = set[str]()
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for process in (str(pid), *children):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for entry in os.scandir(f"/proc/{process}/fd"):
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                        found.add(str(Path(entry.path).readlink()))
    except OSError:
        return None
    return found
