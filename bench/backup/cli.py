"""The command line of the comparison."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from bench.backup import results as kept
from bench.backup import session
from bench.backup.data import MIB
from bench.backup.page import write_page
from bench.backup.rows import ROWS
from bench.backup.servers import MissingError

FULL_MB = 2048
PAGES = Path("docs/benchmarks")
TRIALS = Path(".sandbox/bench")
console = Console(stderr=True, highlight=False)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def compare(
    size_mb: Annotated[int, typer.Option("--size-mb", min=8, help="MiB of rows to generate.")] = FULL_MB,
    runs: Annotated[int, typer.Option("--runs", min=1, help="How often the rows that matter most are measured.")] = 3,
    minutes: Annotated[float, typer.Option("--minutes", help="After this long nothing is measured again.")] = 34,
    seed: Annotated[int, typer.Option("--seed", help="What the data and the order are drawn from.")] = 20261123,
    level: Annotated[int, typer.Option("--level", min=1, max=19, help="zstd's level, of every tool.")] = 3,
    only: Annotated[str, typer.Option("--only", metavar="ROW,…", help="These rows, and what they need.")] = "",
    work: Annotated[Path | None, typer.Option("--work", help="Where all of it is made; TMPDIR else.")] = None,
    pages: Annotated[
        Path | None,
        typer.Option("--results", help=f"Where the results go; {PAGES}, or {TRIALS} when smaller than {FULL_MB} MiB."),
    ] = None,
    render: Annotated[bool, typer.Option("--render", help="Measure nothing: page and chart from the JSON.")] = False,
) -> None:
    """Measure Ancla's backups beside the usual tools; write a table, a chart and the raw numbers."""
    asked = frozenset(filter(None, only.split(",")))
    unknown = asked - {row.id for row in ROWS}
    if unknown:
        raise typer.BadParameter(f"no row {min(unknown)}; there are: {', '.join(row.id for row in ROWS)}")
    folder = pages or (PAGES if size_mb >= FULL_MB else TRIALS)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "backup.json"
    if not render:
        options = session.Options(
            size=size_mb * MIB, runs=runs, minutes=minutes, seed=seed, level=level, work=work, only=asked
        )
        kept.write(session.run(options, lambda line: console.print(escape(line), soft_wrap=True)), file)
    page = write_page(kept.read(file), folder)
    console.print(f"[green]written[/green] {page}")


def main() -> NoReturn:
    """Run the command line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the servers are stopped, the folders removed
    try:
        app(standalone_mode=True)
    except MissingError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        sys.exit(1)
    except FileNotFoundError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error.filename))}: not found")
        sys.exit(1)
    sys.exit(0)
