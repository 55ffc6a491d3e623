"""A store that is unreachable for an hour, by a clock that only our waiting moves: all is red, and clean after it."""

from __future__ import annotations

import json
import os
import random
import threading

import botocore.endpoint
import pytest

from ops.core.errors import StoreError
from ops.repository import catalog
from ops.repository.stores import retry, s3
from ops.repository.stores.s3 import S3Store
from tests.ops import drill_kit
from tests.ops.drill_kit import identity
from tests.ops.faults import FaultyLine
from tests.ops.test_cli import ops, outputs, refused, write

__all__ = ["identity", "ops", "outputs"]

SEED = int(os.environ["ANCLA_SEED"])
HOUR = 3600
BOUNDED = 20 * 60
"""Seconds in which a command must have given up, however many requests it has under way."""


class FakeClock:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self):
        self.now, self._lock = 0.0, threading.Lock()

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        with self._lock:
            self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = FakeClock()
    for module in (retry, s3, botocore.endpoint):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def line(s3_endpoint, clock):
    """The way to the store; `cut_off` breaks it from a request on until an hour later."""
    with FaultyLine(s3_endpoint, lambda number, method, path: None) as line:

        def cut_off(after=0):
            first, end = len(line.requests) + after, []

            def fault(number, method, path):
                if number < first:
                    return None
                end[:] = end or [clock.now + HOUR]
                return "reset" if clock.now < end[0] else None

            line.fault = fault

        line.cut_off = cut_off
        yield line


@pytest.fixture
def beyond(line, bucket):
    return bucket.model_copy(update={"endpoint": line.address})


@pytest.mark.long
def test_every_command_is_one_red_line_for_an_hour_and_as_before_after_it(  # noqa: PLR0917 - fixtures add up
    ops, outputs, tmp_path, line, beyond, clock, monkeypatch
):
    monkeypatch.setenv("ANCLA_STATE", str(tmp_path / "state"))  # the alerts of this test alone
    outputs["backup"]["destinations"] = [beyond.model_dump()]
    file = write(tmp_path, outputs)
    made = ops("backup", "create", "--outputs", file, "--json")
    assert made.returncode == 0, made.stderr
    (backup,) = json.loads(made.stdout)["backups"]
    commands = (
        ("backup", "create", "--json"),
        ("backup", "fresh"),
        ("backup", "verify", "--all"),
        ("backup", "prune", "--yes"),
        ("backup", "list"),
        ("restore",),
        ("drill", "--evidence", tmp_path / "evidence"),
    )
    line.cut_off()
    for command in commands:
        begun = clock.now
        done = ops(*command, "--outputs", file)
        refused(done, "s3://", "no answer")
        assert clock.now - begun < 60, f"{command}: a store that never answered is given up soon"
    assert list((tmp_path / "evidence").glob("*")) == [], "there is no evidence of nothing"
    raised = ops("watch", "alerts", "--outputs", file)
    assert raised.returncode == 3
    assert "no backup of shop was made" in raised.stdout
    assert "cannot check for backups" in raised.stdout or "cannot be verified" in raised.stdout
    clock.sleep(HOUR)
    for command in commands:
        done = ops(*command, "--outputs", file)
        assert done.returncode == 0, (command, done.stderr)
    assert ops("watch", "alerts", "--outputs", file).returncode == 0
    listed = json.loads(ops("backup", "list", "--outputs", file, "--json").stdout)["backups"]
    assert [entry["complete"] for entry in listed] == [True, True]
    assert listed[0]["id"] == backup["id"]


@pytest.mark.long
def test_what_was_proved_before_the_hour_began_has_its_evidence(ops, outputs, tmp_path, line, beyond, clock):  # noqa: PLR0917 - fixtures add up
    outputs["backup"]["destinations"] = [beyond.model_dump()]
    outputs["database"]["databases"] += ["postgres"]
    file = write(tmp_path, outputs)
    assert ops("backup", "create", "--outputs", file).returncode == 0
    before = len(line.requests)
    assert ops("drill", "--outputs", file, "--name", "shop", "--evidence", "first").returncode == 0
    line.cut_off(after=len(line.requests) - before)
    done = ops("drill", "--outputs", file, "--may-be-empty", "--evidence", "second", "--json")
    refused(done, "postgres: s3://", "no answer")
    assert json.loads(done.stdout)["name"] == "shop"
    (document,) = tmp_path.glob("second/drill-*.json")
    assert json.loads(document.read_text())["verdict"] == "green"
    clock.sleep(HOUR)
    done = ops("drill", "--outputs", file, "--name", "postgres", "--may-be-empty", "--evidence", "second")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("second/drill-*.json"))) == 2


def calls_of(line, work):
    before = len(line.requests)
    work()
    return len(line.requests) - before


@pytest.fixture
def outage_from(source, identity, line, beyond, key, clock, s3):  # noqa: PLR0917 - fixtures add up
    """Let the hour begin at a call of a backup; None counts the calls."""

    def back_up():
        drill_kit.make(source, identity, S3Store(beyond, key))

    def check(at):
        s3.delete([item.key for item in s3.list("")])
        if at is None:
            return calls_of(line, back_up)
        line.cut_off(after=at)
        for _ in range(2):
            begun = clock.now
            with pytest.raises(StoreError, match="no answer") as red:
                back_up()
            assert "\n" not in str(red.value)
            assert clock.now - begun < BOUNDED
        assert [entry.complete for entry in catalog.entries(s3, "shop")] in ([], [False]), at
        clock.sleep(HOUR)
        back_up()
        assert [entry.complete for entry in catalog.entries(s3, "shop")] == [True], f"call {at} (ANCLA_SEED={SEED})"
        assert s3.abort_uploads("") == 0
        return None

    return check


def test_a_backup_that_the_hour_begins_in_leaves_nothing_after_the_first_that_ends_well(outage_from):
    """Two runs fail, the second one at once: what the first could not remove is not forgotten for that."""
    print(f"ANCLA_SEED={SEED}")
    calls = outage_from(None)
    for at in random.Random(SEED).sample(range(calls - 1), 2):
        outage_from(at)


@pytest.mark.all
def test_whenever_the_hour_begins_a_backup_leaves_nothing_after_the_first_that_ends_well(outage_from):
    for at in range(outage_from(None) - 1):  # the last call makes it complete
        outage_from(at)


def test_an_outage_shorter_than_our_patience_is_not_even_seen(source, identity, line, beyond, key, clock, s3):  # noqa: PLR0917 - fixtures add up
    """The control: a minute is ridden out, at any call after the first."""
    store = S3Store(beyond, key)
    drill_kit.make(source, identity, store)
    calls = calls_of(line, lambda: drill_kit.make(source, identity, store))
    first = len(line.requests) + random.Random(SEED).randrange(calls)
    line.fault = lambda number, method, path: "reset" if number >= first and clock.now < 60 else None
    clock.now = 0
    drill_kit.make(source, identity, store)
    assert clock.now >= 60
    assert [entry.complete for entry in catalog.entries(s3, "shop")] == [True] * 3
