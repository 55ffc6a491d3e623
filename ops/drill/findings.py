"""What a drill finds on its way: checks, phases, tables. The rehearsal of each kind adds to it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

from ops.backup.manifest import Manifest
from ops.drill.evidence import Check, Phase, Status, TableComparison


@dataclass(kw_only=True)
class Findings:
    """What a drill has found so far. `rto` in seconds, from the first byte fetched."""

    began: float = field(default_factory=time.monotonic)
    checks: list[Check] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    tables: list[TableComparison] = field(default_factory=list)
    manifest: Manifest | None = None
    rto: float | None = None
    tools: dict[str, str] = field(default_factory=dict)
    not_compared: list[str] = field(default_factory=list)
    scratch: list[Path] = field(default_factory=list)
    profile: str = ""

    @contextlib.contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Time a stretch of the drill."""
        begin = time.monotonic()
        try:
            yield
        finally:
            seconds = round(time.monotonic() - begin, 3)
            self.phases.append(Phase(name=name, begin=round(begin - self.began, 3), seconds=seconds))

    def add(self, check: Check) -> bool:
        """Note a check; say whether it passed."""
        self.checks.append(check)
        return check.status is Status.PASSED


Report = Callable[[str], None]
Rehearsal = Callable[[Findings, Path, Manifest, contextlib.ExitStack, Report], bool]
"""Restores the backup that was fetched into a folder, in a place that the stack removes, and adds checks; says whether
it could be used."""
