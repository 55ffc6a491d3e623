"""Print the evidence of a drill, of any kind, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from ops.core import console
from ops.core.formatting import duration, size
from ops.drill.evidence.document import Document, Status

VERDICT_COLOURS: dict[str, str] = {"green": "green", "in part": "yellow", "red": "red"}
_COLOURS = {Status.PASSED: "green", Status.FAILED: "red", Status.SKIPPED: "dim"}
_MOST_PROBLEMS = 3
"""Problems of one check that are printed; the document and its page have all of them."""


def print_drill(result: Document) -> None:
    """Print the verdict, every check with its result, the skipped objects, and the figures."""
    colour = VERDICT_COLOURS[result.verdict]
    title = f"[bold {colour}]{result.verdict}[/bold {colour}] drill of {escape(result.subject)}"
    table = Table("", "check", "answer", title=title, title_justify="left")
    for check in result.checks:
        style = _COLOURS[check.status]
        texts = dict.fromkeys([check.answer, *check.problems[:_MOST_PROBLEMS]])  # a problem may be the answer itself
        more = len(check.problems) - _MOST_PROBLEMS
        answer = "; ".join(texts) + (f"; and {more} more" if more > 0 else "")
        table.add_row(f"[{style}]{check.status}[/{style}]", check.question, escape(answer))
    console.out.print(table)
    for each in result.skipped:
        console.out.print(f"[yellow]skipped[/yellow]: {escape(each.what)}: {escape(each.why)}")
        if each.mend:
            console.out.print(f"    to fix it: {escape(each.mend)}")
    console.out.print(escape(result.figures))


def print_plan(*plans: Mapping[str, object]) -> None:
    """Print what drills would do, a line for each fact."""
    for name, value in (fact for plan in plans for fact in plan.items()):
        if value is None:
            continue
        shown = size(value) if name.endswith(("_bytes", "size")) and isinstance(value, int) else value
        if name.endswith("_seconds") and isinstance(value, int):
            shown = duration(value)
        label = name.removesuffix("_seconds").removesuffix("_bytes").replace("_", " ")
        console.out.print(f"{label}: [bold]{escape(str(shown))}[/bold]")
    console.out.print("nothing was made")


def print_place(file: Path, *, signed: bool) -> None:
    """Print the path of the evidence, with a warning if it is not signed."""
    warning = "" if signed else " [yellow](not signed: give --signing-key)[/yellow]"
    console.out.print(f"evidence: {escape(str(file))}{warning}")
