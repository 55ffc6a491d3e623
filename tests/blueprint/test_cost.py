"""The monthly estimate, and that a preview costs what the settings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from blueprint.cost import database_price, droplet_price, estimate, resource_prices
from blueprint.pulumi_config import load_stack_file
from blueprint.settings import EnvironmentSettings
from blueprint.sizes import DATABASE_SIZES, DROPLET_SIZES
from tests.components.conftest import load, record

ROOT = Path(__file__).resolve().parents[2]


def settings(stack: str, **changes: object) -> EnvironmentSettings:
    return load_stack_file(ROOT / f"Pulumi.{stack}.yaml", environ={}).model_copy(update=changes)


def test_image_backups_cost_a_share_of_the_droplet():
    assert droplet_price("s-2vcpu-4gb") == 24
    assert droplet_price("s-2vcpu-4gb", "weekly") == 28.8
    assert droplet_price("s-2vcpu-4gb", "daily") == 31.2


def test_every_node_of_a_database_costs_the_same():
    assert database_price("db-s-1vcpu-2gb", 2) == 2 * DATABASE_SIZES["db-s-1vcpu-2gb"].monthly


def test_staging_is_within_the_plans_budget_of_50_to_80():
    report = estimate(settings("staging"))

    assert report.total == 24 + 15 + 5 + 20
    assert not report.over_budget


def test_prod_names_every_resource_that_costs():
    report = estimate(settings("prod"))

    assert {line.resource: line.monthly for line in report.lines} == {
        "droplet nextgentech-prod": 28.8,
        "database nextgentech-prod": 60,
        "spaces nextgentech-assets, nextgentech-backups": 5,
        "registry nextgentech": 20,
    }
    assert report.total == 113.8


@pytest.mark.parametrize(("budget", "over"), [(None, False), (113, True), (114, False)])
def test_the_budget_is_a_limit(budget, over):
    assert estimate(settings("prod", budget=budget)).over_budget is over


@pytest.mark.parametrize("stack", ["prod", "staging"])
def test_a_preview_costs_what_the_settings_say(stack: str):
    resources = record(stack, preview=True).resources

    assert sum(resource_prices((item.type, item.inputs) for item in resources)) == estimate(load(stack)).total


def test_sizes_grow_with_their_price():
    for sizes in (DROPLET_SIZES, DATABASE_SIZES):
        assert all(size.monthly > 0 and size.memory > 0 and size.vcpus > 0 for size in sizes.values())
