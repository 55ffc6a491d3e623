"""The rehearsal of a secrets backup: decrypted with the identity that is kept for a bad day, and proved whole.

The proof is the fingerprint keyed from inside the archive. No value is in the evidence, and what was restored never
stays, not even where a red drill's scratch is kept.
"""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

from ops.core.errors import RestoreRefusedError
from ops.drill.context import Findings, Report
from ops.drill.rehearsal import scratch_folder
from ops.repository.manifest import Manifest
from ops.repository.records import SecretsRecord
from ops.sources.secrets import SecretFiles


def rehearse(found: Findings, folder: Path, manifest: Manifest, stack: contextlib.ExitStack, report: Report) -> bool:
    """Restore and compare; see `ops.drill.context.Rehearsal`."""
    record = manifest.source
    if not isinstance(record, SecretsRecord):
        raise RestoreRefusedError(f"{manifest.id}: is no backup of secrets")
    scratch = stack.enter_context(scratch_folder.scratch_folder(folder.parent, secret=True))
    found.profile = scratch_folder.PROFILE
    if os.geteuid() != 0:
        found.not_compared = ["owners of files: only root may give them"]
    report("restoring into a new folder")
    names = sum(len(file.names) for file in record.files)
    done = f"{len(record.files)} files with {names} names: modes, owners and the keyed fingerprint of all contents"
    found.tools |= {"machine": f"{platform.system()} {platform.machine()}"}
    return scratch_folder.restore_and_check(found, folder, SecretFiles(root=scratch / "secrets"), record, done)
