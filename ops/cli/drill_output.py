"""Print the evidence of a drill, of any kind, for a person."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from ops.core import console
from ops.drill.evidence.document import Document, Status

VERDICT_COLOURS: dict[str, str] = {"green": "green", "in part": "yellow", "red": "red"}
_COLOURS = {Status.PASSED: "green", Status.FAILED: "red", Status.SKIPPED: "dim"}
_MOST_PROBLEMS = 3
"""Problems of one check that are printed; the document and its page have all of them."""


def print_drill(result: Document) -> None:
    """Print the verdict, every question with its answer, what could not be made, and the figures."""
    colour = VERDICT_COLOURS[result.verdict]
    title = f"[bold {colour}]{result.verdict}[/bold {colour}] drill of {escape(result.subject)}"
    table = Table("", "check", "answer", title=title, title_justify="left")
    for check in result.checks:
        style = _COLOURS[check.status]
        told = dict.fromkeys([check.answer, *check.problems[:_MOST_PROBLEMS]])  # a problem may be the answer itself
        more = len(check.problems) - _MOST_PROBLEMS
        answer = "; ".join(told) + (f"; and {more} more" if more > 0 else "")
        table.add_row(f"[{style}]{check.status}[/{style}]", check.question, escape(answer))
    console.out.print(table)
    for each in result.skipped:
        console.out.print(f"[yellow]not made[/yellow]: {escape(each.what)}: {escape(each.why)}")
        if each.mend:
            console.out.print(f"    to mend it: {escape(each.mend)}")
    console.out.print(escape(result.figures))


def print_place(file: Path, *, signed: bool) -> None:
    """Print where the evidence is, and a warning if nobody has signed it."""
    warning = "" if signed else " [yellow](not signed: give --signing-key)[/yellow]"
    console.out.print(f"evidence: {escape(str(file))}{warning}")
