"""`ops swap`: replace the live database with a restored one, and undo that."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from ops.cli.options import DryRunOption, JsonOption, OutputsOption, StackOption, YesOption
from ops.core import console
from ops.core.errors import StackError
from ops.monitoring.audit import audited
from ops.restore import swap
from ops.stack.outputs import LoadedStack, load_stack
from ops.targets import servers

swap_app = typer.Typer(no_args_is_help=True)
DatabaseOption = Annotated[str | None, typer.Option("--name", "-n", help="Live database (default: the stack's first).")]


@swap_app.command("promote")
@audited("swap promote")
def promote(
    copy: Annotated[str, typer.Argument(metavar="COPY", help="Database that `ops restore` created and verified.")],
    name: DatabaseOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rename the live database aside and the copy to its name. Ends the app's sessions; the old data is kept."""
    now = datetime.now(UTC)
    loaded = load_stack(stack, outputs)
    with _cluster(loaded, name) as (cluster, live):
        planned = swap.plan_promote(cluster, live, copy, now)
        if _agreed(planned, loaded.name, dry_run=dry_run, yes=yes):
            swap.run(cluster, planned, console.step)
    _print(planned, done=not dry_run, as_json=as_json)


@swap_app.command("undo")
@audited("swap undo")
def undo(
    name: DatabaseOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put back the database that the last `promote` replaced. Data written since stays in the one set aside."""
    loaded = load_stack(stack, outputs)
    with _cluster(loaded, name) as (cluster, live):
        planned = swap.plan_undo(cluster, live)
        if _agreed(planned, loaded.name, dry_run=dry_run, yes=yes):
            swap.run(cluster, planned, console.step)
    _print(planned, done=not dry_run, as_json=as_json)


@contextmanager
def _cluster(stack: LoadedStack, name: str | None) -> Generator[tuple[swap.Cluster, str]]:
    known = servers.databases(stack)
    if not known or (name is not None and name not in known):
        named = f"no database {name}" if name else "no database to swap"
        raise StackError(f"{stack.name}: {named} in the stack's cluster; there are: {', '.join(known) or 'none'}")
    with servers.database_server(stack) as (admin, owner):
        yield swap.Cluster(admin=admin, owner=owner), name or known[0]


def _agreed(planned: swap.Swap, environment: str, *, dry_run: bool, yes: bool) -> bool:
    console.err.print(
        f"{environment}: {planned.live} becomes {planned.before}, {planned.copy} becomes {planned.live}; "
        f"{planned.sessions} sessions of {planned.live} are ended"
    )
    if dry_run:
        return False
    if not yes:
        console.confirm(f"Swap them in {environment}?")
    return True


def _print(planned: swap.Swap, *, done: bool, as_json: bool) -> None:
    if as_json:
        console.print_json({**asdict(planned), "done": done})
    elif done:
        console.out.print(
            f"[green]swapped[/green] {planned.live} is now the former {planned.copy}; "
            f"the database it replaced is {planned.before}"
        )
    else:
        console.out.print("nothing was changed")
