"""The folder a drill works in. All that a drill makes is in it, so that one removal, or one sweep, removes all.

It is removed at the end. Only on request does the scratch copy of a red drill stay, which is production data in plain
text: then until a time, at which systemd removes it where systemd runs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ValidationError

from ops.core import workdir
from ops.core.errors import SpoolError
from ops.core.workdir import YOUNG_SECONDS, temporary_folder, work_folder

PREFIX = "ancla-drill-"
KEPT = "kept.json"
SYSTEMD = Path("/run/systemd/system")
"""Exists where systemd runs the computer."""


class Kept(BaseModel):
    """Why a red drill's scratch copy still exists, until when, and how to look into it."""

    backup: str
    why: str
    expires_at: AwareDatetime
    look: str


@contextmanager
def drill_folder(parent: Path | None) -> Generator[Path]:
    """Make the folder of one drill; it is removed at the end, unless `keep` was called.

    Raises:
        SpoolError: it cannot be made.
    """
    root = parent or temporary_folder()
    with ExitStack() as held:
        try:
            # the scratch server's user passes through; what is inside is private by itself
            folder = held.enter_context(work_folder(root, PREFIX, mode=0o711, is_kept=is_kept))
        except OSError as error:
            raise SpoolError(
                f"{root}: cannot be used as the spool: {error.strerror}; give another with --spool"
            ) from None
        yield folder


def keep(folder: Path, kept: Kept) -> str:
    """Let the scratch copy stay when the drill ends; return who removes it and when, for the report."""
    (folder / KEPT).write_text(kept.model_dump_json(indent=2) + "\n")
    seconds = max(60, round((kept.expires_at - datetime.now(UTC)).total_seconds()))
    remove = ["rm", "-rf", "--one-file-system", "--", str(folder.resolve())]
    if _timer(seconds, remove):
        return f"systemd removes it after {seconds // 60} min (`systemctl list-timers`)"
    return f"no timer removes it here: the next drill after {kept.expires_at:%H:%M} UTC does, or `{shlex.join(remove)}`"


def is_kept(folder: Path) -> bool:
    """Return True if `keep` was called."""
    return (folder / KEPT).exists()


def sweep(parent: Path | None, now: datetime | None = None) -> list[Path]:
    """Remove what killed drills left, and scratch copies that were kept and have expired; returns the folders."""
    moment = now or datetime.now(UTC)
    root = parent or temporary_folder()
    return workdir.sweep(root, PREFIX, expired=lambda folder: _is_past(folder, moment), now=moment.timestamp())


def _timer(seconds: int, command: list[str]) -> bool:
    """Have systemd run a command once, later; return False where it cannot."""
    program = shutil.which("systemd-run")
    if program is None or not SYSTEMD.is_dir():
        return False
    user = [] if os.geteuid() == 0 else ["--user"]
    description = "--description=Remove the scratch copy of a red drill"
    try:
        done = subprocess.run(
            [program, *user, "--collect", f"--on-active={seconds}", description, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _is_past(folder: Path, now: datetime) -> bool:
    try:
        return Kept.model_validate_json((folder / KEPT).read_bytes()).expires_at <= now
    except FileNotFoundError:
        return True
    except (OSError, ValidationError):  # a note that nobody can read keeps nothing for ever
        return workdir.age(folder, now.timestamp()) > YOUNG_SECONDS
