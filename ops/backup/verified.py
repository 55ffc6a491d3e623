"""When a drill last restored which backup equal, by the evidence that drills have left in a folder.

What is not evidence is passed over: here a file too many does no harm, it only ever keeps a backup.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any


def verified(folder: Path) -> dict[str, datetime]:
    """Return the time of the last green drill by the backup's id; nothing where there is no such folder."""
    found: dict[str, datetime] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            document: Any = json.loads(path.read_bytes())
            if document["verdict"] != "green" or document.get("damage"):
                continue
            backup, at = str(document["backup"]), datetime.fromisoformat(document["finished_at"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
        if at.tzinfo is not None:
            found[backup] = max(at, found.get(backup, at))
    return found
