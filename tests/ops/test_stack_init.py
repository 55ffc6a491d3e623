from __future__ import annotations

import json
import stat

import pytest
from pydantic import SecretStr

from blueprint.keys import public_line
from ops.core.errors import StackError
from ops.stack.init import init_file, init_stack


class Engine:
    """The engine's command line as far as `stack init` uses it; remembers what it was told, and how."""

    def __init__(self):
        self.stacks, self.config, self.calls = [], {}, []

    def __call__(self, arguments, *, stack, stdin=None):
        self.calls.append((arguments, stdin))
        match arguments:
            case ["stack", "ls", *_]:
                return json.dumps([{"name": name} for name in self.stacks])
            case ["stack", "init", *_]:
                self.stacks.append(stack)
            case ["config", "set", "--secret", "--path", path]:
                self.config.setdefault("ancla:secrets", {})[path.rsplit(".", 1)[-1]] = stdin
            case ["config", "set", key, value]:
                self.config[key] = value
            case ["config", "--json", "--show-secrets"]:
                return json.dumps(
                    {
                        key: {"objectValue": value} if isinstance(value, dict) else {"value": value}
                        for key, value in self.config.items()
                    }
                )
            case ["whoami", *_]:
                return json.dumps({"url": "file://~"})
        return ""


class Account:
    def __init__(self, uuid):
        self.account = lambda: uuid


def test_keys_go_by_stdin_and_a_second_run_keeps_them():
    engine = Engine()
    first = init_stack("prod", Account("a-1"), engine)
    made = dict(engine.config["ancla:secrets"])
    assert first.made == ["stack prod", "deployKey", "bootstrapHostKey", "hostKey", "backupSigningKey", "account"]
    assert len({public_line(SecretStr(key)) for key in made.values()}) == 4
    assert not any("PRIVATE KEY" in part for arguments, _ in engine.calls for part in arguments)
    second = init_stack("prod", Account("a-1"), engine)
    assert second.made == []
    assert second.kept == ["stack prod", "deployKey", "bootstrapHostKey", "hostKey", "backupSigningKey", "account"]
    assert engine.config["ancla:secrets"] == made


def test_a_key_that_is_missing_is_made_and_the_others_stay():
    engine = Engine()
    init_stack("prod", None, engine)
    before = engine.config["ancla:secrets"].pop("hostKey")
    report = init_stack("prod", None, engine)
    assert report.made == ["hostKey"]
    assert engine.config["ancla:secrets"]["hostKey"] != before
    assert "the account is not recorded" in report.notes[0]


def test_another_account_is_refused():
    engine = Engine()
    init_stack("prod", Account("a-1"), engine)
    with pytest.raises(StackError, match="belongs to the account a-1, the token belongs to a-2"):
        init_stack("prod", Account("a-2"), engine)


def test_the_file_for_the_sandbox_is_private_and_kept(tmp_path):
    path = tmp_path / "new" / "secrets.json"
    assert init_file(path).made == ["deployKey", "bootstrapHostKey", "hostKey", "backupSigningKey"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "app": {"TOKEN": "x"}}))
    path.chmod(0o644)
    report = init_file(path)
    assert (report.made, report.kept) == ([], ["deployKey", "bootstrapHostKey", "hostKey", "backupSigningKey"])
    assert json.loads(path.read_text()) == {**values, "app": {"TOKEN": "x"}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["[]", "no"])
def test_a_file_that_is_something_else_is_not_overwritten(tmp_path, content):
    path = tmp_path / "secrets.json"
    path.write_text(content)
    with pytest.raises(StackError, match="move it away"):
        init_file(path)
    assert path.read_text() == content
