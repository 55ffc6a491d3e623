"""What is said of the measurements: each figure names its baseline, which is of the same run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.backup.data import MIB
from bench.backup.results import Results, RowResult, Run
from bench.backup.rows import FLOOR, OURS, RESTORE_FLOOR, Phase

MEMORY_LIMIT = 220
"""MiB, summed PSS of the tool's process tree."""

NOTEWORTHY = 1.02
"""A difference below this is not called one."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure with its target; `value` is None when a row it needs was not measured."""

    name: str
    value: float | None
    limit: float
    unit: str = "×"

    @property
    def met(self) -> bool | None:
        """Whether the target is met."""
        return None if self.value is None else self.value <= self.limit


@dataclass(frozen=True, kw_only=True)
class Share:
    """CPU seconds of one step of the floor, measured alone."""

    row: RowResult
    seconds: float


def floor_shares(results: Results, steps: tuple[str, ...] = FLOOR) -> list[Share]:
    """Return the steps of a CPU floor; the database's CPU counts as well.

    Empty when one of them was not measured: a floor with a step left out would be no floor.
    """
    shares: list[Share] = []
    for name in steps:
        row = results.rows.get(name)
        seconds = row.median(lambda run: run.cpu + run.cpu_database) if row is not None else None
        if row is None or seconds is None:
            return []
        shares.append(Share(row=row, seconds=seconds))
    return shares


def cpu_floor(results: Results, steps: tuple[str, ...] = FLOOR) -> float | None:
    """Return the least wall time: the CPU seconds of the steps, divided by the cores."""
    shares = floor_shares(results, steps)
    return sum(share.seconds for share in shares) / int(results.machine["cores"]) if shares else None


def figures(results: Results) -> list[Figure]:
    """Return the figures that Ancla sets itself, in their order."""

    def wall(name: str) -> float | None:
        row = results.rows.get(name)
        return row.wall if row else None

    def memory(name: str) -> float | None:
        row = results.rows.get(name)
        peak = max((run.peak_memory for run in row.runs), default=None) if row else None
        return None if peak is None else peak / MIB

    drill = results.rows.get("drill")
    contained = drill.median(lambda run: run.details.get("contained", 0)) if drill else None
    ours = wall(OURS)
    return [
        Figure(name="backup ÷ the best simple stream (B)", value=ratio(ours, wall("B")), limit=0.8),
        Figure(name="backup ÷ pg_dump -Fc, then upload (A)", value=ratio(ours, wall("A")), limit=0.25),
        Figure(name="backup ÷ the CPU floor", value=ratio(ours, cpu_floor(results)), limit=1.1),
        Figure(
            name="backup ÷ the stream (B), each database connection held to 30 MB/s",
            value=ratio(wall("H-ours"), wall("H-B")),
            limit=0.58,
        ),
        Figure(
            name="restore to verified ÷ its own CPU floor",
            value=ratio(wall("R-ours"), cpu_floor(results, RESTORE_FLOOR)),
            limit=1.15,
        ),
        Figure(
            name="restore to verified ÷ pg_restore -j2 from a local folder",
            value=ratio(wall("R-ours"), wall("R-local")),
            limit=1.1,
        ),
        Figure(
            name="restore to verified ÷ the stream restore (B)", value=ratio(wall("R-ours"), wall("R-B")), limit=0.7
        ),
        Figure(name="drill ÷ the restore it contains", value=ratio(wall("drill"), contained), limit=1.15),
        Figure(name="peak memory of the backup", value=memory(OURS), limit=MEMORY_LIMIT, unit=" MiB"),
        Figure(name="peak memory of the backup, 4× the data", value=memory("ours-4x"), limit=MEMORY_LIMIT, unit=" MiB"),
        # the changed data is doubled, and measured just before; the first backup lies half an hour back
        Figure(name="time of 2× the data ÷ 1×, just before", value=ratio(wall("ours-2x"), wall("ours-2")), limit=2.05),
        Figure(name="time of 4× the data ÷ 2×", value=ratio(wall("ours-4x"), wall("ours-2x")), limit=2.05),
    ]


def ratio(part: float | None, whole: float | None) -> float | None:
    """Divide, where there is something to divide."""
    return part / whole if part is not None and whole else None


_METRICS: tuple[tuple[str, str, Callable[[Run], float], float], ...] = (
    ("wall time", "s", lambda run: run.wall, 1),
    ("CPU of the tool", "s", lambda run: run.cpu, 1),
    ("CPU of the database", "s", lambda run: run.cpu_database, 1),
    ("peak memory", "MiB", lambda run: run.peak_memory, MIB),
    ("peak spool", "MiB", lambda run: run.peak_spool, MIB),
    ("bytes stored", "MiB", lambda run: run.stored, MIB),
    ("requests", "", lambda run: run.requests, 1),
)
_PAIRS = {
    Phase.BACKUP: (OURS, ("A", "B", "C0", "C1", "D", "E")),
    Phase.RESTORE: ("R-ours", ("R-local", "R-A", "R-B", "R-C0", "R-D", "R-E")),
    Phase.HELD: ("H-ours", ("H-B",)),
    Phase.CHANGED: ("ours-2", ("D-2", "E-2")),
}


def compared_with(results: Results, row: RowResult) -> float | None:
    """Return Ancla's wall time ÷ this row's, for the rows that do the same work."""
    name, others = _PAIRS.get(row.phase, ("", ()))
    mine = results.rows.get(name)
    return ratio(mine.wall, row.wall) if mine is not None and row.id in others else None


def losses(results: Results) -> list[str]:
    """Name everything that Ancla does worse than another row of the same phase, by the medians."""
    found: list[str] = []
    for name, others in _PAIRS.values():
        mine = results.rows.get(name)
        for other in (results.rows[key] for key in others if key in results.rows):
            worse: list[str] = []
            for what, unit, value, scale in _METRICS:
                left, right = mine.median(value) if mine else None, other.median(value)
                if left is None or right is None or left <= right * NOTEWORTHY or round(left / scale, 1) == 0:
                    continue
                worse.append(f"{what} {_number(left / scale)} against {_number(right / scale)} {unit}".rstrip())
            if worse:
                found.append(f"{other.title}: " + "; ".join(worse))
    return found


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
