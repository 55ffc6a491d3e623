"""How the times of drills went over the chain, laid out for a small chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ops.drill.evidence.document import Document

WIDTH, HEIGHT, MARGIN = 320, 72, 8
LENGTH = 24
"""Drills shown at most."""

Goal = Literal["rto", "rpo"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One drill: where its dot is, and what it says when somebody points at it."""

    x: float
    y: float
    value: float
    green: bool
    when: str


@dataclass(frozen=True, kw_only=True)
class Trend:
    """A chart. `budget_y` is None without a budget, or where it is so far above that it would press the line flat."""

    goal: Goal
    points: tuple[Point, ...]
    budget_y: float | None

    @property
    def line(self) -> str:
        """The points as SVG takes them."""
        return " ".join(f"{point.x},{point.y}" for point in self.points)


def trend(documents: Sequence[Document], name: str, goal: Goal) -> Trend | None:
    """Lay out the drills of one source that reached an answer, oldest first; None for fewer than two."""
    own = [(item, value) for item in documents if item.name == name and (value := _value(item, goal)) is not None]
    own = own[-LENGTH:]
    if len(own) < 2:
        return None
    latest = own[-1][0]
    budget = latest.rto_budget_seconds if goal == "rto" else latest.rpo_budget_seconds
    highest = max(value for _, value in own)
    near = budget is not None and highest > budget / 4
    top = max(highest, budget if budget is not None and near else 0.0) * 1.1 or 1.0

    def height(value: float) -> float:
        return round(HEIGHT - MARGIN - max(value, 0.0) / top * (HEIGHT - 2 * MARGIN), 1)

    step = (WIDTH - 2 * MARGIN) / (len(own) - 1)
    points = tuple(
        Point(
            x=round(MARGIN + i * step, 1),
            y=height(value),
            value=value,
            green=item.verdict != "red",
            when=f"{item.started_at:%Y-%m-%d %H:%M}",
        )
        for i, (item, value) in enumerate(own)
    )
    budget_y = height(budget) if budget is not None and near else None
    return Trend(goal=goal, points=points, budget_y=budget_y)


def _value(item: Document, goal: Goal) -> float | None:
    if item.damage is not None:
        return None
    return item.rto_seconds if goal == "rto" else item.rpo_seconds
