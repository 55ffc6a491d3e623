"""Inspect the engine's file backend: who holds its lock, and which files a killed engine left incomplete."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from ops.core.errors import StackError
from ops.stack.outputs import pulumi_json


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A lock of the file backend: its holder, and whether that process still runs here."""

    path: Path
    pid: int
    host: str
    held: bool


@dataclass(frozen=True, kw_only=True)
class FileBackend:
    """The engine's file backend for one stack. Other backends manage their own locks and write complete files."""

    root: Path
    project: str
    stack: str

    def locks(self) -> list[Lock]:
        """Return the locks of the stack."""
        folder = self.root / "locks" / "organization" / self.project / self.stack
        return [_lock(file) for file in sorted(folder.glob("*.json"))]

    def torn(self) -> list[Path]:
        """Return the sidecar files (`*.attrs`: content type and MD5) that a killed engine left incomplete.

        The backend writes a file under another name and renames it, but its sidecar in place; with a torn one it can
        read nothing any more ("failed to load checkpoint: EOF"). Without a sidecar it works: its content is not needed.
        """
        patterns = (
            f"stacks/{self.project}/{self.stack}.json*.attrs",
            f"locks/organization/{self.project}/{self.stack}/*.attrs",
            f"history/{self.project}/{self.stack}/*.attrs",
        )
        return sorted(path for pattern in patterns for path in self.root.glob(pattern) if not _is_json(path))


def file_backend(stack: str) -> FileBackend | None:
    """Return the file backend that the engine uses here; None for another type of backend.

    Raises:
        StackError: the engine does not report its backend, or there is no project here.
    """
    url = str(pulumi_json(["whoami", "--verbose", "--json"], stack=None).get("url", ""))
    if not url.startswith("file://"):
        return None
    path = unquote(urlsplit(url).path if not url.startswith("file://~") else url.removeprefix("file://"))
    project = project_name(Path.cwd())
    if project is None:
        raise StackError(f"stack {stack}: no Pulumi.yaml here; run this where it is, or in `make shell`")
    return FileBackend(root=Path(path).expanduser() / ".pulumi", project=project, stack=stack)


def project_name(folder: Path) -> str | None:
    """Return the project name from the nearest Pulumi.yaml, searching upwards."""
    for parent in (folder, *folder.parents):
        path = parent / "Pulumi.yaml"
        if path.exists():
            document: Any = yaml.safe_load(path.read_text())
            return str(document["name"]) if isinstance(document, dict) and document.get("name") else None
    return None


def is_running(pid: int) -> bool:
    """Return True if the process runs here and may be an engine; the number of a dead one may have been reused."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return "pulumi" in Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return True  # no /proc here: trust the lock


def _lock(path: Path) -> Lock:
    try:
        document: Any = json.loads(path.read_text())
        pid, host = int(document["pid"]), str(document["hostname"])
    except (OSError, ValueError, KeyError, TypeError):
        return Lock(path=path, pid=0, host="?", held=False)  # incomplete: its writer was killed
    return Lock(path=path, pid=pid, host=host, held=host != socket.gethostname() or is_running(pid))


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True
