"""The command line: `python -m ops …`. Each command reads its options, calls one function, and prints its report.

Exit codes are those of `ops.core.errors`: 0 done, 1 could not, 2 wrong command line, 3 done and the answer is no,
130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from ops import VERSION
from ops.cli.lazy_commands import Lazy, lazy_group
from ops.core import console
from ops.core.errors import OpsError

INTERRUPTED = 130
"""Exit code."""

COMMANDS = lazy_group(
    Lazy(
        "restore",
        "ops.cli.restore:restore_command",
        "Restore into a NEW database (file, folder, empty bucket or prefix), and compare all of it with the backup.",
    ),
    Lazy(
        "drill",
        "ops.cli.drill:drill_command",
        "Restore backups into scratch places, compare them with their snapshots, and keep the evidence.",
    ),
    Lazy(
        "deploy",
        "ops.cli.deploy:deploy_command",
        "Release the stack's services: images by digest, started, probed, and switched to; or the former ones stay.",
    ),
    Lazy(
        "status",
        "ops.cli.status:status_command",
        "Ask the machine, the services, the database, the backups and the address. Something down exits 3.",
    ),
    Lazy(
        "cost",
        "ops.cli.settings:cost_command",
        "Estimate what a stack file costs a month, per resource, in US dollars. Above its budget exits 3.",
    ),
    Lazy("stack", "ops.cli.stack:stack_app", "Begin a stack, and mend one whose engine was killed."),
    Lazy("backup", "ops.cli.backup:backup_app", "Make restore points, and look at them."),
    Lazy(
        "swap",
        "ops.cli.swap:swap_app",
        "Put a verified restore in the place of the live database, by renaming; and undo it.",
    ),
    Lazy(
        "pitr",
        "ops.cli.pitr:pitr_app",
        "The provider's own restore points: list them, drill one in a fork, sweep up forks that were left.",
    ),
    Lazy(
        "backrest",
        "ops.cli.backrest:backrest_app",
        "Physical backups and point-in-time recovery of a PostgreSQL server of your own, by pgBackRest.",
    ),
    Lazy("settings", "ops.cli.settings:settings_app", "Check and describe stack files; no engine, no passphrase."),
    Lazy("watch", "ops.cli.watch:watch_app", "Alerts about backups: which are raised, and do they get through?"),
    Lazy("audit", "ops.cli.watch:audit_app", "The append-only log of what was done."),
    Lazy("evidence", "ops.cli.evidence:evidence_app", "What drills leave: verify it, list it."),
    Lazy("release", "ops.cli.deploy:release_app", "On the machine: what `ops deploy` runs there."),
)
app = typer.Typer(
    name="ops",
    cls=COMMANDS,
    help="Day two: back up, restore, drill, deploy and look around.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:  # typer gives an option's value by position
    if asked:
        console.out.print(f"ops {VERSION}", highlight=False)
        raise typer.Exit


@app.callback()
def _ops(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Nothing runs before a command: typer takes an app for a group by this."""
    del version


def main() -> NoReturn:
    """Run the command line; every error made on purpose is one line on stderr and an exit code."""
    signal.signal(signal.SIGTERM, _interrupt)  # systemd's stop: clean up as after Ctrl-C
    try:
        app()
    except OpsError as error:
        console.error(" ".join(str(error).split()))
        sys.exit(error.exit_code)
    except SystemExit as ended:  # typer's own way to end: after a wrong command line, a no, an interrupt
        if ended.code == INTERRUPTED:
            console.interrupted()
        raise
    except KeyboardInterrupt:
        console.interrupted()
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the interpreter flushes stdout once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(0)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt
