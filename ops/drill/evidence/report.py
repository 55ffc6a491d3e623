"""The drills of one run as one HTML page: no script, font or picture from elsewhere, so that CI can keep it as it is.

The page is a view. The documents beside it are the evidence, and name the page by its digest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ops.core.formatting import count, duration
from ops.core.messages import say
from ops.drill.checks import key_name
from ops.drill.evidence.catalogue import Language, translate
from ops.drill.evidence.document import Document
from ops.drill.evidence.trend import HEIGHT, WIDTH, Trend, trend
from ops.drill.negative_controls import CAUGHT_BY, EXPLAINED, Damage

TEMPLATE = "report.html.j2"
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A phase as the timeline draws it: `left` and `width` in percent of the drill."""

    name: str
    took: str
    left: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Section:
    """One source's drill as the page shows it."""

    evidence: Document
    bars: list[Bar]
    ticks: list[tuple[float, str]]
    rto_share: float | None
    rpo_share: float | None
    trends: list[Trend]


@dataclass(frozen=True, kw_only=True)
class Control:
    """A negative control as the page shows it."""

    name: str
    damage: str
    check: str
    caught: bool
    answer: str


def render(
    new: Sequence[Document],
    earlier: Sequence[Document] = (),
    *,
    language: Language = Language.EN,
    signer: str | None = None,
) -> str:
    """Return the page of the drills of one run.

    Args:
        new: the documents of the run, controls among them.
        earlier: what the chain held before, for the trend.
        language: of everything but names, and what programs said.
        signer: the public key the documents are signed with.
    """
    drills = [item for item in new if item.damage is None]
    controls = [_control(item) for item in new if item.damage is not None]
    right = all(item.verdict != "red" for item in drills) and all(control.caught for control in controls)
    in_part = any(item.verdict == "in part" for item in drills)
    local = partial(translate, language)
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "duration": lambda value: local(duration(cast("float | None", value))),
        "count": count,
        "t": local,
    }
    return templates.get_template(TEMPLATE).render(
        language=language.value,
        verdict=("in part" if in_part else "green") if right else "red",
        title=(drills or new)[0].detail.title((drills or new)[0]),
        first=new[0],
        last=new[-1],
        sections=[_section(item, [*earlier, *new]) for item in drills],
        controls=controls,
        signer=key_name(signer) if signer else None,
        chart=(WIDTH, HEIGHT),
    )


def _total(evidence: Document) -> float:
    return max((phase.begin + phase.seconds for phase in evidence.phases), default=1.0) or 1.0


def bars(evidence: Document, total: float) -> list[Bar]:
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
    count_of = math.floor(total / step) + 1
    return [(round(i * step / total * 100, 2), duration(i * step)) for i in range(count_of)]


def share(value: float | None, budget: int | None) -> float | None:
    """Return how much of a budget is used, in percent, at most 100."""
    return None if value is None or budget is None else round(min(max(value, 0) / max(budget, 1) * 100, 100), 1)


def _section(evidence: Document, documents: Sequence[Document]) -> Section:
    total = _total(evidence)
    trends = [trend(documents, evidence.name, goal) for goal in ("rto", "rpo")]
    return Section(
        evidence=evidence,
        bars=bars(evidence, total),
        ticks=ticks(total),
        rto_share=share(evidence.rto_seconds, evidence.rto_budget_seconds),
        rpo_share=share(evidence.rpo_seconds, evidence.rpo_budget_seconds),
        trends=[found for found in trends if found is not None],
    )


def _control(evidence: Document) -> Control:
    kind = Damage(evidence.damage)
    check = next((check for check in evidence.red if check.name == CAUGHT_BY[kind]), None)
    return Control(
        name=evidence.name,
        damage=EXPLAINED[kind],
        check=CAUGHT_BY[kind],
        caught=check is not None,
        answer=check.message if check else say("not seen"),
    )
