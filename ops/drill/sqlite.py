"""The rehearsal of a SQLite backup: the file restored, checked by SQLite itself, every table compared."""

from __future__ import annotations

import contextlib
import platform
import sqlite3
from pathlib import Path

from ops.backup.manifest import Manifest
from ops.backup.records import SqliteRecord
from ops.drill import checks, trial
from ops.drill.findings import Findings, Report
from ops.errors import RestoreRefusedError
from ops.sources.sqlite import SqliteFile


def rehearse(found: Findings, folder: Path, manifest: Manifest, stack: contextlib.ExitStack, report: Report) -> bool:
    """Restore and compare; see `ops.drill.findings.Rehearsal`."""
    record = manifest.source
    if not isinstance(record, SqliteRecord):
        raise RestoreRefusedError(f"{manifest.id}: is no backup of a SQLite database")
    scratch = stack.enter_context(trial.scratch_folder(folder.parent))
    found.scratch.append(scratch)
    found.profile = trial.PROFILE
    found.not_compared = list(record.not_compared)
    place = SqliteFile(path=scratch / "drill.db")
    found.look = f"sqlite3 -readonly {place.left}"
    report("restoring into a new file")
    done = f"{len(record.tables)} tables, {record.rows} rows, quick_check ok"
    if not trial.restore_and_check(found, folder, place, record, done):
        return False
    copy = place.fingerprint()
    found.asks.add("integrity")
    found.add(checks.check_integrity(sorted(set(copy.unsound) - set(record.unsound))))
    found.tables = checks.compare_tables(copy, record)
    found.tools |= {
        "sqlite": sqlite3.sqlite_version,
        "source sqlite": record.sqlite_version,
        "machine": f"{platform.system()} {platform.machine()}",
    }
    return True
