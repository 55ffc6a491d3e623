"""A running environment whose stack file changes: databases, pools, disks, buckets, with the real engine.

Only what was named changes, and a second look finds nothing to do.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.engine.kit import MUTATING, BareCloud

pytestmark = [pytest.mark.engine, pytest.mark.long]

CLUSTER = "/v2/databases/{database_cluster_uuid}"


def apply(cloud: BareCloud, group: str, **changes: Any) -> list[tuple[str, str]]:
    """Change keys of a group of the stack file (None removes one) and bring it up; return the calls that it took."""
    path = cloud.project / "Pulumi.staging.yaml"
    document = yaml.safe_load(path.read_text())
    values = {**document["config"][f"ancla:{group}"], **changes}
    document["config"][f"ancla:{group}"] = {key: value for key, value in values.items() if value is not None}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    before = len(cloud.journal())
    cloud.up()
    calls = [call for call in cloud.journal()[before:] if call["method"] in MUTATING]
    cloud.pulumi("preview", "--expect-no-changes")
    return [(call["method"], (call["template"] or call["path"]).replace(CLUSTER, "")) for call in calls]


def pools(cloud: BareCloud) -> dict[str, tuple[str, int]]:
    """The pools of the one cluster, by their names without what changes: database and size."""
    (cluster,) = cloud.get("/v2/databases")["databases"]
    found = cloud.get(f"/v2/databases/{cluster['id']}/pools")["pools"]
    return {re.sub("-[0-9a-f]{6}$", "", pool["name"]): (pool["db"], pool["size"]) for pool in found}


def test_databases_pools_and_disks_change_alone(cloud: BareCloud) -> None:
    cloud.up()

    added = apply(cloud, "database", databases=["app", "reports", "audit"])
    assert added == [("POST", "/dbs"), ("POST", "/dbs")]

    two = {"app": {"size": 10}, "slow": {"database": "reports", "mode": "session", "size": 5}}
    assert apply(cloud, "database", pools=two) == [("POST", "/pools")]
    assert pools(cloud) == {"app": ("app", 10), "slow": ("reports", 5)}

    turned = dict(reversed(two.items()))
    assert apply(cloud, "database", databases=["app", "audit", "reports"], pools=turned) == [], "an order is no change"

    smaller = {**two, "app": {"size": 6}}
    assert apply(cloud, "database", pools=smaller) == [("POST", "/pools"), ("DELETE", "/pools/{pool_name}")], (
        "the new one is there before the old one goes"
    )
    assert pools(cloud) == {"app": ("app", 6), "slow": ("reports", 5)}

    assert apply(cloud, "database", extensions=["pg_trgm"]) == [], "the droplet does it, not the API"
    assert apply(cloud, "database", storage="20G") == [("PUT", "/resize")]
    (cluster,) = cloud.get("/v2/databases")["databases"]
    assert cluster["storage_size_mib"] == 20 * 1024

    gone = apply(cloud, "database", databases=["app", "audit"], pools={"app": {"size": 6}})
    assert gone == [("DELETE", "/pools/{pool_name}"), ("DELETE", "/dbs/{database_name}")]
    (cluster,) = cloud.get("/v2/databases")["databases"]
    assert sorted(cluster["db_names"]) == ["app", "audit", "defaultdb"]


def test_buckets_come_and_go_alone(cloud: BareCloud) -> None:
    cloud.up()
    keys = {key["name"]: key["access_key"] for key in cloud.get("/v2/spaces/keys")["keys"]}

    added = apply(cloud, "buckets", logs={"bucket": "nextgentech-staging-logs"})
    assert ("POST", "/v2/spaces/keys") in added
    assert {template for _, template in added} == {"/v2/spaces/keys", "/v2/projects/{project_id}/resources"}
    now = {key["name"]: key["access_key"] for key in cloud.get("/v2/spaces/keys")["keys"]}
    assert now.items() >= keys.items(), "the other keys are the same ones"
    assert now.keys() - keys.keys() == {"nextgentech-staging-bucket-logs"}

    removed = apply(cloud, "buckets", logs=None)
    assert ("DELETE", "/v2/spaces/keys/{access_key}") in removed
    assert {key["name"]: key["access_key"] for key in cloud.get("/v2/spaces/keys")["keys"]} == keys


def test_a_shared_registry_is_found_used_and_left_behind_by_name(cloud: BareCloud) -> None:
    cloud.post("/v2/registries", {"name": "nextgentech", "subscription_tier_slug": "basic", "region": "fra1"})
    cloud.up()
    made = cloud.get("/v2/registries")["registries"]
    assert [(registry["name"], registry["region"]) for registry in made] == [("nextgentech", "fra1")]

    cloud.pulumi("state", "unprotect", "--all", "--yes")
    said = cloud.pulumi("destroy", "--yes", "--skip-preview")
    assert "registry nextgentech: stays" in said.stdout + said.stderr
    assert cloud.leaks() == ["registry nextgentech"]
