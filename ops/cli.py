"""The command line: `python -m ops …`. Each command reads its options, calls one function, and prints its report.

Exit codes are those of `ops.errors`: 0 done, 1 could not, 2 wrong command line, 3 done and the answer is no,
130 interrupted.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import NoReturn

import typer
from rich.markup import escape

from ops import console
from ops.backup.cli import backup_app, drill_command, restore_command
from ops.errors import OpsError

app = typer.Typer(
    name="ops",
    help="Day two: back up, restore, drill, deploy and look around.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
stack_app = typer.Typer(help="Begin a stack, and mend one whose engine was killed.", no_args_is_help=True)
settings_app = typer.Typer(help="Check and describe stack files; no engine, no passphrase.", no_args_is_help=True)
app.add_typer(stack_app, name="stack")
app.add_typer(backup_app, name="backup")
app.add_typer(settings_app, name="settings")
app.command("restore")(restore_command)
app.command("drill")(drill_command)

if importlib.util.find_spec("ops.release") is not None and importlib.util.find_spec("ops.release.cli") is not None:
    importlib.import_module("ops.release.cli").register(app)


def main() -> NoReturn:
    """Run the command line; every error made on purpose is one line on stderr and an exit code."""
    try:
        app()
    except OpsError as error:
        console.err.print(f"[bold red]error:[/bold red] {_one_line(error)}", highlight=False)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.err.print("interrupted", highlight=False)
        sys.exit(130)
    except BrokenPipeError:  # the interpreter flushes stdout once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(0)


def _one_line(error: OpsError) -> str:
    return escape(" ".join(str(error).split()))
