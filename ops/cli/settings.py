"""`ops settings` and `ops cost`: read a stack file without the engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from blueprint.cost import estimate
from blueprint.pulumi_config import SettingsError, load_stack_file
from blueprint.settings.backup import EXAMPLE_RECIPIENT
from blueprint.settings.built import Verdict, not_built
from blueprint.settings.environment import EnvironmentSettings
from blueprint.settings.required_secrets import missing_secrets
from ops.cli.options import JsonOption, StackOption
from ops.core import console
from ops.core.errors import OpsError, StackError, VerdictError
from ops.monitoring.notify import shut_to_droplets
from ops.monitoring.state import warn
from ops.release.env_example import build_env_example

settings_app = typer.Typer(no_args_is_help=True)

StackFileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Stack file, such as Pulumi.staging.yaml.")]


def cost_command(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Stack file (default: Pulumi.<stack>.yaml).")
    ] = None,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate a stack file's monthly cost by resource, in US dollars. Exits 3 above its budget or without a price."""
    if file is None and stack is None:
        raise typer.BadParameter("give a stack file, such as Pulumi.staging.yaml, or --stack", param_hint="FILE")
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
            shown = "?" if item.monthly is None else f"{item.monthly:.2f}"
            table.add_row(escape(item.resource), escape(item.detail), shown)
        console.out.print(table)
    if report.unpriced:
        raise VerdictError(f"{report.environment}: cannot be priced: {', '.join(report.unpriced)}")
    if report.over_budget:
        raise VerdictError(f"{report.environment}: {report.total:.2f} a month is above the budget of {report.budget}")


@settings_app.command("check")
def settings_check(
    file: StackFileArgument,
    as_json: JsonOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse what has no effect yet, too.")] = False,
) -> None:
    """Validate a stack file. Print each problem on one line: the key, the value found, and the values allowed."""
    try:
        settings = load_stack_file(file)
    except SettingsError as error:
        if as_json:
            console.print_json({"file": str(file), "valid": False, "problems": _problems(file, error)})
            raise typer.Exit(1) from None
        for problem in _problems(file, error):
            console.err.print(f"[bold red]error:[/bold red] {file}: {escape(problem)}")
        raise typer.Exit(1) from None
    later = _not_built(settings, Verdict.REFUSED)
    without_effect = _not_built(settings, Verdict.NO_EFFECT)
    missing = missing_secrets(settings)
    warnings = shut_to_droplets(settings.secrets.notifications)
    if without_effect and not strict:
        warnings = [*warnings, f"not in effect yet: {', '.join(without_effect)}"]
    if as_json:
        facts = {"not_built": later, "not_in_effect": without_effect, "missing_secrets": missing, "warnings": warnings}
        console.print_json({"file": str(file), "valid": True, **facts})
    else:
        _print_verdict(file, settings, missing, warnings)
    for found, why in ((later, "not built yet"), (without_effect if strict else [], "not in effect yet (--strict)")):
        if found:
            raise StackError(f"{file}: valid, but {why}: {', '.join(found)}")


@settings_app.command("schema")
def settings_schema() -> None:
    """Print the JSON Schema of the settings."""
    console.print_json(EnvironmentSettings.model_json_schema())


@settings_app.command("env-example")
def settings_env_example(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Stack files, such as Pulumi.*.yaml.")],
    check: Annotated[
        Path | None,
        typer.Option(
            "--check", metavar="FILE", help="Compare with this file instead of printing. Exits 3 if it is stale."
        ),
    ] = None,
) -> None:
    """Print `.env.example` for these stacks: every variable of every service, and the source of its value."""
    text = build_env_example([_settings(file) for file in sorted(files)])
    if check is None:
        sys.stdout.write(text)
        return
    try:
        found = check.read_text()
    except FileNotFoundError:
        found = ""
    except (OSError, UnicodeDecodeError) as error:
        raise OpsError(f"{check}: cannot be read: {getattr(error, 'strerror', 'not text')}; give a file") from None
    if found != text:
        names = " ".join(map(str, sorted(files)))
        raise VerdictError(f"{check}: is stale; run `ops settings env-example {names} > {check}`")


def _settings(file: Path) -> EnvironmentSettings:
    try:
        return load_stack_file(file)
    except SettingsError as error:
        more = (
            f" (and {len(error.problems) - 1} more; see `ops settings check {file}`)" if len(error.problems) > 1 else ""
        )
        first = next(iter(_problems(file, error)), "is not valid")
        raise StackError(f"{file}: {first}{more}") from None


def _print_verdict(file: Path, settings: EnvironmentSettings, missing: list[str], warnings: list[str]) -> None:
    for warning in warnings:
        warn(warning)
    console.out.print(f"[green]valid[/green] {escape(str(file))}: {settings.project} {settings.environment}")
    for name in missing:
        console.out.print(f"  not in this file: {name} (a secret; {_source_of(name)}, or ANCLA_SECRETS)")
    if settings.backup.destinations and not settings.backup.recipients:
        console.out.print(
            "  backup.recipients: none, so backups are not encrypted, and the app's secrets are not backed up; "
            "generate one with `ops backup keygen`"
        )
    if EXAMPLE_RECIPIENT in settings.backup.recipients:
        console.out.print(
            "  backup.recipients: the example's, refused at DigitalOcean; generate yours with `ops backup keygen`"
        )


def _not_built(settings: EnvironmentSettings, verdict: Verdict) -> list[str]:
    return [str(one) for one in not_built(settings) if one.verdict is verdict]


def _source_of(secret: str) -> str:
    """Return the command that sets a secret. Keys are generated; the app's secrets are entered."""
    if secret.startswith("secrets.backupKeys."):
        return f"`pulumi config set --secret --path 'ancla:{secret}.accessKey'`, then `.secretKey`"
    own = secret.startswith(("secrets.app.", "secrets.channels.", "secrets.heartbeat"))
    return f"`pulumi config set --secret --path 'ancla:{secret}'`" if own else "`ops stack init`"


def _problems(file: Path, error: SettingsError) -> list[str]:
    """Return the problems without the file name before them. For a missing file, add the stack files that exist."""
    found = [problem.removeprefix(f"{file}: ") for problem in error.problems]
    if not file.is_file():
        others = ", ".join(sorted(map(str, file.parent.glob("Pulumi.*.yaml")))) or "none here"
        found = [f"{problem}; stack files: {others}" for problem in found]
    return found
