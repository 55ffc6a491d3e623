"""An `up` that failed at something that is there: `ops stack recover` adopts it, and the next `up` goes on."""

from __future__ import annotations

import json

import pytest

from tests.engine.kit import BareCloud

pytestmark = pytest.mark.engine


def test_what_is_there_and_not_recorded_is_adopted_and_stays_unchanged(cloud: BareCloud) -> None:
    cloud.up()
    resources = json.loads(cloud.pulumi("stack", "export").stdout)["deployment"]["resources"]
    (database,) = [item["urn"] for item in resources if ":DatabaseDb::" in item["urn"]]
    # As after a creation that ended with 404: it is there, and the state knows nothing of it, nor of what comes after.
    cloud.pulumi("state", "unprotect", "--all", "--yes")
    cloud.pulumi("state", "delete", database, "--force", "--target-dependents", "--yes")
    failed = cloud.pulumi("up", "--yes", "--skip-preview", check=False)
    assert failed.returncode != 0
    assert "already exists" in failed.stdout + failed.stderr

    plan = json.loads(cloud.ops("stack", "recover", "--stack", cloud.stack, "--dry-run", "--json").stdout)
    kinds = [step["urn"].split("::")[2].rpartition(":")[2] for step in plan["steps"]]
    assert kinds == ["DatabaseDb", "DatabaseUser", "DatabaseConnectionPool"]

    cloud.ops("stack", "recover", "--stack", cloud.stack, "--yes")
    cloud.up()
    cloud.pulumi("preview", "--expect-no-changes")
    cloud.destroy()
    assert cloud.leaks() == []
