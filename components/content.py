"""The hash of what a droplet is made from: the same on every computer and in every folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACED = ("host", "blueprint", "ops")
"""Folders that `host` runs from and installs on a droplet."""

_LEFT_OUT = {"__pycache__"}


def content_hash(root: Path = ROOT, placed: tuple[str, ...] = PLACED) -> str:
    """Return the SHA-256 of the files' names and contents; caches and hidden files do not count."""
    digest = hashlib.sha256()
    for file in _files(root, placed):
        for part in (file.relative_to(root).as_posix().encode(), file.read_bytes()):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()


def _files(root: Path, placed: tuple[str, ...]) -> list[Path]:
    found: list[Path] = []
    for name in placed:
        path = root / name
        found += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sorted(file for file in found if _counts(file.relative_to(root)))


def _counts(file: Path) -> bool:
    return not any(part in _LEFT_OUT or part.startswith(".") for part in file.parts)
