"""Work that is killed with -9 at a chosen step, in a process of its own.

A step is a statement sent to PostgreSQL, a program started (before it, and while it is at work), or a change in the
file system under the folders that are watched.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg

END = "the end"
AT_WORK_SECONDS = 0.6
"""A program is killed within this time of its start."""

CHANGES = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.chmod", "os.rmdir"}

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["boto3", "ops.restore.restore", "ops.restore.swap", "ops.targets.kinds", "ops.drill.kinds.backup"]
)


def run(work, *arguments, at=None, watched=(), seed=0):
    """Do `work(*arguments)` and kill it before its step `at` (from 0, or what it is, or what says so of it; or never).

    Returns its exit code, -9 when it was killed, and the steps that it came to, the last one being the deadly one.
    """
    reader, writer = processes.Pipe(duplex=False)
    process = processes.Process(
        target=_work, args=(work, arguments, at, writer), kwargs={"watched": watched, "seed": seed}
    )
    process.start()
    writer.close()
    steps = []
    try:
        while True:
            steps.append(reader.recv())
    except EOFError:
        pass
    process.join(120)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode, steps


def _work(work, arguments, at, writer, *, watched, seed):
    numbers = itertools.count()

    def step(what, wait=0.0):
        writer.send(what)
        if at in {next(numbers), what} or (callable(at) and at(what)):
            time.sleep(wait)
            os.kill(os.getpid(), signal.SIGKILL)

    _hook(step, tuple(map(str, watched)), random.Random(seed))
    work(*arguments)
    step(END)


def _hook(step, watched, chance):
    execute, start = psycopg.Connection.execute, subprocess.Popen.__init__

    def stepping_execute(self, query, *args, **kwargs):
        step(f"statement: {query if isinstance(query, str) else getattr(query, 'as_string', lambda _: query)(self)}")
        return execute(self, query, *args, **kwargs)

    def stepping_start(self, command, *args, **kwargs):
        words = [str(word) for word in command]
        step(f"before {' '.join(words)}")
        start(self, command, *args, **kwargs)
        step(f"while {' '.join(words)}", chance.uniform(0, AT_WORK_SECONDS))

    def on_event(event, details):
        if event in CHANGES or (event == "open" and isinstance(details[1], str) and details[1][0] in "wxa"):
            place = str(details[0]) if not isinstance(details[0], int) else ""
            if place.startswith(watched or "\0"):
                step(f"{event} {Path(place).name}")

    psycopg.Connection.execute = stepping_execute
    subprocess.Popen.__init__ = stepping_start
    sys.addaudithook(on_event)


def sample(count, seed, size=4):
    """Draw steps of `count`: always one near the end, where it is decided what is taken for whole."""
    near_the_end = random.Random(seed).randrange(max(0, count - 4), count)
    others = random.Random(seed).sample(range(count), min(size, count))
    return sorted({*others, near_the_end})
