"""Names and paths come out as they are, whatever rich would read in their brackets."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops import VERSION
from ops.cli import backup_create, restore
from ops.repository.records import TableFingerprint
from ops.restore.restore import RestoreReport
from ops.sources.base import Skipped
from tests.ops.test_manifest import manifest

ROOT = Path(__file__).resolve().parents[2]
ODD = ("public.a[b]", "x[/y]", "[red]z")


def test_tables_and_objects_of_a_backup(monkeypatch, capsys):
    made = manifest()
    tables = tuple(TableFingerprint(table=name, rows=1, method="record", hash="1") for name in ODD)
    objects = tuple(made.objects[0].model_copy(update={"key": name, "holds": name}) for name in ODD)
    made = made.model_copy(update={"source": made.source.model_copy(update={"tables": tables}), "objects": objects})
    monkeypatch.setattr(backup_create, "load_stack", lambda *_: None)
    monkeypatch.setattr(backup_create, "one_name", lambda *_: "shop")
    monkeypatch.setattr(backup_create.destinations, "store", lambda *_: None)
    monkeypatch.setattr(backup_create.catalog, "find", lambda *_: made)
    monkeypatch.setattr(backup_create.console.out, "width", 200, raising=False)
    backup_create.show_command()
    lines = capsys.readouterr().out.splitlines()
    for name in ODD:
        assert len([line for line in lines if name in line]) == 2, name


@pytest.mark.parametrize("name", ODD)
def test_the_names_of_a_restore(capsys, name):
    skipped = Skipped(what=f"view {name}", why=f"no column {name}", mend=f"ALTER VIEW {name}")
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    facts = {"left_empty": (name,), "tables": 1}
    report = RestoreReport(backup="b", target=name, snapshot_at=moment, rows=1, facts=facts, skipped=[skipped])
    restore._print(report, "rows")
    assert capsys.readouterr().out.count(name) == 5


def test_the_version_is_printed_without_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "ops", "--version"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"ops {VERSION}\n"
