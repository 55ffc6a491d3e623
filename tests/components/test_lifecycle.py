"""Production keeps its data; staging may go. One table says so."""

from __future__ import annotations

import ast

import pytest

from components.host_plan import ROOT
from tests.components.conftest import record
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


@pytest.mark.parametrize(
    ("environment", "disposable", "protected"),
    [("live", None, True), ("staging", False, True), ("demo", True, False), ("development", None, False)],
)
def test_what_is_not_disposable_is_treated_as_production(environment: str, disposable: bool | None, protected: bool):
    recording = record("staging", {"environment": environment, "disposable": disposable})

    assert {bool(item.options.protect) for item in recording.of_type("DatabaseCluster")} == {protected}
    assert {item.inputs["forceDestroy"] for item in recording.of_type("SpacesBucket")} == {not protected}


def test_no_component_has_protection_of_its_own():
    for path in (ROOT / "components").glob("*.py"):
        if path.name in ("component.py", "lifecycle.py"):
            continue
        keywords = {node.arg for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.keyword)}
        assert not keywords & {"protect", "retain_on_delete"}, path.name
