"""Clocks that are wrong, here or on the machine that made a backup: it is said, and nothing is lost by it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import botocore.auth
import pytest

from blueprint.fields import Duration
from blueprint.settings.backup import RetentionSettings
from ops.backup import create as making
from ops.backup.prune import act, make_plan
from ops.backup.retention import Candidate, decide
from ops.core.errors import BackupNotFoundError, StoreError
from ops.repository import catalog
from ops.repository.freshness import look
from tests.kits.messages import silent
from tests.ops import drill_kit
from tests.ops.drill_kit import identity
from tests.ops.prune_kit import LEAST, job, put
from tests.ops.prune_kit import NOW as NOON

__all__ = ["identity"]


@pytest.fixture
def made(source, identity, folder, monkeypatch):
    """Make a backup on a machine whose clock is wrong by some hours (the database's is right); returns the manifest."""

    def make(hours=0.0):
        def now(zone):
            return datetime.now(zone) + timedelta(hours=hours)

        with monkeypatch.context() as patch:
            patch.setattr(making, "datetime", SimpleNamespace(now=now))
            return drill_kit.make(source, identity, folder)

    return make


def freshness(folder):
    (found,) = look(folder, ["shop"], budget_hours=26, signer=None, now=datetime.now(UTC))
    return found


def test_a_backup_that_is_dated_to_come_is_not_taken_for_the_latest(made, folder, identity):
    made(-3)
    ahead, right = made(48), made()
    with pytest.raises(
        BackupNotFoundError, match=f"{ahead.id} of shop is dated in the future.*fix the clock"
    ) as refused:
        catalog.find(folder, "shop")
    assert "\n" not in str(refused.value)
    assert catalog.find(folder, "shop", right.id) == right, "it can be named"
    found = freshness(folder)
    assert found.backup == right.id
    assert f"{ahead.id} is dated in the future" in str(found)
    evidence = drill_kit.drill(folder, identity)
    assert "age" in {check.name for check in evidence.red}
    assert "h in the future: a clock" in evidence.summary()
    assert evidence.verdict == "red"


def test_a_clock_that_is_wrong_by_minutes_changes_nothing(made, folder, identity):
    made(-1)
    ahead = made(0.05)
    assert catalog.find(folder, "shop") == ahead
    assert freshness(folder).fresh
    assert drill_kit.drill(folder, identity).verdict == "green"


def test_a_run_says_that_the_store_has_a_later_backup(source, identity, folder, monkeypatch):
    told = []
    monkeypatch.setattr(drill_kit, "silent", told.append)
    drill_kit.make(source, identity, folder)
    assert not any("warning" in line for line in told)
    behind = datetime.now(UTC) - timedelta(hours=30)
    monkeypatch.setattr(making, "datetime", SimpleNamespace(now=lambda zone: behind))
    drill_kit.make(source, identity, folder)
    (warning,) = (line for line in told if line.startswith("warning"))
    assert "dated after this run: a clock is wrong" in warning


def test_what_came_just_now_is_young_whatever_it_is_dated(folder):
    """A machine that is days behind makes a backup, and is at work on another: neither is swept away as old.

    That its dates are behind their arrival is named, and holds everything until a person has looked.
    """
    offset = max(0.0, (NOON - datetime.now(UTC)) / timedelta(days=1))  # all of them before today
    ids = [put(folder, offset + days) for days in (9, 8, 7, 6)]
    at_work = put(folder, offset + 20, complete=False)
    policy = LEAST.model_copy(update={"minimum_age": Duration("2h")})
    came = max(item.modified for item in folder.list(""))
    for hours, doomed in ((1, set()), (3, {*ids[:2]}), (25, {*ids[:2], at_work})):
        given = replace(job(folder, policy=policy), store=folder)
        plan = make_plan(given, came + timedelta(hours=hours))
        assert (plan.doomed, plan.problems.keys()) == ([], set(ids))
        plan = make_plan(replace(given, accepted={ids[-1]}), came + timedelta(hours=hours))
        assert {candidate.id for candidate in plan.doomed} == doomed, hours


def test_retention_on_a_machine_that_is_behind_deletes_nothing(folder):
    ids = [put(folder, days) for days in (4, 3, 2, 1)]
    behind = make_plan(job(folder), NOON - timedelta(days=3.5))
    assert list(behind.problems) == ids[1:]
    assert list(act(behind, NOON, silent)) == []
    assert [candidate.id for candidate in make_plan(job(folder), NOON).doomed] == ids[1::-1], "the control"


def test_an_order_that_a_wrong_clock_made_does_not_cost_the_newest_data():
    """By its own date it is the oldest; by the store's clock it came last."""
    now = datetime(2026, 11, 23, tzinfo=UTC)
    policy = RetentionSettings(keep_last=1, daily=0, weekly=0, monthly=0, minimum_count=1, minimum_age=Duration("24h"))
    dated = {"right": 2, "right too": 3, "behind": 40}
    candidates = [
        Candidate(id=name, begun_at=now - timedelta(days=days), stored_bytes=1, rows=1) for name, days in dated.items()
    ]
    assert {d.id for d in decide(candidates, policy, now) if not d.keep} == {"right too", "behind"}, "the control"
    came = [*candidates[:2], replace(candidates[2], stored_at=now - timedelta(hours=1))]
    assert {d.id for d in decide(came, policy, now) if not d.keep} == set(), "named, and held"
    came[2] = replace(came[2], accepted=True)
    assert {d.id for d in decide(came, policy, now) if not d.keep} == {"right too"}


def test_a_store_that_refuses_our_clock_is_one_line_that_names_it(s3, monkeypatch):
    """S3 refuses what is signed more than a quarter of an hour off: so it is with each command."""
    s3.put_bytes("a", b"")

    class Wrong(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + timedelta(hours=2)

        @classmethod
        def utcnow(cls):
            return super().now(UTC).replace(tzinfo=None) + timedelta(hours=2)

    if hasattr(botocore.auth, "get_current_datetime"):
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda **more: Wrong.utcnow())
    else:
        monkeypatch.setattr(botocore.auth, "datetime", SimpleNamespace(datetime=Wrong, timezone=dt.timezone))
    with pytest.raises(StoreError, match="clock here or at the store is wrong by minutes"):
        s3.put_bytes("b", b"")
    monkeypatch.undo()
    s3.put_bytes("b", b"")
