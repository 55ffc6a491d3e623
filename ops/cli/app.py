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
"""Exit code after SIGINT or SIGTERM."""

COMMANDS = lazy_group(
    Lazy(
        "restore",
        "ops.cli.restore:restore_command",
        "Restore into a NEW database (file, folder, empty bucket or prefix), and compare all of it with the backup.",
    ),
    Lazy(
        "drill",
        "ops.cli.drill:drill_command",
        "Restore backups into scratch servers and folders, compare them with their snapshots, and keep the evidence.",
    ),
    Lazy(
        "deploy",
        "ops.cli.deploy:deploy_command",
        "Deploy the stack's services: pull images by digest, start, probe, switch. A failure keeps the former ones.",
    ),
    Lazy(
        "status",
        "ops.cli.status:status_command",
        "Check the droplet, services, database, backups and public address. Exits 3 if something is down.",
    ),
    Lazy(
        "converge",
        "ops.cli.drift:converge_command",
        "Converge droplets to the last `pulumi up`, whatever was edited by hand; or only compare (`--check`).",
    ),
    Lazy(
        "drift",
        "ops.cli.drift:drift_command",
        "List cloud resources that somebody changed or deleted since the last `pulumi up`. Exits 3 if there are any.",
    ),
    Lazy(
        "cost",
        "ops.cli.settings:cost_command",
        "Estimate a stack file's monthly cost by resource, in US dollars. Exits 3 above its budget or without a price.",
    ),
    Lazy("stack", "ops.cli.stack:stack_app", "Initialize a stack, and recover one whose engine was killed."),
    Lazy("backup", "ops.cli.backup:backup_app", "Create, inspect, verify and prune backups."),
    Lazy(
        "swap",
        "ops.cli.swap:swap_app",
        "Replace the live database with a verified restore by renaming, and undo that.",
    ),
    Lazy(
        "pitr",
        "ops.cli.pitr:pitr_app",
        "Restore points of the provider: list them, drill one in a fork, destroy forks that killed drills left.",
    ),
    Lazy(
        "backrest",
        "ops.cli.backrest:backrest_app",
        "Physical backups and point-in-time recovery of your own PostgreSQL server, by pgBackRest.",
    ),
    Lazy("settings", "ops.cli.settings:settings_app", "Check and describe stack files, without engine or passphrase."),
    Lazy("watch", "ops.cli.watch:watch_app", "List active alerts about backups, and test that notifications arrive."),
    Lazy("audit", "ops.cli.watch:audit_app", "Show and verify the append-only audit log."),
    Lazy("evidence", "ops.cli.evidence:evidence_app", "Verify and list the evidence of drills."),
    Lazy("release", "ops.cli.deploy:release_app", "Commands that `ops deploy` runs on the droplet."),
)
app = typer.Typer(
    name="ops",
    cls=COMMANDS,
    help="Operate an environment: back up, restore, drill, deploy, monitor.",
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
    """Take the options of `ops` itself. With a callback, typer treats the app as a group of commands."""
    del version


def main() -> NoReturn:
    """Run the command line. Every `OpsError` is printed as one line on stderr and sets the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)  # `systemctl stop`: clean up as after Ctrl-C
    try:
        app()
    except OpsError as error:
        console.error(" ".join(str(error).split()))
        sys.exit(error.exit_code)
    except SystemExit as ended:  # how typer ends: after a usage error, a declined prompt, an interrupt
        if ended.code == INTERRUPTED:
            console.interrupted()
        raise
    except KeyboardInterrupt:
        console.interrupted()
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the interpreter flushes stdout once more when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(0)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt
