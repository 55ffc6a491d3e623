"""The rehearsal of a SQLite backup: the file restored, checked by SQLite itself, every table compared."""

from __future__ import annotations

import contextlib
import platform
import sqlite3
from pathlib import Path

from ops.core.errors import RestoreRefusedError
from ops.drill import checks
from ops.drill.context import Findings, Report
from ops.drill.rehearsal import scratch_folder
from ops.repository.manifest import Manifest
from ops.repository.records import SqliteRecord
from ops.sources.sqlite import SqliteFile, newly_unsound


def rehearse(found: Findings, folder: Path, manifest: Manifest, stack: contextlib.ExitStack, report: Report) -> bool:
    """Restore and compare; see `ops.drill.context.Rehearsal`."""
    record = manifest.source
    if not isinstance(record, SqliteRecord):
        raise RestoreRefusedError(f"{manifest.id}: is no backup of a SQLite database")
    scratch = stack.enter_context(scratch_folder.scratch_folder(folder.parent))
    found.scratch.append(scratch)
    found.profile = scratch_folder.PROFILE
    found.not_compared = list(record.not_compared)
    place = SqliteFile(path=scratch / "drill.db")
    found.look = f"sqlite3 -readonly {place.left}"
    report("restoring into a new file")
    done = f"{len(record.tables)} tables, {record.rows} rows, quick_check ok"
    if not scratch_folder.restore_and_check(found, folder, place, record, done):
        return False
    copy = place.fingerprint()
    found.asks.add("integrity")
    found.add(checks.check_integrity(newly_unsound(copy, record)))
    found.tables = checks.compare_tables(copy, record)
    found.tools |= {
        "sqlite": sqlite3.sqlite_version,
        "source sqlite": record.sqlite_version,
        "machine": f"{platform.system()} {platform.machine()}",
    }
    return True
