"""Write to the terminal: results to stdout, progress to stderr, JSON on request."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.text import Text

from ops.core.errors import OpsError
from ops.core.progress import OnBytes

SECONDS_BETWEEN_LINES = 5
"""Seconds between two progress lines where stderr is not a terminal."""

MIB = 1 << 20

out = Console(soft_wrap=True, emoji=False, highlight=False)  # `:key:` is a key name here, not an emoji
err = Console(stderr=True, soft_wrap=True, emoji=False, highlight=False)


class Progress(StrEnum):
    """How progress is shown: as bars where stderr is a terminal and lines elsewhere, as lines, or as JSON lines."""

    AUTO = "auto"
    PLAIN = "plain"
    JSON = "json"


_shown = Progress.AUTO


def show_progress(way: Progress) -> None:
    """Choose how this process shows progress."""
    global _shown  # noqa: PLW0603  # one stderr, one choice
    _shown = way


def print_json(document: Any) -> None:
    """Print one JSON document, as it is, on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")


@dataclass
class _Course:
    """Progress of one phase of work, in bytes."""

    what: str
    total: int
    about: bool
    done: int = 0
    begun: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Return the average number of bytes per second so far."""
        return self.done / max(time.monotonic() - self.begun, 1e-3)

    @property
    def left(self) -> float | None:
        """Return the estimated seconds left; None if there is nothing to estimate them from."""
        if not self.rate or self.done > self.total:
            return None
        return (self.total - self.done) / self.rate

    def __str__(self) -> str:
        total = f" of {'about ' * self.about}{self.total / MIB:.0f}" if self.total else ""
        told = f"{self.done / MIB:.0f}{total} MiB, {self.rate / MIB:.1f} MiB/s"
        if self.left is None:
            return told
        return f"{told}, {f'{self.left:.0f} s' if self.left < 120 else timedelta(seconds=round(self.left))} left"

    def as_json(self) -> str:
        """Return the progress as one line of JSON."""
        eta = None if self.left is None else round(self.left)
        facts = {"what": self.what, "done": self.done, "total": self.total, "about": self.about}
        return json.dumps(facts | {"rate": round(self.rate), "eta_seconds": eta}, ensure_ascii=False)


@contextmanager
def progress(what: str, total: int, /, *, about: bool = False) -> Generator[OnBytes]:
    """Show the progress of work on `total` bytes; see `ops.core.progress.ProgressFactory`.

    On a terminal this is a bar with rate and time left, removed at the end. Elsewhere it is a line every few seconds;
    with JSON there is also one at the end.
    """
    course = _Course(what=what, total=total, about=about)
    if _shown is Progress.AUTO and err.is_interactive and err.file.isatty():
        with _bar(course) as advance:
            yield advance
        return
    lock, told = threading.Lock(), course.begun

    def advance(done: int, /) -> None:
        nonlocal told
        with lock:
            course.done += done
            if time.monotonic() - told < SECONDS_BETWEEN_LINES:
                return
            told = time.monotonic()
            if _shown is Progress.JSON:
                _write(course.as_json())
            else:
                step(f"{what}: {course}")

    yield advance
    if _shown is Progress.JSON:
        with lock:
            _write(course.as_json())


@contextmanager
def _bar(course: _Course) -> Generator[OnBytes]:
    # imported here: only the few commands with a bar need it, and only on a terminal
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415

    class Numbers(ProgressColumn):
        """Show the numbers beside the bar."""

        def render(self, task: Task) -> Text:
            del task
            return Text(str(course), no_wrap=True)

    columns = (TextColumn("· {task.description}", markup=False), BarColumn(bar_width=12), Numbers())
    with Bars(*columns, console=err, transient=True) as bars:
        task = bars.add_task(course.what, total=course.total or None)
        lock = threading.Lock()

        def advance(done: int, /) -> None:
            with lock:
                course.done += done
            # work that exceeds its estimate is not finished yet
            bars.update(task, completed=course.done, total=max(course.total, course.done) or None)

        yield advance


def step(text: str) -> None:
    """Print one line about the current step, without markup."""
    if _shown is Progress.JSON:
        _write(json.dumps({"step": text}, ensure_ascii=False))
    else:
        err.print(Text.assemble(("· ", "dim"), text))


def relay(document: dict[str, Any]) -> None:
    """Show one JSON progress line of another `ops` in this process's own way."""
    if _shown is Progress.JSON:
        _write(json.dumps(document, ensure_ascii=False))
    elif isinstance(text := document.get("warning"), str):
        warning(text)
    elif isinstance(text := document.get("step"), str):
        step(text)
    elif isinstance(what := document.get("what"), str):
        with suppress(KeyError, TypeError, ValueError):  # another version's line; the next one may be readable
            done, total, rate = (float(document[key]) for key in ("done", "total", "rate"))
            begun = time.monotonic() - (done / rate if rate else 0)
            course = _Course(what=what, total=int(total), about=bool(document["about"]), done=int(done), begun=begun)
            step(f"{what}: {course}")


def confirm(question: str) -> None:
    """Ask for confirmation on stderr; stdout is for results. Ctrl-C interrupts as usual.

    Raises:
        OpsError: the answer is no, or stdin is closed.
    """
    err.print(Text(f"{question} [y/N]: "), end="")
    answer = sys.stdin.readline()
    if not answer:
        raise OpsError("stdin is closed; pass --yes. Nothing was changed")
    if answer.strip().lower() not in {"y", "yes"}:
        raise OpsError("not confirmed; nothing was changed")


def error(text: str) -> None:
    """Print the one-line message of a failed command."""
    if _shown is Progress.JSON:
        _write(json.dumps({"error": text}, ensure_ascii=False))
    else:
        err.print(Text.assemble(("error:", "bold red"), " ", text))


def interrupted() -> None:
    """Report that the command was interrupted by a person or by systemd."""
    if _shown is Progress.JSON:
        _write(json.dumps({"error": "interrupted"}))
    else:
        err.print("interrupted")


def warning(text: str) -> None:
    """Print a one-line warning about something that failed while the work goes on."""
    if _shown is Progress.JSON:
        _write(json.dumps({"warning": text}, ensure_ascii=False))
    else:
        err.print(Text.assemble(("warning:", "yellow"), " ", text))


def _write(line: str) -> None:
    err.file.write(line + "\n")
    err.file.flush()
