"""How long a restore may take, said before: as the last drill of the same took, else by a rate that is assumed."""

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
"""Bytes of uncompressed dump a second, fetched, put in and compared: what docs/benchmarks/backup.md has measured on two
cores that the server shares, rounded down. A slow network, or many indexes, take longer."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds, and what they were computed from."""

    seconds: float
    basis: str

    def __str__(self) -> str:
        return f"about {formatting.duration(self.seconds)} ({self.basis})"

    @property
    def facts(self) -> dict[str, Any]:
        """The same, for a program."""
        return {"estimated_seconds": round(self.seconds, 1), "estimate_basis": self.basis}


@dataclass(frozen=True, kw_only=True)
class _Drill:
    """What a drill's evidence says of its time: `seconds` from the first byte fetched to the last comparison."""

    backup: str
    at: datetime
    seconds: float
    stored_bytes: int


def estimate(manifest: Manifest, evidence: Path | None, *, stored: int, dumped: int) -> Estimate:
    """Say how long the restore of a backup may take.

    Args:
        manifest: of the backup.
        evidence: the folder of drills' evidence, which need not be there; None: there is none.
        stored: bytes to fetch.
        dumped: the same, decompressed.
    """
    drills = sorted(
        _drills(evidence, manifest) if evidence else (), key=lambda drill: (drill.backup == manifest.id, drill.at)
    )
    if manifest.depends_on:  # what is fetched of others is no part of the bytes in evidence
        drills = [drill for drill in drills if drill.backup == manifest.id and stored >= manifest.stored_bytes]
    if not drills:
        return Estimate(
            seconds=dumped / ASSUMED_RATE,
            basis=f"{formatting.size(dumped)} at {formatting.size(ASSUMED_RATE)}/s, a rate that is assumed: no drill "
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
    """Read what is evidence of this set's drills; all else is passed over, as it is only for an estimate."""
    expected = (manifest.environment, manifest.project, manifest.name, manifest.source.kind, None)
    for path in folder.glob("*.json"):
        try:
            document: Any = json.loads(path.read_bytes())
            found = tuple(document[key] for key in ("environment", "project", "name", "kind", "damage"))
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
