"""Files of a folder of evidence: each there whole or not at all, and one drill at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ops.core import files
from ops.core.errors import OpsError
from ops.core.files import atomic_write, runtime_folder


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold a folder of evidence for one drill: others that end at once wait.

    Raises:
        OpsError: it is not there, or a file of the block cannot be written.
    """
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    lock = runtime_folder() / f"evidence-{name}.lock"  # not in the folder: all that is in it is published
    try:
        with files.locked(lock):
            yield
    except OSError as error:
        raise OpsError(f"{folder}: the evidence cannot be written: {error.strerror}; give --evidence") from None


def write(path: Path, content: bytes) -> Path:
    """Write a file that is there whole or not at all."""
    atomic_write(path, content, mode=0o644)
    return path
