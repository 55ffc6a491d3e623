"""Estimate the duration of a restore: from the last drill of the same backup set, or from an assumed rate."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ops.core import formatting
from ops.repository.manifest import Manifest

ASSUMED_RATE = 40 << 20
"""Bytes of uncompressed dump per second, fetched, loaded and compared: as measured in docs/benchmarks/backup.md on two
cores shared with the server, rounded down. A slow network or many indexes take longer."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Estimated seconds, and what they were computed from."""

    seconds: float
    basis: str

    def __str__(self) -> str:
        return f"about {formatting.duration(self.seconds)} ({self.basis})"

    @property
    def facts(self) -> dict[str, Any]:
        """Return the estimate as JSON values."""
        return {"estimated_seconds": round(self.seconds, 1), "estimate_basis": self.basis}


@dataclass(frozen=True, kw_only=True)
class _Drill:
    """The times in a drill's evidence: `seconds` from the first byte fetched to the last comparison."""

    backup: str
    at: datetime
    seconds: float
    stored_bytes: int


def estimate(manifest: Manifest, evidence: Path | None, *, stored: int, dumped: int) -> Estimate:
    """Estimate the duration of a restore.

    Args:
        manifest: of the backup.
        evidence: the folder of drills' evidence, which may be missing; None: there is none.
        stored: bytes to fetch.
        dumped: the same, decompressed.
    """
    drills = sorted(
        _drills(evidence, manifest) if evidence else (), key=lambda drill: (drill.backup == manifest.id, drill.at)
    )
    if manifest.depends_on:  # the evidence does not count bytes fetched from other backups
        drills = [drill for drill in drills if drill.backup == manifest.id and stored >= manifest.stored_bytes]
    if not drills:
        return Estimate(
            seconds=dumped / ASSUMED_RATE,
            basis=f"{formatting.size(dumped)} at {formatting.size(ASSUMED_RATE)}/s, an assumed rate: no drill "
            f"of {manifest.name} in {evidence}/",
        )
    last = drills[-1]
    share = 1 if manifest.depends_on else stored / last.stored_bytes
    return Estimate(
        seconds=last.seconds * share,
        basis=f"the drill of {last.at:%Y-%m-%d %H:%M} UTC took {formatting.duration(last.seconds)} for "
        f"{formatting.size(last.stored_bytes)} of {last.backup}",
    )


def _drills(folder: Path, manifest: Manifest) -> Iterable[_Drill]:
    """Read the evidence of this set's drills; anything else is skipped, as this is only an estimate."""
    expected = (manifest.environment, manifest.project, manifest.name, None, manifest.source.kind)
    for path in folder.glob("*.json"):
        try:
            document: Any = json.loads(path.read_bytes())
            found = (
                *(document[key] for key in ("environment", "project", "name", "damage")),
                document["detail"]["source"],
            )
            drill = _Drill(
                backup=str(document["backup"]),
                at=datetime.fromisoformat(document["finished_at"]),
                seconds=float(document["rto_seconds"]),
                stored_bytes=int(document["stored_bytes"]),
            )
        except (OSError, ValueError, LookupError, TypeError):
            continue
        if found == expected and drill.stored_bytes > 0 and drill.at.tzinfo:
            yield drill
