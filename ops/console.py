"""What a person sees: results on stdout, progress on stderr, JSON when asked for."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

SECONDS_BETWEEN_LINES = 10
"""Of progress, where there is no terminal."""

out = Console(soft_wrap=True, emoji=False, highlight=False)  # `:key:` is a key here, no picture
err = Console(stderr=True, soft_wrap=True, emoji=False, highlight=False)


def print_json(document: Any) -> None:
    """Print one JSON document, as it is, on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")


@contextmanager
def progress(what: str, total: int) -> Generator[Callable[[int], None]]:
    """Show how far work of `total` bytes has come; yields what is called with the bytes that were done.

    On a terminal a bar with rate and time left. Elsewhere a line now and then, as JSON where ANCLA_PROGRESS=json.
    """
    if err.is_terminal:
        columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(TextColumn("[dim]·[/dim] {task.description}"), *columns, console=err, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.advance(task, done)
        return
    begun = told = time.monotonic()
    sofar, lock = 0, threading.Lock()

    def advance(done: int) -> None:
        nonlocal sofar, told
        with lock:
            sofar += done
            now = time.monotonic()
            if now - told < SECONDS_BETWEEN_LINES:
                return
            told = now
            rate = sofar / (now - begun)
        left = max(0, total - sofar) / rate if rate else 0
        if os.environ.get("ANCLA_PROGRESS") == "json":
            facts = {"what": what, "done": sofar, "total": total, "rate": round(rate), "eta_seconds": round(left)}
            err.file.write(json.dumps(facts) + "\n")
        else:
            mib = 1 << 20
            step(f"{what}: {sofar / mib:.0f} of {total / mib:.0f} MiB, {rate / mib:.1f} MiB/s, {left:.0f} s left")

    yield advance


def step(text: str) -> None:
    """Print one line of progress."""
    err.print(f"[dim]·[/dim] {text}")
