"""Path patterns of the command provider: `*` within a folder, `**` across folders, `!` takes away again."""

from __future__ import annotations

import os
import re
from pathlib import Path


def matching(folder: Path, patterns: list[str]) -> list[str]:
    """List the files under `folder` that the patterns pick, the last that fits deciding; paths are relative."""
    rules = [(pattern.startswith("!"), _compiled(pattern.removeprefix("!"))) for pattern in patterns]
    found: list[str] = []
    for root, _, names in os.walk(folder):
        for name in names:
            path = (Path(root) / name).relative_to(folder).as_posix()
            picked = False
            for takes_away, rule in rules:
                if rule.fullmatch(path):
                    picked = not takes_away
            if picked:
                found.append(path)
    return sorted(found)


def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    means = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(means.get(part) or re.escape(part) for part in parts))
