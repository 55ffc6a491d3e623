"""The engine's file backend from outside: who holds its lock, and what a killed engine left half written there."""

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
    """A lock of the file backend: who holds it, and whether that process still lives here."""

    path: Path
    pid: int
    host: str
    held: bool


@dataclass(frozen=True, kw_only=True)
class FileBackend:
    """The engine's file backend, as one stack sees it. Other backends keep their own locks and write whole files."""

    root: Path
    project: str
    stack: str

    def locks(self) -> list[Lock]:
        """Return the locks of the stack."""
        folder = self.root / "locks" / "organization" / self.project / self.stack
        return [_lock(file) for file in sorted(folder.glob("*.json"))]

    def torn(self) -> list[Path]:
        """Return the sidecar files (`*.attrs`: content type and MD5) that a killed engine left half written.

        The backend writes a file whole, under another name first, but its sidecar in place; with a torn one it can
        read nothing any more ("failed to load checkpoint: EOF"). Without one it reads on: what is in it is not needed.
        """
        patterns = (
            f"stacks/{self.project}/{self.stack}.json*.attrs",
            f"locks/organization/{self.project}/{self.stack}/*.attrs",
            f"history/{self.project}/{self.stack}/*.attrs",
        )
        return sorted(path for pattern in patterns for path in self.root.glob(pattern) if not _is_json(path))


def file_backend(stack: str) -> FileBackend | None:
    """Return the file backend that the engine uses here; None for another kind.

    Raises:
        StackError: the engine does not say where its backend is, or there is no project here.
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
    """Return the name in the nearest Pulumi.yaml, upwards."""
    for parent in (folder, *folder.parents):
        path = parent / "Pulumi.yaml"
        if path.exists():
            document: Any = yaml.safe_load(path.read_text())
            return str(document["name"]) if isinstance(document, dict) and document.get("name") else None
    return None


def is_running(pid: int) -> bool:
    """Say whether a process lives here and may be an engine; another program got the number of a dead one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return "pulumi" in Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return True  # no /proc here: believe the lock


def _lock(path: Path) -> Lock:
    try:
        document: Any = json.loads(path.read_text())
        pid, host = int(document["pid"]), str(document["hostname"])
    except (OSError, ValueError, KeyError, TypeError):
        return Lock(path=path, pid=0, host="?", held=False)  # written half: its writer was killed
    return Lock(path=path, pid=pid, host=host, held=host != socket.gethostname() or is_running(pid))


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True
