"""`ops deploy` on a workstation, `ops release …` on the droplet."""

from __future__ import annotations

import json
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import typer
from pydantic import ValidationError

from ops.cli.options import DryRunOption, JsonOption, OutputsOption, StackOption
from ops.core import console
from ops.core.console import Progress
from ops.core.errors import OpsError, ReleaseError
from ops.monitoring.audit import audited, note
from ops.release.apply import Release, ReleaseFailure, ReleaseReport
from ops.release.deploy import deploy, plan_release
from ops.release.machine import Layout, Machine
from ops.release.plan import ReleasePlan
from ops.stack.cloud import cloud_from_environment
from ops.stack.outputs import load_stack

release_app = typer.Typer(no_args_is_help=True)


@audited("deploy")
def deploy_command(
    stack: StackOption = None,
    outputs: OutputsOption = None,
    dry_run: DryRunOption = False,
    json_output: JsonOption = False,
) -> None:
    """Deploy the stack's services: pull images by digest, start, probe, switch. A failure keeps the former ones.

    Reads the registry's tags with DIGITALOCEAN_TOKEN. If nothing has changed, it ends quickly and changes nothing.
    """
    loaded = load_stack(stack, outputs)
    note(stack=loaded.name)
    plan = plan_release(loaded, cloud_from_environment())
    if dry_run:
        if json_output:
            console.print_json(plan.model_dump(mode="json"))
        else:
            console.out.print(plan.described(), markup=False, highlight=False)
        return
    try:
        report = deploy(loaded, plan)
    except ReleaseError as error:
        for line in error.log:
            console.err.print(f"  {line}", markup=False, highlight=False, style="dim")
        raise
    note(outcome=report.result, release=report.release)
    if json_output:
        console.print_json(report.model_dump(mode="json"))
        return
    _print(report, loaded.outputs.domain)


@release_app.command("apply", hidden=True)
@audited("release apply")
def apply_command() -> None:
    """Apply the plan read from stdin. Print the report or the error as JSON, and progress as JSON lines."""
    console.show_progress(Progress.JSON)  # rich would end the release when the workstation disconnects
    _refuse_unless_root()
    # SIGTERM rolls the release back; a workstation that disconnects (SIGHUP) does not stop it.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        plan = ReleasePlan.model_validate_json(sys.stdin.read())
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        _answer_error(
            ReleaseError(f"the plan does not fit the version of Ancla on this droplet ({where}); run `pulumi up`")
        )
    note(environment=plan.environment)
    try:
        report = Release(plan=plan, machine=Machine()).apply()
    except OpsError as error:
        _answer_error(error)
    note(outcome=report.result, release=report.release)
    sys.stdout.write(report.model_dump_json() + "\n")


@release_app.command("show")
def show_command(json_output: JsonOption = False) -> None:
    """Show the services released on this droplet."""
    _refuse_unless_root()
    try:
        record = json.loads(Layout().record.read_text())
    except FileNotFoundError:
        raise ReleaseError("no completed release on this droplet; run `ops deploy` on a workstation") from None
    if json_output:
        console.print_json(record)
        return
    for service in record["services"]:
        console.out.print(f"{service['name']} {service['version']}  {service['image']}", markup=False, highlight=False)
    console.out.print(f"released {record['released']}", markup=False, highlight=False)


def _print(report: ReleaseReport, domain: str) -> None:
    what = "released" if report.result == "released" else "unchanged: already running"
    names = ", ".join(f"{service.name} {service.version}" for service in report.services)
    console.out.print(f"{report.environment}: {what} ({names}) in {report.seconds:g} s — {domain}", highlight=False)


def _refuse_unless_root() -> None:
    if os.geteuid() != 0:
        raise ReleaseError("only root may run this; `ops deploy` runs it on the droplet with sudo")


def _answer_error(error: OpsError) -> NoReturn:
    log = error.log if isinstance(error, ReleaseError) else ()
    sys.stdout.write(ReleaseFailure(error=str(error), log=log).model_dump_json() + "\n")
    sys.stdout.flush()
    raise typer.Exit(error.exit_code)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
