"""The options that commands share, so that they are spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ops.core.console import Progress

OUTPUTS = "ANCLA_OUTPUTS"
GIVEN = ("COMMANDLINE", "ENVIRONMENT")
"""Where a value came from, as click names it, when a person gave it."""


def _one_of(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    """Hold --stack against --outputs: they may well be of two environments. What was typed wins over the environment.

    What is typed is parsed first, so whichever of the two is asked second knows of both.
    """
    other = context.get_parameter_source({"stack": "outputs", "outputs": "stack"}[str(parameter.name)])
    own = context.get_parameter_source(str(parameter.name))
    if value is None or other is None or own is None or other.name not in GIVEN:
        return value
    if own.name == other.name == "ENVIRONMENT":
        raise typer.BadParameter(
            "is set beside ANCLA_STACK; unset one, or give --stack or --outputs", param_hint=OUTPUTS
        )
    if own.name == other.name:
        raise typer.BadParameter("is another choice than --stack; give one of them", param_hint="--outputs")
    return value if own.name == "COMMANDLINE" else None


StackOption = Annotated[
    str | None,
    typer.Option(
        "--stack",
        "-s",
        envvar="ANCLA_STACK",
        callback=_one_of,
        help="The engine's stack; the selected one when left out.",
    ),
]
OutputsOption = Annotated[
    Path | None,
    typer.Option(
        "--outputs",
        envvar=OUTPUTS,
        metavar="FILE",
        callback=_one_of,
        help="Read the outputs from FILE (`pulumi stack output --json --show-secrets`), not from the engine.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
ProgressOption = Annotated[
    Progress,
    typer.Option(
        "--progress",
        envvar="ANCLA_PROGRESS",
        help="On stderr: bars on a terminal and lines elsewhere, lines, or JSON lines.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan; change nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
IdentityOption = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        "-i",
        envvar="ANCLA_IDENTITY",
        metavar="FILE",
        help="The age identity file that reads the backups (`ops backup keygen` makes one).",
    ),
]
