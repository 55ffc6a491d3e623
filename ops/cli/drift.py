"""`ops converge` and `ops drift`: put droplets back, and find what somebody changed by hand."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ops.cli.options import JsonOption, StackName
from ops.core import console
from ops.core.errors import VerdictError
from ops.stack import drift

CheckOption = Annotated[bool, typer.Option("--check", help="Compare and change nothing. Exits 3 if something differs.")]


def converge_command(stack: StackName = None, check: CheckOption = False, as_json: JsonOption = False) -> None:
    """Converge droplets to the last `pulumi up`, whatever was edited by hand; or only compare (`--check`).

    Each difference is one line on stderr, with the lines of a file that differ. Settings that were changed in the stack
    file since then take a `pulumi up`.
    """
    done = [drift.converge(command, check=check) for command in drift.host_commands(stack)]
    if as_json:
        console.print_json(
            {
                "check": check,
                "droplets": [
                    {"name": one.name, "verb": one.verb, "operations": one.operations, "changed": one.changed}
                    for one in done
                ],
            }
        )
    else:
        for one in done:
            verdict = "as it should be" if not one.changed else f"{one.changed} {'differ' if check else 'changed'}"
            console.out.print(f"{escape(one.name)}: {one.operations} operations, {verdict}")
    if check and any(one.changed for one in done):
        raise VerdictError("droplets differ from the last `pulumi up`; `ops converge` puts them back")


def drift_command(stack: StackName = None, as_json: JsonOption = False) -> None:
    """List cloud resources that somebody changed or deleted since the last `pulumi up`. Exits 3 if there are any.

    Nothing is changed, the stack's state included.
    """
    found = drift.cloud_drift(stack)
    if as_json:
        console.print_json(
            {
                "drifted": [
                    {"name": one.name, "kind": one.kind, "gone": one.gone, "properties": one.properties}
                    for one in found
                ]
            }
        )
    elif found:
        table = Table()
        for column in ("resource", "kind", "found"):
            table.add_column(column, overflow="fold")
        for one in found:
            what = "gone" if one.gone else f"changed: {', '.join(one.properties) or '?'}"
            table.add_row(escape(one.name), escape(one.kind), escape(what))
        console.out.print(table)
    else:
        console.out.print("no resource differs from the last `pulumi up`")
    if found:
        raise VerdictError(
            f"{len(found)} resources are not as `pulumi up` left them; `pulumi up --refresh` puts them back, "
            "or change the stack file to what they are now"
        )
