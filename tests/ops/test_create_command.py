"""`ops backup create` over several sets, whatever goes wrong with one of them."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest

from ops.cli import backup_create
from ops.core.errors import SourceError


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


def test_an_interrupt_ends_all_of_it(failures, monkeypatch):
    def interrupted(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(backup_create, "_create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        backup_create.create_command.__wrapped__(as_json=True)
    assert failures == {}
