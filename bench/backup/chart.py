"""The chart of a run: bars of wall time, with the shortest and longest run, as one SVG for light and dark pages."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.backup.data import MIB
from bench.backup.figures import cpu_floor
from bench.backup.results import Results
from bench.backup.rows import OURS

WIDTH = 860
LABELS = 300
BARS = 420
LINE = 30

_PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Backup: dumped, compressed, encrypted, uploaded",
        (
            (OURS, "Ancla, with fingerprints"),
            ("B", "pg_dump → zstd → age → upload"),
            ("C0", "pg_dump -Fd -j2, then the same"),
            ("A", "pg_dump -Fc (gzip), then upload"),
            ("D", "pg_dump → restic --stdin"),
            ("E", "pg_dump -Fd -j2, then restic"),
        ),
    ),
    (
        "Restore",
        (
            ("R-ours", "Ancla, to verified"),
            ("R-local", "pg_restore -j2, local folder"),
            ("R-C0", "fetch all, then pg_restore -j2"),
            ("R-B", "fetch → age → zstd → pg_restore"),
            ("R-A", "pg_dump -Fc file, pg_restore -j2"),
            ("R-D", "restic dump → pg_restore"),
            ("R-E", "restic restore, pg_restore -j2"),
        ),
    ),
    (
        "Backup with each database connection held to 30 MB/s",
        (("H-ours", "Ancla, with fingerprints"), ("H-B", "pg_dump → zstd → age → upload")),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar; lengths in user units, `spread` from the shortest to the longest run."""

    label: str
    kind: str
    y: int
    length: float
    spread: tuple[float, float]
    text: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One group of bars on a scale of its own."""

    title: str
    y: int
    bars: list[Bar]


def draw(results: Results) -> str:
    """Return the chart as SVG; rows that were not measured are left out."""
    panels: list[Panel] = []
    y = 96
    for title, rows in _PANELS:
        panel = _panel(results, title, rows, y)
        if panel.bars:
            panels.append(panel)
            y = panel.bars[-1].y + LINE + 30
    templates = Environment(
        loader=PackageLoader("bench.backup", "."), undefined=StrictUndefined, autoescape=True, trim_blocks=True
    )
    return templates.get_template("chart.svg.j2").render(
        panels=panels,
        width=WIDTH,
        height=y - 20,
        begin=LABELS,
        subtitle=_subtitle(results),
        warning="disturbed by other work: not to be quoted" if results.disturbed() else "",
    )


def _panel(results: Results, title: str, rows: tuple[tuple[str, str], ...], y: int) -> Panel:
    values: list[tuple[str, str, float, float, float]] = []
    for name, label in rows:
        row = results.rows.get(name)
        if row is not None and row.wall is not None:
            walls = [run.wall for run in row.runs]
            kind = "ours" if label.startswith("Ancla") else "other"
            values.append((label, kind, row.wall, min(walls), max(walls)))
    floor = cpu_floor(results)
    if floor is not None and rows[0][0] == OURS:
        values.append(("CPU floor: every step alone, ÷ cores", "floor", floor, floor, floor))
    scale = BARS / max((value[4] for value in values), default=1)
    bars = [
        Bar(
            label=label,
            kind=kind,
            y=y + 16 + LINE * number,
            length=round(middle * scale, 1),
            spread=(round(least * scale, 1), round(most * scale, 1)),
            text=f"{middle:.1f} s",
        )
        for number, (label, kind, middle, least, most) in enumerate(values)
    ]
    return Panel(title=title, y=y, bars=bars)


def _subtitle(results: Results) -> str:
    size = f"{results.data.database_bytes / MIB:,.0f} MiB database, " if results.data else ""
    cores, level = results.machine["cores"], results.options["level"]
    return (
        f"{size}{cores} cores shared with the servers, zstd {level:.0f}, medians; thin lines: shortest to longest run"
    )
