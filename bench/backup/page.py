"""The page and the chart of a run, from its results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.backup.chart import draw
from bench.backup.data import MIB
from bench.backup.figures import compared_with, cpu_floor, figures, floor_shares, losses
from bench.backup.results import Results, RowResult, Run
from bench.backup.rows import RESTORE_FLOOR, ROWS, Phase

_COLUMNS: tuple[tuple[str, Callable[[Run], float], float], ...] = (
    ("cpu", lambda run: run.cpu, 1),
    ("cpu_database", lambda run: run.cpu_database, 1),
    ("cpu_store", lambda run: run.cpu_store, 1),
    ("memory", lambda run: run.peak_memory, MIB),
    ("spool", lambda run: run.peak_spool, MIB),
    ("stored", lambda run: run.stored, MIB),
    ("requests", lambda run: run.requests, 1),
)


def write_page(results: Results, folder: Path) -> Path:
    """Write `backup.md` and `backup.svg` into `folder`; returns the page."""
    (folder / "backup.svg").write_text(draw(results))
    order = {row.id: number for number, row in enumerate(ROWS)}
    templates = Environment(
        loader=PackageLoader("bench.backup", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # Markdown of our own numbers
    )
    templates.filters["mib"] = _mebibytes
    page = folder / "backup.md"
    page.write_text(
        templates.get_template("page.md.j2").render(
            results=results,
            phases={
                phase.value: [_cells(results, row) for row in sorted(results.of(phase), key=lambda row: order[row.id])]
                for phase in Phase
            },
            figures=figures(results),
            floor=cpu_floor(results),
            shares=floor_shares(results),
            restore_floor=cpu_floor(results, RESTORE_FLOOR),
            restore_shares=floor_shares(results, RESTORE_FLOOR),
            losses=losses(results),
            disturbed=results.disturbed(),
            rows=sorted(results.rows.values(), key=lambda row: order[row.id]),
            sampled=max((run.cpu_sampler / run.wall for row in results.rows.values() for run in row.runs), default=0),
        )
    )
    return page


def _mebibytes(value: int) -> str:
    return f"{value / MIB:,.0f}"


def _cells(results: Results, row: RowResult) -> dict[str, str]:
    title = row.title + (f" ({row.note})" if row.note else "")
    name = f"**{title}**" if row.title.startswith("Ancla") else title
    cells = {
        "name": name.replace("|", "\\|"),
        "problem": row.problem,
        "wall": row.problem or "not measured",
        "runs": "",
    }
    if not row.runs:
        return cells | dict.fromkeys(("ratio", *(name for name, _, _ in _COLUMNS)), "")
    walls = sorted(run.wall for run in row.runs)
    spread = f" ({walls[0]:.1f}–{walls[-1]:.1f})" if len(walls) > 1 else ""
    share = compared_with(results, row)
    cells |= {
        "wall": f"{row.wall:.1f}{spread}" + (f", then {row.problem}" if row.problem else ""),
        "runs": str(len(walls)),
        "ratio": "" if share is None else f"{share:.2f}",
    }
    for name, value, scale in _COLUMNS:
        middle = (row.median(value) or 0) / scale
        cells[name] = f"{middle:.1f}" if name.startswith("cpu") else f"{middle:,.0f}"
    return cells
