"""Production keeps its data; staging may go. One table says so."""

from __future__ import annotations

import ast

import pulumi
import pulumi_digitalocean
import pytest

from blueprint.settings import DISPOSABLE_ENVIRONMENTS
from components.host_plan import ROOT
from components.lifecycle import DISPOSABLE, PRODUCTION, TABLE, Kind, Lifecycle, lifecycle_of
from tests.components.kit import Recording, run_program

KEPT = ("Droplet", "DatabaseCluster", "DatabaseDb", "SpacesBucket", "Domain", "ReservedIp", "ContainerRegistries")


def test_what_holds_data_in_prod_is_protected(prod: Recording):
    for kind in KEPT:
        assert prod.of_type(kind), kind
        assert all(item.options.protect for item in prod.of_type(kind)), kind


def test_of_staging_backups_alone_are_protected(staging: Recording):
    """A destination that is renamed in the stack file must not take the backups in its bucket with it."""
    protected = [item for item in staging.resources if item.options.protect]

    assert [item.inputs.get("name") for item in protected] == ["nextgentech-staging-backups"]


@pytest.mark.parametrize("row", [PRODUCTION, DISPOSABLE])
def test_what_a_caller_protects_is_protected(row: Lifecycle):
    """An option that is set on a child wins over its parent's: so what the table leaves open is not set."""

    class Parent(pulumi.ComponentResource):
        def __init__(self, opts: pulumi.ResourceOptions) -> None:
            super().__init__("test:index:Parent", "parent", None, opts)
            for kind in Kind:
                pulumi_digitalocean.Tag(f"child-{kind}", opts=row.options(self, kind))

    protected = run_program(lambda: Parent(pulumi.ResourceOptions(protect=True)))
    left_open = run_program(lambda: Parent(pulumi.ResourceOptions()))

    assert all(item.options.protect for item in protected.of_type("Tag"))
    assert {kind for kind in Kind if left_open.one("Tag", f"child-{kind}").options.protect} == row.protect


def test_buckets_go_with_their_objects_in_staging_only(prod: Recording, staging: Recording):
    assert {item.inputs["forceDestroy"] for item in prod.of_type("SpacesBucket")} == {False}
    assert {item.inputs["forceDestroy"] for item in staging.of_type("SpacesBucket")} == {True}


@pytest.mark.parametrize("environment", ["production", "live", "demo"])
def test_an_environment_that_is_not_in_the_table_is_treated_as_production(environment: str):
    assert lifecycle_of(environment) is PRODUCTION


def test_policy_and_table_agree_on_what_is_disposable():
    assert {name for name, row in TABLE.items() if row is DISPOSABLE} == DISPOSABLE_ENVIRONMENTS


def test_trusted_sources_are_retained_in_every_row():
    assert all(Kind.TRUSTED_SOURCES in row.retain for row in TABLE.values())


def test_no_component_has_protection_of_its_own():
    for path in (ROOT / "components").glob("*.py"):
        if path.name == "lifecycle.py":
            continue
        keywords = {node.arg for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.keyword)}
        assert not keywords & {"protect", "retain_on_delete"}, path.name
