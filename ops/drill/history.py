"""What drills have proved of each backup, by the evidence they left in a folder.

A drill that is red for a budget alone (too old, too slow) has still restored the backup equal. What is not evidence is
passed over: a file too few keeps a backup less, and never one that the policy keeps. Where the environment names whose
evidence counts, what is signed by nobody of them is passed over too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.backup.drill_history import Proofs
from ops.core.signing import Signature
from ops.drill.evidence.document import wrong_signature

BUDGETS = frozenset({"age", "time", "rpo", "clean"})
"""Checks that say nothing of the backup itself."""
EQUAL = "content"
"""The check that the restored copy is what was backed up."""


def read_proofs(folder: Path, store: str, signers: Sequence[str] = ()) -> Proofs:
    """Read the evidence in a folder, which need not be there; with `signers` (OpenSSH public lines) theirs alone.

    A backup is the same bytes in every store: one that was restored equal from anywhere is verified. What went wrong
    counts for the store of that name alone.
    """
    found = Proofs()
    for drill in sorted(_drills(folder, signers), key=lambda each: each.at):
        if drill.problems and drill.store == store:
            found.verified.pop(drill.backup, None)
            found.refuted[drill.backup] = f"the drill of {drill.at:%Y-%m-%d %H:%M} UTC was red: {drill.problems}"
        if drill.equal and not drill.problems:
            found.verified[drill.backup] = drill.at
            if drill.store == store:
                found.refuted.pop(drill.backup, None)
    return found


@dataclass(frozen=True, kw_only=True)
class _Drill:
    at: datetime
    backup: str
    store: str
    equal: bool
    problems: str


def _drills(folder: Path, signers: Sequence[str]) -> Iterable[_Drill]:
    for path in folder.glob("*.json"):
        try:
            document: Any = json.loads(path.read_bytes())
            if document["damage"] is not None:  # a negative control: it is red on purpose
                continue
            if signers and wrong_signature(Signature.model_validate(document["signed"]), document, signers):
                continue
            status = {check["name"]: check["status"] for check in document["checks"]}
            yield _Drill(
                at=datetime.fromisoformat(document["finished_at"]).astimezone(UTC),
                backup=str(document["backup"]),
                store=str(document["store"]),
                equal=status.get(EQUAL) == "passed",
                problems=", ".join(sorted(name for name in status.keys() - BUDGETS if status[name] == "failed")),
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
