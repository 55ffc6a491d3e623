"""The options that commands share, so that they are spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ops.console import Progress


def _one_of(context: typer.Context, value: Any) -> Any:
    """Refuse --stack beside --outputs, where both were typed: they may well be of two environments."""
    sources = [context.get_parameter_source(name) for name in ("stack", "outputs")]
    if all(source is not None and source.name == "COMMANDLINE" for source in sources):
        raise typer.BadParameter("is another choice than --stack; give one of them", param_hint="--outputs")
    return value


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
        envvar="ANCLA_OUTPUTS",
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
