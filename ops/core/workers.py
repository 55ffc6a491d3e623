"""Run the same work for many items concurrently."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_all(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    name: str = "worker",
    stop: threading.Event | None = None,
) -> list[Result]:
    """Call `work` for each item in a pool of threads; return the results in the order of the items.

    The first error, or an interrupt, cancels pending calls and is raised after the running ones have ended.

    Args:
        work: called with one item.
        items: in the order to start.
        workers: number of threads.
        name: prefix of the threads' names.
        stop: set at the first error, for work that can end early.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix=name) as pool:
        futures = [pool.submit(work, item) for item in items]
        with cancel_on_error(futures, stop or threading.Event()):
            pass
        return [future.result() for future in futures]


@contextmanager
def cancel_on_error(futures: Sequence[Future[Any]], stop: threading.Event) -> Generator[None]:
    """Wait for all futures at the end of the block. If one of them or the block fails, cancel the rest, set `stop`."""
    try:
        yield
        for future in as_completed(futures):
            future.result()
    except BaseException:  # an interrupt too
        stop.set()
        for future in futures:
            future.cancel()
        raise
