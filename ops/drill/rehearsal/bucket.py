"""The rehearsal of a bucket's backup: every object read out of its pack, those of earlier backups too, and hashed."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path

from ops.core.errors import OpsError, RestoreRefusedError
from ops.drill import checks
from ops.drill.context import Findings, Report
from ops.repository.manifest import Manifest
from ops.repository.records import BucketRecord
from ops.sources.bucket.restore import index, read_packs

PROFILE = "read from the packs, without an S3 server"


def rehearse(found: Findings, folder: Path, manifest: Manifest, stack: contextlib.ExitStack, report: Report) -> bool:
    """Read and compare; see `ops.drill.context.Rehearsal`."""
    del stack
    record = manifest.source
    if not isinstance(record, BucketRecord):
        raise RestoreRefusedError(f"{manifest.id}: is no backup of a bucket")
    found.profile = PROFILE
    found.not_compared = ["metadata and ACLs: they are in the manifest; `ops restore` compares them in the new bucket"]
    found.not_compared += record.not_kept
    report(f"reading {len(record.objects)} objects of {1 + len(manifest.depends_on)} backups")
    try:
        with found.phase("load"):
            places = index(folder, record)
        with found.phase("check"):
            differences = read_packs(places, record)
    except OpsError as error:
        found.add(checks.failed("restore", "it does not", [str(error)]))
        return False
    found.add(checks.passed("restore", f"every object is in its pack, of {1 + len(manifest.depends_on)} backups"))
    if differences:
        found.add(checks.failed("content", f"{len(differences)} differences", [str(item) for item in differences]))
    else:
        size = sum(item.size for item in record.objects)
        found.add(checks.passed("content", f"{len(record.objects)} objects, {size} bytes: sizes and SHA-256"))
    found.tools |= {"machine": f"{platform.system()} {platform.machine()}"}
    return True
