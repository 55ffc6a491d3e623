"""A rehearsal in a folder: what needs no server is restored beside the drill, and held against what was recorded."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from ops.core.errors import OpsError
from ops.drill import checks
from ops.drill.context import Findings
from ops.drill.workdir import is_kept
from ops.restore.files import Place

PROFILE = "a new folder on this machine"


@contextlib.contextmanager
def scratch_folder(parent: Path, *, secret: bool = False) -> Generator[Path]:
    """Make a folder for what is restored. It stays where the drill's folder is kept, unless its content is `secret`."""
    folder = Path(tempfile.mkdtemp(prefix="ancla-scratch-", dir=parent))
    try:
        yield folder
    finally:
        if secret or not is_kept(parent):
            shutil.rmtree(folder, ignore_errors=True)


def restore_and_check(found: Findings, folder: Path, place: Place, record: Any, done: str) -> bool:
    """Restore into a place, compare it, and add the checks `restore` and `content`; say whether it restores at all."""
    try:
        with found.phase("load"):
            place.ready()
            skipped = place.restore(folder, record)
        with found.phase("check"):
            differences = place.check(record, skipped)
    except OpsError as error:
        found.add(checks.failed("restore", "it does not", [str(error)]))
        return False
    found.add(checks.passed("restore", "no error"))
    if differences:
        found.add(checks.failed("content", f"{len(differences)} differences", [str(item) for item in differences]))
    else:
        found.add(checks.passed("content", done))
    return True
