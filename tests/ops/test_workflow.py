"""The workflow that prunes and drills leaves nothing on a runner of one's own, whatever failed before."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

JOBS = yaml.safe_load(Path(".github/workflows/drill.yml").read_text())["jobs"]
ALWAYS = "${{ always() }}"


@pytest.mark.parametrize("job", JOBS)
def test_keys_are_removed_by_a_step_of_its_own_after_all_that_uses_them(job):
    *before, last = JOBS[job]["steps"]
    assert (last["run"], last["if"]) == ("rm -rf .secrets", ALWAYS)
    assert any("mkdir .secrets" in step.get("run", "") for step in before), "the name is that of the keys' folder"


def test_a_red_drill_keeps_no_data_and_a_late_backup_hides_no_broken_evidence():
    runs = {
        step["run"]: step.get("if", "") for step in JOBS["drill"]["steps"] if "python -m ops" in step.get("run", "")
    }
    drills = [run for run in runs if "ops drill " in run]
    assert len(drills) == 2
    assert not any("--keep-failed" in run for run in drills)
    first, *after = runs.items()
    assert "backup fresh" in first[0]
    assert all("cancelled()" in when or when == ALWAYS for _, when in after)
