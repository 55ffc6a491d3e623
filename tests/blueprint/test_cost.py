"""The monthly estimate, and that a preview costs what the settings say."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from blueprint.cost import Price, estimate, price, resource_prices
from blueprint.pulumi_config import load_stack_file
from blueprint.settings.environment import EnvironmentSettings
from blueprint.sizes import APP_SIZES, DATABASE_SIZES, DROPLET_SIZES, REGISTRY_TIERS, TABLES, VALKEY_SIZES
from sandbox import catalog
from tests.components.conftest import load, record

ROOT = Path(__file__).resolve().parents[2]


def settings(stack: str, **changes: object) -> EnvironmentSettings:
    return load_stack_file(ROOT / f"Pulumi.{stack}.yaml", environ={}).model_copy(update=changes)


@pytest.mark.parametrize(
    ("kind", "inputs", "monthly"),
    [
        ("Droplet", {"size": "s-2vcpu-4gb"}, 24),
        ("Droplet", {"size": "s-2vcpu-4gb", "backups": True}, 28.8),
        ("Droplet", {"size": "s-2vcpu-4gb", "backups": True, "backupPolicy": {"plan": "weekly"}}, 28.8),
        ("Droplet", {"size": "s-2vcpu-4gb", "backups": True, "backupPolicy": {"plan": "daily"}}, 31.2),
        ("Droplet", {"size": "s-2vcpu-4gb", "backups": False, "backupPolicy": {"plan": "daily"}}, 24),
        ("DatabaseCluster", {"engine": "pg", "size": "db-s-1vcpu-2gb", "nodeCount": 2}, 60),
        ("DatabaseCluster", {"engine": "pg", "size": "db-s-1vcpu-2gb", "nodeCount": 2, "storageSizeMib": "30720"}, 60),
        ("DatabaseCluster", {"engine": "pg", "size": "db-s-1vcpu-2gb", "nodeCount": 2, "storageSizeMib": 51200}, 68.6),
        ("DatabaseCluster", {"engine": "valkey", "size": "db-s-1vcpu-1gb", "nodeCount": 1}, 15),
        ("DatabaseReplica", {"size": "db-s-2vcpu-4gb"}, 60),
        ("LoadBalancer", {}, 12),
        ("LoadBalancer", {"sizeUnit": 3}, 36),
        ("LoadBalancer", {"size": "lb-medium"}, 36),
        ("LoadBalancer", {"type": "REGIONAL_NETWORK"}, 15),
        ("Volume", {"size": 100}, 10),
        ("KubernetesCluster", {"ha": True, "nodePool": {"size": "s-2vcpu-4gb", "nodeCount": 3}}, 112),
        ("KubernetesCluster", {"nodePool": {"size": "s-2vcpu-4gb", "autoScale": True, "maxNodes": 5}}, 120),
        ("KubernetesNodePool", {"size": "s-4vcpu-8gb", "nodeCount": 2}, 96),
        ("App", {"spec": {"services": [{"instanceSizeSlug": "apps-s-1vcpu-1gb", "instanceCount": 2}]}}, 24),
        (
            "App",
            {
                "spec": {
                    "workers": [{"instanceSizeSlug": "apps-d-1vcpu-2gb", "autoscaling": {"maxInstanceCount": 4}}],
                    "databases": [{"production": False}, {"production": True}],
                }
            },
            163,
        ),
        ("ContainerRegistries", {"subscriptionTierSlug": "starter"}, 0),
        ("ReservedIp", {}, 5),
        ("Vpc", {}, 0),
    ],
)
def test_each_kind_has_its_price(kind: str, inputs: dict[str, Any], monthly: float):
    assert price(kind, inputs) == Price(monthly=monthly)


@pytest.mark.parametrize(
    ("kind", "inputs", "unknown"),
    [
        ("Droplet", {"size": "m-2vcpu-16gb"}, "droplet size 'm-2vcpu-16gb'"),
        ("Droplet", {}, "droplet size None"),
        (
            "Droplet",
            {"size": "s-1vcpu-1gb", "backups": True, "backupPolicy": {"plan": "hourly"}},
            "backup plan 'hourly'",
        ),
        ("DatabaseCluster", {"engine": "pg", "size": "db-s-8vcpu-32gb"}, "database size 'db-s-8vcpu-32gb'"),
        ("DatabaseCluster", {"engine": "kafka", "size": "db-s-2vcpu-4gb"}, "database engine 'kafka'"),
        ("DatabaseCluster", {"engine": "pg", "size": "db-s-1vcpu-1gb", "nodeCount": "x"}, "number of nodes is 'x'"),
        ("DatabaseReplica", {"size": "db-new"}, "database size 'db-new'"),
        ("LoadBalancer", {"type": "GLOBAL"}, "type of balancer 'GLOBAL'"),
        ("Volume", {}, "size in GiB is None"),
        ("VolumeSnapshot", {}, "0.06 for each GiB"),
        ("KubernetesCluster", {}, "node pool is None"),
        ("App", {"spec": {"services": [{"instanceSizeSlug": "basic-xxs"}]}}, "App Platform size 'basic-xxs'"),
        ("App", {"spec": {"functions": [{"name": "f"}]}}, "by use"),
        ("ContainerRegistries", {"subscriptionTierSlug": "gold"}, "registry tier 'gold'"),
        ("Microvm", {}, "kind Microvm"),
    ],
)
def test_a_price_that_is_not_known_is_never_0(kind: str, inputs: dict[str, Any], unknown: str):
    found = price(kind, inputs)

    assert found.monthly is None
    assert unknown in found.unknown


def test_a_reserved_ip_without_a_droplet_costs():
    address, assigned = (
        ("digitalocean:index/reservedIp:ReservedIp", {}),
        ("digitalocean:index/x:ReservedIpAssignment", {}),
    )

    assert [item.monthly for item in resource_prices([address, address, assigned])] == [0, 5, 0]


def test_an_estimate_counts_balancer_cache_and_replicas():
    changed = settings("prod").model_dump(by_alias=True)
    changed["topology"] |= {"kind": "droplets", "count": 2, "balancer": {"nodes": 2}, "volumes": {"data": "40G"}}
    changed["cache"] = {"kind": "managed-valkey", "size": "db-s-1vcpu-1gb", "nodes": 2}
    changed["database"] |= {"replicas": {"reports": {"size": "db-s-1vcpu-2gb"}}, "storage": "40G"}
    report = estimate(EnvironmentSettings.model_validate(changed))

    assert {line.resource: line.monthly for line in report.lines} == {
        "droplet nextgentech-prod-1": 28.8,
        "droplet nextgentech-prod-2": 28.8,
        "volume nextgentech-prod-1-data": 4,
        "volume nextgentech-prod-2-data": 4,
        "load balancer nextgentech-prod": 24,
        "database nextgentech-prod": 2 * (30 + 10 * 0.215),
        "read replica nextgentech-prod-reports": 30,
        "cache nextgentech-prod": 2 * 15,
        "spaces nextgentech-assets, nextgentech-uploads, nextgentech-backups": 5,
        "registry nextgentech": 5,
    }


@pytest.mark.parametrize(
    ("topology", "expected"),
    [
        (
            {"kind": "app-platform", "size": "apps-s-1vcpu-1gb"},
            [("app nextgentech-prod", "apps-s-1vcpu-1gb, 2 services", 2 * 12)],
        ),
        (
            {"kind": "app-platform", "size": "apps-d-1vcpu-1gb", "scale": {"max": 3, "cpu": 70}},
            [("app nextgentech-prod", "apps-d-1vcpu-1gb, 2 services; up to 3 instances, 204.00", 2 * 34)],
        ),
        (
            {
                "kind": "kubernetes",
                "highAvailability": True,
                "pool": {"size": "s-4vcpu-8gb", "min": 3, "max": 6},
                "balancer": {"nodes": 2},
            },
            [
                (
                    "cluster nextgentech-prod",
                    "s-4vcpu-8gb, 3 nodes, high availability; up to 6 nodes, 328.00",
                    40 + 3 * 48,
                ),
                ("load balancer nextgentech-prod", "2 nodes", 24),
            ],
        ),
    ],
)
def test_an_estimate_counts_what_grows_at_its_smallest(
    topology: dict[str, Any], expected: list[tuple[str, str, float]]
):
    changed = {**settings("prod").model_dump(by_alias=True), "topology": topology}
    lines = estimate(EnvironmentSettings.model_validate(changed)).lines

    assert [(line.resource, line.detail, line.monthly) for line in lines[: len(expected)]] == expected


def test_an_estimate_names_what_it_cannot_price(monkeypatch: pytest.MonkeyPatch):
    changed = settings("prod").model_dump(by_alias=True)
    changed["cache"] = {"kind": "managed-valkey", "size": "db-s-1vcpu-1gb"}
    monkeypatch.delitem(VALKEY_SIZES, "db-s-1vcpu-1gb")
    report = estimate(EnvironmentSettings.model_validate(changed))

    assert report.unpriced == ("cache nextgentech-prod",)


def test_staging_is_within_the_plans_budget_of_50_to_80():
    report = estimate(settings("staging"))

    assert report.total == 24 + 15 + 5 + 5
    assert not report.over_budget


def test_prod_names_every_resource_that_costs():
    report = estimate(settings("prod"))

    assert {line.resource: line.monthly for line in report.lines} == {
        "droplet nextgentech-prod": 28.8,
        "database nextgentech-prod": 60,
        "spaces nextgentech-assets, nextgentech-uploads, nextgentech-backups": 5,
        "registry nextgentech": 5,
    }
    assert report.total == 98.8


def test_an_estimate_counts_what_others_bill():
    report = estimate(settings("prod", costs={"sendgrid": 20.0, "domain": 2.5}))

    assert report.total == 98.8 + 22.5
    assert [line.resource for line in report.lines[-2:]] == ["sendgrid", "domain"]


@pytest.mark.parametrize(("budget", "over"), [(None, False), (98, True), (99, False)])
def test_the_budget_is_a_limit(budget, over):
    assert estimate(settings("prod", budget=budget)).over_budget is over


@pytest.mark.parametrize("stack", ["prod", "staging"])
def test_a_preview_costs_what_the_settings_say(stack: str):
    resources = record(stack, preview=True).resources

    prices = [item.monthly for item in resource_prices((item.type, item.inputs) for item in resources)]
    settings = load(stack)
    assert settings.registry is not None
    shared = REGISTRY_TIERS[settings.registry.tier] if settings.registry.shared else 0  # no resource of a stack
    assert sum(price for price in prices if price is not None) + shared == estimate(settings).total
    assert None not in prices


def test_sizes_have_a_price():
    for sizes in (DROPLET_SIZES, DATABASE_SIZES, VALKEY_SIZES, APP_SIZES):
        assert all(size.monthly > 0 and size.memory > 0 and size.vcpus > 0 for size in sizes.values())


def test_every_price_has_a_source_and_a_day():
    for name, table in TABLES.items():
        if name != "read":
            assert table["source"].startswith("https://"), name
            assert date.fromisoformat(table["read"]), name


def test_the_sandbox_offers_what_the_prices_say():
    offered = {slug: (size.vcpus, size.memory, size.disk, size.monthly) for slug, size in catalog.SIZES.items()}
    assert offered == {slug: (size.vcpus, size.memory, size.disk, size.monthly) for slug, size in DROPLET_SIZES.items()}
    clusters = {
        slug: (size.vcpus, size.memory, size.disk / 1024, size.monthly) for slug, size in catalog.DATABASE_SIZES.items()
    }
    assert clusters == {
        slug: (size.vcpus, size.memory, size.disk, size.monthly) for slug, size in DATABASE_SIZES.items()
    }
    tiers = {slug: tier["monthly_price_in_cents"] / 100 for slug, tier in catalog.REGISTRY_TIERS.items()}
    assert tiers == {slug: row["monthly"] for slug, row in TABLES["registry"]["rows"].items()}
