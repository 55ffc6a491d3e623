"""Commands run as children of a plugin, each a process group that ends as a whole."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from sandbox.plugins.errors import ProviderError


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to run, where, and with which variables added; `timeout` in seconds."""

    command: str
    interpreter: Sequence[str]
    folder: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    stdin: str = field(default="", repr=False)
    timeout: float | None = None


@dataclass(frozen=True)
class Ran:
    """What a command said, without the last line's end."""

    stdout: str = field(repr=False)
    stderr: str = field(repr=False)


class Children:
    """The commands that run now."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._lock = threading.Lock()
        self._ended = False

    def run(self, order: Order, tell: Mapping[str, Callable[[str], None]]) -> Ran:
        """Run one command to its end; `tell` gets each line of "stdout" and "stderr" as it comes.

        Raises:
            ProviderError: it could not start, or ended badly; the message has the command and what it said, in the
                official words, and neither its stdin nor its variables.
        """
        try:
            process = subprocess.Popen(
                [*order.interpreter, order.command],
                cwd=order.folder,
                env={**os.environ, **order.environment},
                stdin=subprocess.PIPE if order.stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ProviderError(f"{error.strerror}: {error.filename}: running {_quoted(order.command)}") from None
        with self._watched(process, order.timeout):
            both, texts = _said(process, order.stdin, tell)
        if process.returncode:
            said = both.decode(errors="replace")
            raise ProviderError(f"{_end(process.returncode)}: running {_quoted(order.command)}:\n{said}")
        return Ran(*(text.decode(errors="replace").removesuffix("\n") for text in texts))

    def end(self) -> None:
        """End everything that runs and whatever is started from now on."""
        with self._lock:
            self._ended = True
            for group in self._groups:
                end_group(group)

    @contextlib.contextmanager
    def _watched(self, process: subprocess.Popen[bytes], timeout: float | None):  # noqa: ANN202 - a context manager
        with self._lock:
            self._groups.add(process.pid)
            if self._ended:
                end_group(process.pid)
        late = threading.Timer(timeout, end_group, (process.pid,)) if timeout else None
        if late is not None:
            late.start()
        try:
            yield
            process.wait()
        finally:
            if late is not None:
                late.cancel()
            with self._lock:
                self._groups.discard(process.pid)


def _said(
    process: subprocess.Popen[bytes], stdin: str, tell: Mapping[str, Callable[[str], None]]
) -> tuple[bytes, tuple[bytes, bytes]]:
    """Feed and read a process until it closes its outputs; returns both in the order they came, and each."""
    both, out, err = bytearray(), bytearray(), bytearray()

    def pump(name: str, pipe: IO[bytes] | None, text: bytearray) -> None:
        for line in pipe or ():
            text.extend(line)
            both.extend(line)
            if name in tell:
                tell[name](line.decode(errors="replace").rstrip("\n"))

    pumps = [
        threading.Thread(target=pump, args=("stdout", process.stdout, out), daemon=True),
        threading.Thread(target=pump, args=("stderr", process.stderr, err), daemon=True),
    ]
    for thread in pumps:
        thread.start()
    if process.stdin is not None:
        # A command that ends without reading has said why in its exit status.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(stdin.encode())
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    for thread in pumps:
        thread.join()
    return bytes(both), (bytes(out), bytes(err))


def _end(code: int) -> str:
    return f"signal: {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _quoted(command: str) -> str:
    escaped = command.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def end_group(group: int) -> None:
    """Kill a process group; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
