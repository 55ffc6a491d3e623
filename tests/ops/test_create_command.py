"""`ops backup create` over several sets, whatever goes wrong with one of them."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest

from ops.cli import backup_create
from ops.core.errors import DatabaseError, DatabaseLostError, DatabaseUnreachableError, SourceError
from ops.sources.secrets import SecretFiles
from tests.ops.source_kit import backup, keys


@pytest.fixture
def failures(monkeypatch):
    """The failures that the watch is told of, of a stack whose sets are each one error, or none."""
    told = {}

    @contextmanager
    def watched(*given):
        yield told

    def create(loaded, name, *given, **more):
        if (error := errors[name]) is not None:
            raise error
        return [{"id": "1", "name": name}]

    errors = {"odd": ValueError("c4n4ry"), "gone": SourceError("gone: no such file"), "sound": None}
    monkeypatch.setattr(backup_create, "load_stack", lambda *given: SimpleNamespace(name="staging"))
    monkeypatch.setattr(backup_create, "backup_run", watched)
    monkeypatch.setattr(backup_create.backup_sets, "sources", lambda loaded: nullcontext({}))
    monkeypatch.setattr(backup_create.backup_sets, "chosen", lambda loaded, name: list(errors))
    monkeypatch.setattr(backup_create, "_create", create)
    monkeypatch.setattr(backup_create, "note", lambda **given: None)
    return told


def test_what_nobody_foresaw_is_the_failure_of_one_set_and_says_no_value(failures, capsys):
    backup_create.create_command.__wrapped__(as_json=True)
    out, err = capsys.readouterr()
    assert [item["name"] for item in json.loads(out)["backups"]] == ["sound"]
    assert str(failures["gone"]) == "gone: no such file"
    assert str(failures["odd"]).startswith("ValueError in test_create_command.py:")
    assert "odd: ValueError" in err
    assert "c4n4ry" not in out + err + str(failures["odd"])


class TestOnceMore:
    """A connection that breaks, as in the provider's maintenance: the others are backed up, then that one again."""

    @pytest.fixture
    def order(self, failures, monkeypatch):
        """What happens, in order; `db` breaks as often as `breaks` says."""
        done, breaks = [], [1]

        def create(loaded, name, *given, **more):
            done.append(name)
            if name == "db" and done.count("db") <= breaks[0]:
                raise DatabaseLostError("db: server closed the connection unexpectedly")
            return [{"id": "1", "name": name}]

        monkeypatch.setattr(backup_create, "_create", create)
        monkeypatch.setattr(backup_create.backup_sets, "chosen", lambda loaded, name: ["db", "sound"])
        monkeypatch.setattr(backup_create.time, "sleep", done.append)
        return SimpleNamespace(done=done, breaks=breaks)

    def test_it_is_made_half_an_hour_later_and_no_failure_is_left(self, order, failures, capsys):
        backup_create.create_command.__wrapped__(as_json=True, again_after=30)
        assert (order.done, failures) == (["db", "sound", 1800, "db"], {})
        out, err = capsys.readouterr()
        assert {item["name"] for item in json.loads(out)["backups"]} == {"db", "sound"}
        assert "db: once more in 30 minutes" in err

    def test_a_second_break_is_the_failure(self, order, failures):
        order.breaks[0] = 2
        backup_create.create_command.__wrapped__(as_json=True, again_after=30)
        assert order.done == ["db", "sound", 1800, "db"]
        assert "closed the connection" in str(failures["db"])

    def test_without_the_option_or_for_other_failures_nothing_is_waited_for(self, order, failures):
        backup_create.create_command.__wrapped__(as_json=True)
        assert (order.done, list(failures)) == (["db", "sound"], ["db"])


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (DatabaseLostError("x: server closed the connection unexpectedly"), True),
        (DatabaseUnreachableError("x: connection failed: Connection refused"), True),
        (DatabaseUnreachableError('x: FATAL: password authentication failed for user "app"'), False),
        (DatabaseError("x: permission denied"), False),
        (SourceError("x: may not read"), False),
    ],
)
def test_a_server_that_is_away_is_not_one_that_refuses(error, away):
    assert backup_create._is_away(error) is away


def test_other_failures_are_not_tried_again(failures, monkeypatch):
    monkeypatch.setattr(backup_create.time, "sleep", lambda seconds: pytest.fail("it waits"))
    backup_create.create_command.__wrapped__(as_json=True, again_after=30)
    assert list(failures) == ["odd", "gone"]


def test_an_interrupt_ends_all_of_it(failures, monkeypatch):
    def interrupted(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(backup_create, "_create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        backup_create.create_command.__wrapped__(as_json=True)
    assert failures == {}


def test_what_a_backup_does_not_keep_is_shown_by_it(folder, tmp_path, monkeypatch, capsys):
    """Once when it is made, and each line by `show`."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("c4n4ry")
    os.mkfifo(tmp_path / "secrets" / "pipe")
    (tmp_path / "secrets" / "link").symlink_to("../../outside")
    recipients, _ = keys(tmp_path)
    made = backup(SecretFiles(paths=(tmp_path / "secrets",)), folder, recipients=recipients)
    monkeypatch.setattr(backup_create, "load_stack", lambda *given: None)
    monkeypatch.setattr(backup_create, "one_name", lambda loaded, name: name)
    monkeypatch.setattr(backup_create.destinations, "store", lambda *given: folder)
    backup_create.show_command(made.id, name="thing")
    shown = capsys.readouterr().out.replace("\n", "")
    assert f"not kept: {tmp_path}/secrets/pipe: a pipe".replace("\n", "") in shown
    assert f"not kept: {tmp_path}/secrets/link: what the link leads to, ../../outside: nothing is there" in shown
    said = []
    monkeypatch.setattr(backup_create, "create", lambda *given: made)
    monkeypatch.setattr(backup_create.console, "step", said.append)
    monkeypatch.setattr(backup_create.destinations, "stores", lambda loaded: {"one": folder})
    monkeypatch.setattr(backup_create.backup_sets, "elsewhere", lambda loaded, name: False)
    backup_create._create(stack(recipients), "thing", {"thing": SecretFiles}, None, stream=False)
    (line,) = said
    assert line.startswith("not kept: ")
    assert line.endswith("and 1 more; see `ops backup show --name thing`")


def stack(recipients):
    outputs = SimpleNamespace(
        environment="staging", project="test", backup=SimpleNamespace(recipients=recipients, level=3)
    )
    return SimpleNamespace(outputs=outputs, secrets=SimpleNamespace(backup_signing_key=None))
