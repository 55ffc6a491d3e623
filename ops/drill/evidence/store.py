"""Files of a folder of evidence: each there whole or not at all, and one drill at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ops.core.errors import OpsError


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold a folder of evidence for one drill: others that end at once wait.

    Raises:
        OpsError: it is not there, or a file of the block cannot be written.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise OpsError(f"{folder}: the evidence cannot be kept there: {error.strerror}; give --evidence") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise OpsError(f"{folder}: the evidence cannot be written: {error.strerror}; give --evidence") from None
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes) -> Path:
    """Write a file that is there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return path
