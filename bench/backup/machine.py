"""The machine that a run is made on: what is said of it, and whether it has the room."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from bench.backup.servers import MissingError, Postgres

ROOM = 16
"""Times the size of the data: the quadrupled database, its dump, its backup, and the WAL of making it."""

_VERSIONS = {
    "pg_dump": ["pg_dump", "--version"],
    "zstd": ["zstd", "--version"],
    "age": ["age", "--version"],
    "rclone": ["rclone", "version"],
    "restic": ["restic", "version"],
    "pgbackrest": ["pgbackrest", "version"],
    "openssl": ["openssl", "version"],
}
_MODULES = ("boto3", "psycopg", "zstandard", "pyrage")


def describe() -> dict[str, str]:
    """Return what a reader must know of the machine to compare it with another."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    total = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return {
        "cores": str(os.cpu_count()),
        "cpu": cpu[1] if cpu else platform.machine(),
        "memory": f"{int(total[1]) / (1 << 20):.0f} GiB" if total else "unknown",
        "system": f"{system}, Linux {platform.release()}",
        "python": platform.python_version(),
    }


def versions(server: Postgres) -> dict[str, str]:
    """Return the versions of every tool compared; `not installed` where one is absent."""
    found = {"PostgreSQL server": server.version}
    for name, command in _VERSIONS.items():
        path = shutil.which(command[0])
        if path is None:
            found[name] = "not installed"
            continue
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        match = re.search(r"\d+(\.\d+)+[^\s,)]*", text)
        found[name] = match[0] if match else text.strip()
    for name in _MODULES:
        with contextlib.suppress(ModuleNotFoundError):
            found[f"{name} (Python)"] = version(name)
    return found


def commit(root: Path) -> str:
    """Return the commit of the checkout, marked when files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=, with changes", "--abbrev=10", "--exclude=*"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def require_room(folder: Path, size: int) -> None:
    """Refuse a disk that would fill up in the middle.

    Raises:
        MissingError: there is not enough free.
    """
    free = shutil.disk_usage(folder).free
    if free < size * ROOM:
        raise MissingError(
            f"{folder}: {free >> 30} GiB are free, {size * ROOM >> 30} are needed; "
            "make room, or give --work or --size-mb"
        )


def memory_folder(size: int) -> Path | None:
    """Return a tmpfs with room for a dump; None, which is the system's temporary folder, where there is none."""
    memory = Path("/dev/shm")  # noqa: S108  # a private folder is made in it
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > size * 3 else None
