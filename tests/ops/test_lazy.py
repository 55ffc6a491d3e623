from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ops.cli.app import app
from ops.cli.lazy_commands import Lazy, in_full, lazy_group
from ops.core.environment import OPTION_VARIABLES

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"apprise", "boto3", "httpx", "jinja2", "prometheus_client", "psycopg"}


def imported_by(*arguments):
    """Which of the heavy libraries a command has imported when its help is printed."""
    program = (
        f"import sys; from ops.cli.app import main\ntry:\n  main()\nfinally:\n  print(*{HEAVY} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        ((), set()),
        (("backup",), set()),
        (("release",), {"httpx"}),
        (("backup", "create"), {"boto3", "psycopg", "prometheus_client"}),
        (("drill",), {"boto3", "psycopg", "prometheus_client", "jinja2"}),
    ],
)
def test_a_command_imports_what_it_uses(arguments, needed):
    assert imported_by(*arguments) == needed


def test_a_listing_says_of_each_command_what_its_own_help_begins_with():
    whole = in_full(app)
    for group in (whole, whole.commands["backup"]):
        real = {name: command.help.split("\n\n")[0] for name, command in group.commands.items()}
        assert {command.name: command.help for command in type(group).lazy} == real


def test_a_command_whose_module_is_gone_is_not_told_to_be_unknown():
    broken = typer.Typer(cls=lazy_group(Lazy("gone", "ops.none:command", "Gone.")))
    broken.callback()(lambda: None)
    with pytest.raises(ModuleNotFoundError, match=r"ops\.none"):
        typer.main.get_command(broken)(["gone"], standalone_mode=False)


def variables_of(command):
    """The variables of a command's options and of all below it, each with its option."""
    for parameter in command.params:
        names = parameter.envvar if isinstance(parameter.envvar, list) else [parameter.envvar]
        yield from ((name, parameter.opts[0]) for name in names if name)
    for below in getattr(command, "commands", {}).values():
        yield from variables_of(below)


def test_every_variable_of_an_option_is_listed_where_all_of_them_are():
    assert {
        name: option for name, option in variables_of(in_full(app)) if name.startswith("ANCLA_")
    } == OPTION_VARIABLES
