"""Define the options that commands share, and parse their values."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.core.console import Progress
from ops.core.formatting import parse_utc

OUTPUTS = "ANCLA_OUTPUTS"
GIVEN = ("COMMANDLINE", "ENVIRONMENT")
"""Names of click's parameter sources for a value that the user gave."""


def _one_of(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    """Reject --stack together with --outputs: they may be of two environments. The command line wins over variables.

    Click parses the command line first, so the callback that runs second sees both values.
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
        raise typer.BadParameter("cannot be combined with --stack", param_hint="--outputs")
    return value if own.name == "COMMANDLINE" else None


StackOption = Annotated[
    str | None,
    typer.Option(
        "--stack",
        "-s",
        envvar="ANCLA_STACK",
        callback=_one_of,
        help="Pulumi stack (default: the selected one).",
    ),
]
StackName = Annotated[
    str | None, typer.Option("--stack", "-s", envvar=["ANCLA_STACK", "PULUMI_STACK"], help="The stack.")
]
"""The stack of a command that needs the engine's record of it, so that no file of outputs takes its place."""
OutputsOption = Annotated[
    Path | None,
    typer.Option(
        "--outputs",
        envvar=OUTPUTS,
        metavar="FILE",
        callback=_one_of,
        help="Read the outputs from FILE (`pulumi stack output --json --show-secrets`) instead of from Pulumi.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
ProgressOption = Annotated[
    Progress,
    typer.Option(
        "--progress",
        envvar="ANCLA_PROGRESS",
        help="Progress on stderr: `auto` draws bars on a terminal and prints lines elsewhere; `json` is JSON lines.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
IdentityOption = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        "-i",
        envvar="ANCLA_IDENTITY",
        metavar="FILE",
        help="age identity file that decrypts the backups (`ops backup keygen` generates one).",
    ),
]
SigningKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--signing-key",
        envvar="ANCLA_SIGNING_KEY",
        metavar="FILE",
        help="The runner's OpenSSH ed25519 key; its public key is in backup.signers. It signs drill evidence (default: "
        "unsigned), the verification log and accepted backups (default: the stack's key).",
    ),
]


def point_in_time(text: str, *words: str) -> datetime | None:
    """Parse the value of --at: a time (UTC unless it has an offset), or None for one of `words`.

    Raises:
        BadParameter: it is neither a time nor one of the words.
    """
    if text in words:
        return None
    try:
        return parse_utc(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text}: expected {', '.join(words)} or a time such as 2026-11-23T03:00:00Z", param_hint="--at"
        ) from None
