"""The drill as one HTML page: no script, no font and no picture from elsewhere, so that CI can keep it as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ops.drill.damage import EXPLAINED, Damage
from ops.drill.evidence import Evidence, stem

TEMPLATE = "report.html.j2"
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A phase as the timeline draws it: `left` and `width` in percent of the whole drill."""

    name: str
    took: str
    left: float
    width: float


def write_html(evidence: Evidence, folder: Path) -> Path:
    """Write the page beside the JSON document; returns its path."""
    path = folder / f"{stem(evidence)}.html"
    path.write_text(render(evidence))
    return path


def render(evidence: Evidence) -> str:
    """Return the page."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.filters |= {"duration": duration, "size": size, "count": count}
    total = max((phase.begin + phase.seconds for phase in evidence.phases), default=1.0) or 1.0
    return templates.get_template(TEMPLATE).render(
        evidence=evidence,
        bars=bars(evidence, total),
        ticks=ticks(total),
        rto_share=share(evidence.rto_seconds, evidence.rto_budget_seconds),
        rpo_share=share(evidence.rpo_seconds, evidence.rpo_budget_seconds),
        damage=EXPLAINED[Damage(evidence.damage)] if evidence.damage else None,
    )


def bars(evidence: Evidence, total: float) -> list[Bar]:
    """Lay the phases out, one line each, in the order they happened."""
    return [
        Bar(
            name=phase.name,
            took=duration(phase.seconds),
            left=round(phase.begin / total * 100, 2),
            width=round(phase.seconds / total * 100, 2),
        )
        for phase in evidence.phases
    ]


def ticks(total: float) -> list[tuple[float, str]]:
    """Return (percent, text) of the time axis: three to six round steps."""
    step = next((step for step in _STEPS if total / step <= 5), total / 5)
    return [(round(i * step / total * 100, 2), duration(i * step)) for i in range(math.floor(total / step) + 1)]


def share(value: float | None, budget: int) -> float | None:
    """Return how much of a budget is used, in percent, at most 100."""
    return None if value is None else round(min(max(value, 0) / budget * 100, 100), 1)


def duration(seconds: float | None) -> str:
    """Return a duration as a person says it."""
    if seconds is None:
        return "not reached"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} days"


def size(value: int) -> str:
    """Return bytes as a person reads them."""
    number = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def count(value: int | None) -> str:
    """Return a number with its thousands apart; a dash for none."""
    return "\u2013" if value is None else f"{value:,}".replace(",", "\u202f")
