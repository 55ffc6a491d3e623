"""`ops stack`: initialize a stack, and recover one whose engine was killed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from blueprint.pulumi_config import SettingsError, load_stack_file
from blueprint.settings.environment import EnvironmentSettings
from ops.cli.options import DryRunOption, JsonOption, StackName, YesOption
from ops.core import console
from ops.core.errors import StackError
from ops.stack.cloud import cloud_from_environment
from ops.stack.init import KEYS, InitReport, init_file, init_stack
from ops.stack.recovery import recover

stack_app = typer.Typer(no_args_is_help=True)


@stack_app.command("init")
def init_command(
    stack: StackName = None,
    emit_secrets: Annotated[
        Path | None,
        typer.Option(
            "--emit-secrets",
            metavar="FILE",
            help="Write the keys to this file (for ANCLA_SECRETS) instead of the stack file.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Generate the stack's keys, record its account and compare it with the stack file. Safe to repeat."""
    if emit_secrets is not None:
        report = init_file(emit_secrets)
    else:
        if stack is None:
            raise StackError("stack init: give --stack, as in Pulumi.<stack>.yaml")
        token = os.environ.get("DIGITALOCEAN_TOKEN") or os.environ.get("DIGITALOCEAN_ACCESS_TOKEN")
        report = init_stack(stack, cloud_from_environment() if token else None, settings=_settings_of(stack))
    if as_json:
        console.print_json(
            {
                "made": report.made,
                "kept": report.kept,
                "account": report.account,
                "backend": report.backend,
                "file": report.written,
                "notes": report.notes,
                "problems": report.problems,
            }
        )
    else:
        _print_init(stack, report)
    if report.problems:
        raise StackError(
            f"stack {stack}: `pulumi up` would stop at {len(report.problems)} of these; mend them, then run this again"
        )


def _settings_of(stack: str) -> EnvironmentSettings | None:
    """Return the settings of the stack file here; None if it is not written yet, or not valid yet."""
    try:
        return load_stack_file(Path(f"Pulumi.{stack.rsplit('/', 1)[-1]}.yaml"))
    except SettingsError:
        return None


@stack_app.command("recover")
def recover_command(
    stack: StackName = None, dry_run: DryRunOption = False, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Recover after a killed engine: clear its lock, adopt resources it created but did not record, then refresh."""
    if stack is None:
        raise StackError("stack recover: give --stack, as in Pulumi.<stack>.yaml")
    cloud = cloud_from_environment()
    plan = recover.make_plan(stack, cloud, dry_run=dry_run)
    if as_json:
        console.print_json(
            {
                "stack": stack,
                "removed": [str(path) for path in plan.torn],
                "locks": [str(lock.path) for lock in plan.locks],
                "steps": [{"urn": s.urn, "action": s.action, "id": s.id, "reason": s.reason} for s in plan.steps],
                "notes": plan.notes,
            }
        )
    else:
        _print_plan(plan)
    if dry_run or plan.empty:
        return
    if cloud.is_real and not yes:
        console.confirm(f"Apply this to stack {stack} at {cloud.address}?")
    recover.execute(plan, cloud, console.step)
    console.step("recovered; run `pulumi up` to continue")


def _print_init(stack: str | None, report: InitReport) -> None:
    for name in report.made:
        console.out.print(f"[green]made[/green] {name}{_meaning(name)}")
    for name in report.kept:
        console.out.print(f"[dim]kept[/dim] {name}{_meaning(name)}")
    if report.written is not None:
        console.out.print(
            f"They are in {report.written} (mode 0600), as a document for ANCLA_SECRETS.", highlight=False
        )
        return
    console.out.print(f"\nThe keys are in Pulumi.{stack}.yaml, encrypted: commit that file.")
    console.out.print(
        f"The state is at {report.backend}; account {report.account or 'not recorded yet'}.", highlight=False
    )
    console.out.print(
        "The passphrase (PULUMI_CONFIG_PASSPHRASE or its _FILE) decrypts both. It cannot be recovered: keep it in the "
        "team's password manager,\nand a copy elsewhere. With a file:// backend, back up the state "
        "too, or use a bucket (`pulumi login s3://…`).",
    )
    for note in report.notes:
        console.out.print(f"[yellow]note[/yellow] {escape(note)}")
    for problem in report.problems:
        console.out.print(f"[red]problem[/red] {escape(problem)}")


def _meaning(name: str) -> str:
    return f": {KEYS[name]}" if name in KEYS else ""


def _print_plan(plan: recover.RecoverPlan) -> None:
    for path in plan.torn:
        console.out.print(f"{escape(str(path))}: half written and not needed: [bold]removed[/bold]")
    if plan.empty:
        console.out.print(f"{plan.stack}: nothing to recover: no stale lock, no unfinished operation")
    for note in plan.notes:
        console.out.print(f"[yellow]note[/yellow] {escape(note)}")
    for lock in plan.locks:
        console.out.print(f"lock of process {lock.pid}, which has ended: [bold]clear[/bold]")
    table = Table("resource", "state", "action")
    for item in plan.steps:
        table.add_row(item.name, item.reason, f"[bold]{item.action}[/bold]")
    if plan.steps:
        console.out.print(table)
