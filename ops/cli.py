"""The command line: `python -m ops …`. Each command reads its options, calls one function, and prints its report.

Exit codes are those of `ops.errors`: 0 done, 1 could not, 2 wrong command line, 3 done and the answer is no,
130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from blueprint.cost import estimate
from blueprint.pulumi_config import SettingsError, load_stack_file
from blueprint.settings import EnvironmentSettings, missing_secrets, not_built
from ops import console, status
from ops.backrest.cli import backrest_app
from ops.backup.cli import backup_app, restore_command
from ops.drill.cli import canary_command, drill_command
from ops.drill.evidence_cli import evidence_app
from ops.errors import OpsError, StackError, VerdictError
from ops.options import JsonOption, OutputsOption, StackOption
from ops.pitr.cli import pitr_app
from ops.release import cli as release_cli
from ops.release.env_example import build_env_example
from ops.stack import load_stack
from ops.stack_cli import stack_app
from ops.swap_cli import swap_app
from ops.watch.cli import audit_app, watch_app

app = typer.Typer(
    name="ops",
    help="Day two: back up, restore, drill, deploy and look around.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
settings_app = typer.Typer(help="Check and describe stack files; no engine, no passphrase.", no_args_is_help=True)
app.add_typer(stack_app, name="stack")
app.add_typer(backup_app, name="backup")
app.add_typer(swap_app, name="swap")
app.add_typer(pitr_app, name="pitr")
app.add_typer(backrest_app, name="backrest")
app.add_typer(settings_app, name="settings")
app.add_typer(watch_app, name="watch")
app.add_typer(audit_app, name="audit")
app.command("restore")(restore_command)
app.command("drill")(drill_command)
app.add_typer(evidence_app, name="evidence")
backup_app.command("canary")(canary_command)

release_cli.register(app)

StackFileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A stack file, such as Pulumi.staging.yaml.")]


@app.command("status")
def status_command(stack: StackOption = None, outputs: OutputsOption = None, as_json: JsonOption = False) -> None:
    """Ask the machine, the services, the database, the backups and the address. Something down exits 3."""
    loaded = load_stack(stack, outputs)
    probes = status.probe_stack(loaded)
    if as_json:
        console.print_json(
            {
                "environment": loaded.outputs.environment,
                "probes": [{"part": p.part, "name": p.name, "state": p.state, "detail": p.detail} for p in probes],
            }
        )
    else:
        colours = {status.State.OK: "green", status.State.ATTENTION: "yellow", status.State.DOWN: "red"}
        table = Table(title=f"{loaded.outputs.project} {loaded.outputs.environment}", title_justify="left")
        for column in ("", "part", "name", "detail"):
            table.add_column(column, overflow="fold")
        for probe in probes:
            mark = f"[{colours[probe.state]}]{probe.state}[/{colours[probe.state]}]"
            table.add_row(mark, probe.part, escape(probe.name), escape(probe.detail))
        console.out.print(table)
    down = [f"{probe.part} {probe.name}" for probe in probes if probe.state is status.State.DOWN]
    if down:
        raise VerdictError(f"{loaded.name}: down: {', '.join(down)}")


@app.command("cost")
def cost_command(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A stack file; Pulumi.<stack>.yaml else.")
    ] = None,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate what a stack file costs a month, per resource, in US dollars. Above its budget exits 3."""
    if file is None and stack is None:
        raise StackError("cost: give a stack file, such as `ops cost Pulumi.staging.yaml`, or --stack")
    report = estimate(_settings(file or Path(f"Pulumi.{stack}.yaml")))
    if as_json:
        lines = [{"resource": i.resource, "detail": i.detail, "monthly": i.monthly} for i in report.lines]
        console.print_json(
            {"environment": report.environment, "lines": lines, "total": report.total, "budget": report.budget}
        )
    else:
        table = Table(title=f"{report.environment}, US dollars a month", title_justify="left", show_footer=True)
        table.add_column("resource", footer="total")
        table.add_column("what", footer=f"list prices of {report.prices_read}")
        table.add_column("monthly", footer=f"{report.total:.2f}", justify="right")
        for item in report.lines:
            table.add_row(escape(item.resource), escape(item.detail), f"{item.monthly:.2f}")
        console.out.print(table)
    if report.over_budget:
        raise VerdictError(f"{report.environment}: {report.total:.2f} a month is above the budget of {report.budget}")


@settings_app.command("check")
def settings_check(file: StackFileArgument, as_json: JsonOption = False) -> None:
    """Validate a stack file: every problem on a line of its own, with its key, what was found and what is allowed."""
    try:
        settings = load_stack_file(file)
    except SettingsError as error:
        if as_json:
            console.print_json({"file": str(file), "valid": False, "problems": list(error.problems)})
            raise typer.Exit(1) from None
        for problem in error.problems:
            console.err.print(f"[bold red]error:[/bold red] {file}: {escape(problem)}")
        raise typer.Exit(1) from None
    later, missing = not_built(settings), missing_secrets(settings)
    if as_json:
        console.print_json({"file": str(file), "valid": True, "not_built": later, "missing_secrets": missing})
    else:
        console.out.print(f"[green]valid[/green] {file}: {settings.project} {settings.environment}")
        for name in missing:
            console.out.print(
                f"  not in this file: {name} (a secret; `ops stack init`, or ANCLA_SECRETS)", highlight=False
            )
    if later:
        raise StackError(f"{file}: understood, and not built yet: {', '.join(later)}")


@settings_app.command("schema")
def settings_schema() -> None:
    """Print the JSON Schema of the settings."""
    console.print_json(EnvironmentSettings.model_json_schema())


@settings_app.command("env-example")
def settings_env_example(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Stack files, such as Pulumi.*.yaml.")],
    check: Annotated[
        Path | None, typer.Option("--check", metavar="FILE", help="Compare with this file instead; stale exits 3.")
    ] = None,
) -> None:
    """Print `.env.example` for these stacks: every variable of every service, and where its value comes from."""
    text = build_env_example([_settings(file) for file in sorted(files)])
    if check is None:
        sys.stdout.write(text)
    elif not check.exists() or check.read_text() != text:
        names = " ".join(map(str, sorted(files)))
        raise VerdictError(f"{check}: is stale; run `ops settings env-example {names} > {check}`")


def main() -> NoReturn:
    """Run the command line; every error made on purpose is one line on stderr and an exit code."""
    signal.signal(signal.SIGTERM, _interrupt)  # systemd's stop: clean up as after Ctrl-C
    try:
        app()
    except OpsError as error:
        console.err.print(f"[bold red]error:[/bold red] {escape(' '.join(str(error).split()))}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.err.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:  # the interpreter flushes stdout once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(0)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt


def _settings(file: Path) -> EnvironmentSettings:
    try:
        return load_stack_file(file)
    except SettingsError as error:
        more = (
            f" (and {len(error.problems) - 1} more; see `ops settings check {file}`)" if len(error.problems) > 1 else ""
        )
        first = next(iter(error.problems), "is not valid")
        raise StackError(f"{file}: {first}{more}") from None
