"""An `up` that failed at something that is there: `ops stack recover` adopts it, and the next `up` goes on."""

from __future__ import annotations

import json

import pytest

from tests.engine.kit import BareCloud

pytestmark = pytest.mark.engine


@pytest.mark.long
def test_a_database_that_is_not_found_right_after_it_was_made_is_adopted(cloud: BareCloud) -> None:
    cloud.switch(unseen_seconds=3600)
    failed = cloud.pulumi("up", "--yes", "--skip-preview", check=False)
    assert failed.returncode != 0
    assert "DatabaseDb" in failed.stdout
    cloud.switch(unseen_seconds=0)
    failed = cloud.pulumi("up", "--yes", "--skip-preview", check=False)
    assert "already exists" in failed.stdout, "another `up` is no way out"

    plan = json.loads(cloud.ops("stack", "recover", "--stack", cloud.stack, "--dry-run", "--json").stdout)
    (step,) = plan["steps"]
    assert ":DatabaseDb::" in step["urn"]

    cloud.ops("stack", "recover", "--stack", cloud.stack, "--yes")
    cloud.up()
    cloud.pulumi("preview", "--expect-no-changes")
    cloud.destroy()
    assert cloud.leaks() == ["registry nextgentech"]
