"""The same work for many items: in order, several at a time, and none goes on when one fails."""

from __future__ import annotations

import threading
import time

import pytest

from ops.core.errors import StoreError
from ops.core.workers import run_all


def test_results_come_in_the_order_of_the_items_whoever_is_first():
    assert run_all(lambda n: time.sleep(0.05 if n == 0 else 0) or n * 2, range(5), workers=3) == [0, 2, 4, 6, 8]
    assert run_all(str, [], workers=3) == []


def test_several_run_at_a_time():
    meeting = threading.Barrier(3, timeout=30)
    run_all(lambda _: meeting.wait(), range(3), workers=3)


def test_the_first_error_cancels_what_has_not_begun_and_stops_what_runs():
    stop, begun, ended = threading.Event(), [], []

    def work(number):
        begun.append(number)
        if number == 0:
            raise StoreError("the first")
        assert stop.wait(30), "nobody said stop"
        ended.append(number)

    with pytest.raises(StoreError, match="the first"):
        run_all(work, range(100), workers=2, stop=stop)
    assert len(begun) < 100
    assert set(ended) == set(begun) - {0}, "what ran has ended before the error is raised"
