"""Production keeps its data; staging may go. One table says so."""

from __future__ import annotations

import ast

import pytest

from blueprint.settings.environment import DISPOSABLE_ENVIRONMENTS
from components.host_plan import ROOT
from components.lifecycle import DISPOSABLE, PRODUCTION, TABLE, lifecycle_of
from tests.components.kit import Recording

KEPT = ("Droplet", "DatabaseCluster", "DatabaseDb", "SpacesBucket", "Domain", "ReservedIp")


def test_what_holds_data_in_prod_is_protected(prod: Recording):
    for kind in KEPT:
        assert prod.of_type(kind), kind
        assert all(item.options.protect for item in prod.of_type(kind)), kind


def test_of_staging_backups_alone_are_protected(staging: Recording):
    """A destination that is renamed in the stack file must not take the backups in its bucket with it."""
    protected = [item for item in staging.resources if item.options.protect]

    assert [item.inputs.get("name") for item in protected] == ["nextgentech-staging-backups"]


def test_buckets_go_with_their_objects_in_staging_only(prod: Recording, staging: Recording):
    assert {item.inputs["forceDestroy"] for item in prod.of_type("SpacesBucket")} == {False}
    assert {item.inputs["forceDestroy"] for item in staging.of_type("SpacesBucket")} == {True}


@pytest.mark.parametrize("environment", ["production", "live", "demo"])
def test_an_environment_that_is_not_in_the_table_is_treated_as_production(environment: str):
    assert lifecycle_of(environment) is PRODUCTION


def test_policy_and_table_agree_on_what_is_disposable():
    assert {name for name, row in TABLE.items() if row is DISPOSABLE} == DISPOSABLE_ENVIRONMENTS


def test_no_component_has_protection_of_its_own():
    for path in (ROOT / "components").glob("*.py"):
        if path.name in ("component.py", "lifecycle.py"):
            continue
        keywords = {node.arg for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.keyword)}
        assert not keywords & {"protect", "retain_on_delete"}, path.name
