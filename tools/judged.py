"""Remember that a stack, as it is, holds to the policy: a second `make up` then needs no preview.

A preview follows from the program, the stack file, its secrets and the state; the policy's answer from that and from
the day, as exemptions may end. While none of them has changed since an `up` that the policy let through, another
preview would list the same resources, all unchanged.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path

from tools.workspace import ROOT, Workspace

_PROGRAM = ("__main__.py", "blueprint", "components", "host", "ops", "policy", "sandbox/plugins", "Pulumi.yaml")


def is_remembered(work: Workspace) -> bool:
    """Return True if nothing that the policy's answer follows from has changed since it held."""
    record = _record(work)
    return record.exists() and record.read_text() == fingerprint(work)


def remember(work: Workspace) -> None:
    """Record that the stack, as it is now, holds."""
    _record(work).write_text(fingerprint(work))


def fingerprint(work: Workspace) -> str:
    """Return the hash of what the policy's answer follows from."""
    digest = hashlib.sha256(f"{work.stack} {dt.datetime.now(dt.UTC).date()}".encode())
    for file in _files(work):
        for part in (str(file).encode(), file.read_bytes()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _record(work: Workspace) -> Path:
    return work.home / f"policy-holds-{work.stack}"


def _files(work: Workspace) -> Iterator[Path]:
    for name in _PROGRAM:
        path = ROOT / name
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)
    own = (work.stack_file, work.home / f"secrets-{work.stack}.json", work.checkpoint)
    yield from (file for file in own if file.exists())
