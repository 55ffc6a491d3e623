"""What a run found, as it is kept in JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from pydantic import TypeAdapter

from bench.backup.data import Facts
from bench.backup.rows import Phase

DISTURBED = 0.10
"""A run during which more than this part of the machine's CPU time went to others, or was stolen, is marked."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured run; seconds and bytes. `cpu` is of the tool's own processes."""

    wall: float
    cpu: float
    cpu_database: float
    cpu_store: float
    cpu_foreign: float
    cpu_stolen: float
    cpu_sampler: float
    peak_memory: int
    peak_spool: int
    stored: int
    requests: int
    details: dict[str, float] = field(default_factory=dict)


@dataclass
class RowResult:
    """A row and its runs; `problem` says why there are none, or why the last one is missing."""

    id: str
    phase: Phase
    title: str
    command: str
    note: str
    runs: list[Run] = field(default_factory=list)
    problem: str = ""

    def median(self, value: Callable[[Run], float]) -> float | None:
        """Return the median over the runs; None without any."""
        return median(map(value, self.runs)) if self.runs else None

    @property
    def wall(self) -> float | None:
        """The median wall time."""
        return self.median(lambda run: run.wall)


@dataclass(kw_only=True)
class Results:
    """All of a run. `at` is when it began, `commit` what of Ancla was measured."""

    at: str
    commit: str
    machine: dict[str, str]
    versions: dict[str, str]
    options: dict[str, int | float]
    load_before: float
    load_after: float = 0
    seconds: float = 0
    dump_bytes: int = 0
    data: Facts | None = None
    rows: dict[str, RowResult] = field(default_factory=dict)

    def of(self, phase: Phase) -> list[RowResult]:
        """Return the rows of a phase."""
        return [row for row in self.rows.values() if row.phase is phase]

    def disturbed(self) -> list[str]:
        """Name the runs during which the machine did something else as well."""
        cores = int(self.machine["cores"])
        return [
            f"{row.id} run {number + 1}"
            for row in self.rows.values()
            for number, run in enumerate(row.runs)
            if run.cpu_foreign + run.cpu_stolen > DISTURBED * cores * run.wall
        ]


def write(results: Results, file: Path) -> None:
    """Write the results as JSON."""
    file.write_bytes(_FORM.dump_json(results, indent=1) + b"\n")


def read(file: Path) -> Results:
    """Read results that `write` wrote."""
    return _FORM.validate_json(file.read_bytes())


_FORM = TypeAdapter(Results)
