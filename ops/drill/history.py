"""Read what drills have shown of each backup from the evidence in a folder.

A drill that is red only for a budget (too old, too slow) has still restored the backup equal. Files that are not valid
evidence are ignored, and so is evidence that is signed by none of the trusted keys. Missing evidence can only cost a
backup its protection as drill-verified; it never makes prune delete what the policy keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from pathlib import Path

from ops.backup.drill_history import DrillHistory
from ops.drill.evidence.details import BackupDetail
from ops.drill.evidence.document import Status
from ops.drill.evidence.store import documents

BUDGETS = frozenset({"age", "time", "rpo", "clean"})
"""Checks that say nothing of the backup itself."""
EQUAL = "content"
"""The check that the restored copy is what was backed up."""


def read_history(folder: Path, store: str, signers: Sequence[str] = ()) -> dict[str, DrillHistory]:
    """Read the evidence in a folder, which need not exist, by the name of the backup set.

    A backup is the same bytes in every store: one that was restored equal from anywhere is verified. What went wrong,
    and which backups were present, counts for the store of that name alone.

    Args:
        folder: of the evidence.
        store: the store that is asked about.
        signers: keys (OpenSSH lines) whose evidence is trusted; none: every one is.
    """
    found: dict[str, DrillHistory] = {}
    trusted = (link.document for link in documents(folder) if link.document.damage is None and link.is_trusted(signers))
    for drill in sorted(trusted, key=lambda document: document.finished_at):
        detail = drill.detail
        if not isinstance(detail, BackupDetail):
            continue  # a drill of somebody else's backup
        of_set = found.setdefault(drill.name, DrillHistory())
        if detail.store == store:
            for backup, digest in detail.present.items():
                of_set.seen.setdefault(backup, set()).add(digest)
        if drill.backup is None or detail.manifest_digest is None:
            continue
        key, at = (drill.backup, detail.manifest_digest), drill.finished_at.astimezone(UTC)
        status = {check.name: check.status for check in drill.checks}
        wrong = ", ".join(sorted(name for name in status.keys() - BUDGETS if status[name] is Status.FAILED))
        if detail.store == store:
            of_set.seen.setdefault(drill.backup, set()).add(detail.manifest_digest)
        if wrong and detail.store == store:
            of_set.verified.pop(key, None)
            of_set.failed[key] = f"the drill of {at:%Y-%m-%d %H:%M} UTC was red: {wrong}"
        if status.get(EQUAL) is Status.PASSED and not wrong:
            of_set.verified[key] = at
            if detail.store == store:
                of_set.failed.pop(key, None)
    return found
