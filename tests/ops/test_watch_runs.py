"""What drills and retention tell the watch: red, not held, and damage that was not seen, each once and to its end."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from ops.cli import backrest, pitr
from ops.cli import drill as drills
from ops.cli.app import app
from ops.cli.watch import watch_failed
from ops.core.errors import BusyError, CloudError, KeyProblemError, OpsError, StoreUnreachableError, ToolError
from ops.drill import checks, runner
from ops.monitoring.alerts import watching
from ops.monitoring.recorder import drilled
from ops.monitoring.state import CopyState, home_of
from ops.pgbackrest.target import Target
from tests.ops.drill_kit import document
from tests.ops.test_watch import fails, item, make_stack, quick, receiver, succeeds

__all__ = ["quick", "receiver"]


def alerts(stack):
    with watching(stack) as watch:
        return {key: alert.runbook for key, alert in watch.state.alerts.items()}


@pytest.fixture
def stack(receiver, monkeypatch, folder, tmp_path):
    """A machine's stack whose store is a folder; the drill commands read it."""
    made = make_stack(receiver)
    monkeypatch.setattr(drills, "load_stack", lambda *_: made)
    monkeypatch.setattr(drills.destinations, "store", lambda *_: folder)
    monkeypatch.setattr(drills, "_picked", lambda job, *_, **__: job)
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def drill(stack, monkeypatch):
    """Run `ops drill`, whose drills end as they are told to."""

    def run(ended, *arguments, controls=()):
        def end(*_, **__):
            if isinstance(ended, OpsError):
                raise ended
            return ended

        monkeypatch.setattr(runner, "run", end)
        monkeypatch.setattr(drills.of_backup, "controls", lambda *_, **__: list(controls))
        return CliRunner().invoke(app, ["drill", *arguments])

    return run


def green():
    return document(name="notes")


@pytest.mark.parametrize(
    ("error", "runbook"),
    [
        (KeyProblemError("is encrypted: give the identity"), "drill-red"),
        (ToolError("pg_restore: not here"), "drill-red"),
        (StoreUnreachableError("no answer"), "store-unreachable"),
    ],
)
def test_a_drill_that_could_not_be_held_is_told_until_one_is_green(stack, drill, receiver, error, runbook):
    assert drill(error).exception is not None
    assert alerts(stack) == {"drill/notes": runbook}
    assert receiver.titles() == [f"[ancla shop staging] no drill of notes was held: {error}"]
    assert drill(green()).exit_code == 0
    assert alerts(stack) == {}


def test_an_identity_that_is_none_is_told_too_and_a_name_mistyped_is_not(stack, drill, tmp_path):
    (tmp_path / "identity.txt").write_text("\n")
    assert isinstance(drill(green(), "--name", "typo").exception, OpsError)
    assert alerts(stack) == {}
    assert isinstance(drill(green(), "--identity", "identity.txt").exception, KeyProblemError)
    assert alerts(stack) == {"drill/notes": "drill-red"}


def test_a_time_to_keep_beyond_reason_is_refused_before_the_drill(stack, drill):
    for time, code in {"9999999d": 2, "366d": 2, "soon": 2, "365d": 0, "0": 0}.items():
        assert drill(green(), "--keep-failed", time).exit_code == code, time


def test_damage_that_was_not_seen_is_told_until_it_is(stack, drill):
    unseen = document(name="notes", damage="flip")
    seen = document(name="notes", damage="flip", verdict="red", checks=[checks.failed("digests", "1 wrong", ["x"])])
    assert "NOT detected" in str(drill(green(), "--controls", controls=[unseen]).exception)
    assert alerts(stack) == {"control/notes": "drill-red"}
    assert drill(green()).exit_code == 0
    assert alerts(stack) == {"control/notes": "drill-red"}, "without controls nothing is known"
    assert drill(green(), "--controls", controls=[seen]).exit_code == 0
    assert alerts(stack) == {}


def test_drills_of_the_providers_and_of_pgbackrests_backups_are_told(stack, monkeypatch):
    def fails(*_, **__):
        raise CloudError("503")

    monkeypatch.setattr(pitr, "load_stack", lambda *_: stack)
    monkeypatch.setattr(pitr, "cloud_from_environment", lambda: SimpleNamespace(is_real=False))
    monkeypatch.setattr(runner, "run", fails)
    monkeypatch.setattr(backrest, "_target", lambda *_: Target(stanza="main", stack=stack))
    monkeypatch.setattr(backrest.driver, "find", fails)
    for kind in ("pitr", "backrest"):
        assert isinstance(CliRunner().invoke(app, [kind, "drill"]).exception, CloudError)
    assert alerts(stack) == {"pitr": "drill-red", "backrest/main": "drill-red"}


def test_what_the_stack_does_not_have_any_more_leaves_no_alert_and_no_figure(receiver):
    old, new = make_stack(receiver, sources=("notes", "gone")), make_stack(receiver)
    succeeds(old, None, item(), item("gone"))
    with watching(old) as watch:
        watch.state.copies = [CopyState(name=name, store="s3://b", age=1, budget=2) for name in ("notes", "gone")]
    red = [checks.failed("content", "1 differences", ["t"])]
    for name in ("notes", "gone"):
        drilled(old, name, document(name=name, verdict="red", checks=red))
    metrics = home_of(new) / "metrics" / "ancla.prom"
    assert 'name="gone"' in metrics.read_text()
    succeeds(new)
    assert alerts(new) == {"drill/notes": "drill-red"}
    assert 'name="notes"' in metrics.read_text()
    assert "gone" not in metrics.read_text()


def test_a_set_that_another_run_is_at_raises_no_alert_and_counts_no_failure(receiver, monkeypatch):
    stack = make_stack(receiver)
    monkeypatch.setattr("ops.cli.watch.load_stack", lambda *_: stack)
    fails(stack, BusyError("another run is in progress here"))
    watch_failed("ancla-backup.service")
    assert receiver.seen == []
    with watching(stack) as watch:
        assert (watch.state.sets, watch.state.alerts) == ({}, {})
        watch.state.busy_at -= timedelta(minutes=11)
    watch_failed("ancla-backup.service")  # of another night
    assert "ancla-backup.service failed" in receiver.titles()[0]
    fails(stack, BusyError("another run is in progress here"))
    assert len(receiver.titles()) == 1, "that one is still wrong: nothing was made"
