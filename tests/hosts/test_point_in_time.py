"""The provider's restore points of the running stack, as a person at a desk lists and drills them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.hosts.staging import Staging
from tests.hosts.test_backups import CONTENT, query

pytestmark = [pytest.mark.hosts, pytest.mark.containers]


def clusters(staging: Staging) -> list[str]:
    return [cluster["id"] for cluster in staging.api("GET", "/v2/databases")["databases"]]


@pytest.mark.long
def test_the_stacks_cluster_is_forked_read_and_the_fork_is_gone(staging: Staging, tmp_path: Path) -> None:
    live = staging.outputs.database
    assert live is not None
    before, tags = query(staging, "app", CONTENT), staging.api("GET", "/v2/tags")["tags"]
    listed = json.loads(staging.ops("pitr", "list", "--json").stdout)
    assert listed["cluster"] == live.id
    assert listed["restore_points"]
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    drilled = staging.ops("pitr", "drill", "--at", now, "--schema-may-differ", "--evidence", str(tmp_path), "--json")
    evidence = json.loads(drilled.stdout)
    assert evidence["verdict"] == "green"
    assert {check["status"] for check in evidence["checks"]} == {"passed"}
    assert [database["database"] for database in evidence["detail"]["databases"]] == live.databases
    assert json.loads(next(tmp_path.glob("fork-drill-*.json")).read_text()) == evidence
    assert clusters(staging) == [live.id]
    assert staging.api("GET", "/v2/tags")["tags"] == tags
    assert query(staging, "app", CONTENT) == before
    # Nothing for the engine to see: the stack is as it was.
    assert "no fork to destroy" in staging.ops("pitr", "sweep", "--older-than", "0").stdout


@pytest.mark.all
def test_a_fork_of_before_the_migration_is_red(staging: Staging) -> None:
    """The control: the provider's first backup is of before the migration, and perhaps of before the app's database."""
    first = json.loads(staging.ops("pitr", "list", "--json").stdout)["restore_points"][0]
    drilled = staging.ops("pitr", "drill", "--at", first["created_at"], check=False)
    assert drilled.returncode == 3, drilled.stderr
    assert re.search('database "app" does not exist|schema: ', " ".join(drilled.stderr.split())), drilled.stderr
