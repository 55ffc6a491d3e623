"""Work behind the answers: one lane a key, in worker threads, repeated until it succeeds.

A job is told only its key and reads the store to learn what should be (level-triggered): running one twice, or again
after a crash, ends in the same place. Two calls that touch what is being worked on cost one more run, not two.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from sandbox.parts.base import PartError

log = logging.getLogger(__name__)

_FIRST_RETRY = 1.0  # seconds, doubled up to
_LAST_RETRY = 30.0
_STOPPED = "the sandbox is being stopped"


class Jobs:
    """Runs `run(key)`, never twice at once for the same key."""

    def __init__(self, run: Callable[[str], None], *, workers: int = 8) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._queued: dict[str, Future[None]] = {}
        self._running: set[str] = set()
        self._delay: dict[str, float] = {}
        self._timers: dict[str, threading.Timer] = {}
        self._closed = False
        self._workers = workers
        # One a kind of job: forks may take a quarter of an hour each, and a DNS record must not wait for them.
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self.problems: dict[str, str] = {}
        self._failures: dict[str, int] = {}

    def submit(self, key: str) -> Future[None]:
        """Ask for a run that starts after now; the future ends with it, well or not, or with `close`."""
        with self._lock:
            if key in self._queued:
                return self._queued[key]
            future: Future[None] = Future()
            if self._closed:
                future.set_exception(PartError(_STOPPED))
                return future
            self._queued[key] = future
            if key not in self._running:
                self._running.add(key)
                kind = key.partition(":")[0]
                if kind not in self._pools:
                    self._pools[kind] = ThreadPoolExecutor(self._workers, thread_name_prefix=f"sandbox-{kind}")
                self._pools[kind].submit(self._drain, key)
            return future

    def stuck(self, key: str, times: int = 3) -> str | None:
        """Return why the job `key` failed, if it failed so many times in a row; else None."""
        return self.problems.get(key) if self._failures.get(key, 0) >= times else None

    def later(self, key: str, seconds: float) -> None:
        """Ask for a run after so long, instead of the one that was asked for so before."""
        with self._lock:
            if self._closed:
                return
            if key in self._timers:
                self._timers[key].cancel()
            timer = self._timers[key] = threading.Timer(seconds, self.submit, (key,))
            timer.daemon = True
            timer.start()

    def settle(self, seconds: float) -> bool:
        """Wait until no work is queued, running or tried again later, at most so long; return True if that came."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self._lock:
                if not self._queued and not self._running and not self._delay:
                    return True
            time.sleep(0.02)
        return False

    def _drain(self, key: str) -> None:
        while True:
            with self._lock:
                future = self._queued.pop(key, None)
                if future is None:
                    self._running.discard(key)
                    return
            try:
                self._run(key)
            except Exception as error:  # noqa: BLE001 - whatever a part raises must reach who waits, not die here
                log.warning("%s: %s; trying again", key, error)
                self.problems[key] = str(error)
                self._failures[key] = self._failures.get(key, 0) + 1
                self._retry_later(key)
                future.set_exception(error)
            else:
                self.problems.pop(key, None)
                self._failures.pop(key, None)
                self._delay.pop(key, None)
                future.set_result(None)

    def _retry_later(self, key: str) -> None:
        with self._lock:
            delay = self._delay.get(key, _FIRST_RETRY)
            self._delay[key] = min(delay * 2, _LAST_RETRY)
        self.later(key, delay)

    def close(self) -> None:
        """Start nothing more; what runs now runs to its end."""
        with self._lock:
            self._closed = True
            for timer in self._timers.values():
                timer.cancel()
            for future in self._queued.values():
                future.set_exception(PartError(_STOPPED))
            self._queued.clear()
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)
