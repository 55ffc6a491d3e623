"""A command acts on the environment that was typed, whatever the shell or the machine says."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from ops.cli.options import OutputsOption, StackOption
from ops.core.errors import StackError
from ops.stack import outputs as stacks
from ops.stack.outputs import load_stack
from tests.release.conftest import make_outputs


def asked(*typed, **environment):
    """Return which (stack, outputs) a command is given, or the wrong command line's text."""
    app, got = typer.Typer(), []

    @app.command()
    def command(stack: StackOption = None, outputs: OutputsOption = None) -> None:
        got.append((stack, outputs and str(outputs)))

    done = CliRunner().invoke(app, typed, env={"ANCLA_STACK": None, "ANCLA_OUTPUTS": None, **environment})
    return got[0] if got else " ".join(done.output.replace("│", " ").split())


def test_what_is_typed_wins_over_the_environment_in_both_directions():
    assert asked("--stack", "prod", ANCLA_OUTPUTS="staging.json") == ("prod", None)
    assert asked("--outputs", "staging.json", ANCLA_STACK="prod") == (None, "staging.json")
    assert asked("--stack", "prod", ANCLA_STACK="staging", ANCLA_OUTPUTS="staging.json") == ("prod", None)
    assert asked(ANCLA_OUTPUTS="staging.json") == (None, "staging.json")
    assert asked(ANCLA_STACK="prod") == ("prod", None)
    assert asked() == (None, None)


def test_two_that_are_given_alike_are_refused():
    for typed in (("--stack", "prod", "--outputs", "x.json"), ("--outputs", "x.json", "--stack", "prod")):
        assert "cannot be combined with --stack" in asked(*typed)
    assert "is set beside ANCLA_STACK" in asked(ANCLA_STACK="prod", ANCLA_OUTPUTS="staging.json")


def test_a_machine_knows_its_own_environment_alone(tmp_path, monkeypatch):
    file = tmp_path / "outputs.json"
    file.write_text(json.dumps(make_outputs().model_dump(mode="json") | {"secrets": {"file": "secrets.json"}}))
    (tmp_path / "secrets.json").write_text("{}")
    monkeypatch.setattr(stacks, "MACHINE_OUTPUTS", file)
    name = load_stack().name
    assert load_stack(f"acme/shop/{name}").name == load_stack(name).name == name
    with pytest.raises(StackError, match=f"this droplet knows only {name}"):
        load_stack("another")


def test_a_secrets_file_that_is_of_another_ancla_says_what_writes_it_anew(tmp_path):
    file = tmp_path / "outputs.json"
    file.write_text(json.dumps(make_outputs().model_dump(mode="json") | {"secrets": {"file": "secrets.json"}}))
    (tmp_path / "secrets.json").write_text('{"backup_keys": 7}')
    with pytest.raises(StackError, match=r"secrets.json: backup_keys: .* `ops converge`"):
        load_stack(None, file)
