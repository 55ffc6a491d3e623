"""`ops status`: check that the parts of an environment answer."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from ops import status
from ops.cli.options import JsonOption, OutputsOption, StackOption
from ops.core import console
from ops.core.errors import VerdictError
from ops.stack.outputs import load_stack


def status_command(stack: StackOption = None, outputs: OutputsOption = None, as_json: JsonOption = False) -> None:
    """Check the droplet, services, database, backups and public address. Exits 3 if something is down."""
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
