"""Print the evidence of a drill, of any kind, for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from ops.core import console
from ops.core.formatting import duration, size
from ops.drill.context import Plan
from ops.drill.evidence.document import Document, Status
from ops.drill.negative_controls import CAUGHT_BY, EXPLAINED, Damage

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


def caught(control: Document) -> bool:
    """Return True if a negative control failed the check that must detect its damage."""
    return CAUGHT_BY[Damage(control.damage)] in {check.name for check in control.red}


def print_drills(made: Sequence[Document], page: Path, *, signed: bool) -> None:
    """Print the drills of one run, their negative controls, and where the evidence is."""
    for result in (each for each in made if each.damage is None):
        print_drill(result)
    table = Table("", "negative control", "must turn red", title_justify="left", title="Damaged on purpose")
    for result in (each for each in made if each.damage is not None):
        kind = Damage(result.damage)
        word = "[green]caught[/green]" if caught(result) else "[bold red]NOT SEEN[/bold red]"
        table.add_row(word, escape(f"{result.name}: {EXPLAINED[kind]}"), CAUGHT_BY[kind])
    if table.rows:
        console.out.print(table)
    print_place(page, signed=signed)


def print_plans(plans: Plan | Sequence[Plan], *, as_json: bool) -> None:
    """Print what drills of any kind would do, a line for each fact; a size or duration has its unit in its name."""
    several = [plans] if isinstance(plans, Mapping) else plans
    if as_json:
        console.print_json(dict(plans) if isinstance(plans, Mapping) else [dict(plan) for plan in several])
        return
    for name, value in (fact for plan in several for fact in plan.items()):
        if value is None:
            continue
        shown = value
        if isinstance(value, int | float):
            shown = (
                size(int(value)) if name.endswith("_bytes") else duration(value) if name.endswith("_seconds") else value
            )
        label = name.removesuffix("_seconds").removesuffix("_bytes").replace("_", " ")
        console.out.print(f"{label}: [bold]{escape(str(shown))}[/bold]")
    console.out.print("nothing was made")


def print_place(file: Path, *, signed: bool) -> None:
    """Print the path of the evidence, with a warning if it is not signed."""
    warning = "" if signed else " [yellow](not signed: give --signing-key)[/yellow]"
    console.out.print(f"evidence: {escape(str(file))}{warning}")
