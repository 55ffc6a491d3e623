"""The table and the SDK that programs use: properties as the SDK has them, and what is said by hand fits."""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from sandbox.plugins.digitalocean import VERSION
from sandbox.plugins.fields import Field, snake
from sandbox.plugins.resource import Resource
from sandbox.plugins.resources import functions, resources
from sandbox.plugins.schema import how, properties


def _source(name: str) -> str:
    """The text of a module of the SDK: secrets and types are in no annotation."""
    found = importlib.util.find_spec("pulumi_digitalocean")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).with_name(f"{snake(name).lstrip('_')}.py").read_text()


def test_the_table_is_of_the_sdk_that_is_installed() -> None:
    """A newer SDK may have properties that no call here sends: its additions are read, then the version is raised."""
    assert version("pulumi_digitalocean") == VERSION


def test_a_property_is_as_the_sdk_and_the_table_say() -> None:
    fields = properties("Droplet", how(inner={"image": how(replace=True), "sshKeys": how(unordered=True)}))
    assert fields["image"] == Field(required=True, replace=True)
    assert fields["ipv4Address"] == Field(output_only=True)
    assert fields["vcpus"] == Field(kind="int", output_only=True)
    assert fields["sshKeys"] == Field(kind="set", element=Field())
    policy = fields["backupPolicy"]
    assert (policy.kind, policy.fields["hour"].kind) == ("object", "int")


def test_what_is_in_a_list_has_its_own_properties() -> None:
    says = how(inner={"rules": how(inner={"uuid": how(output_only=True)}, others=how(computed=True))})
    rule = properties("DatabaseFirewall", says)["rules"].item.fields
    assert rule["type"] == Field(required=True, computed=True)
    assert rule["uuid"] == Field(output_only=True)


def test_a_property_that_is_newer_than_the_table_is_left_out() -> None:
    rules = {row.name: row for row in resources()}["Firewall"].fields["inboundRules"].item.fields
    assert "action" not in rules
    assert {"protocol", "portRange", "sourceAddresses"} <= rules.keys()


def test_the_table_cannot_name_what_the_sdk_has_not() -> None:
    with pytest.raises(TypeError, match="has no colour"):
        properties("Droplet", how(inner={"colour": how(computed=True)}))


@pytest.mark.parametrize("row", resources(), ids=lambda row: row.name)
def test_a_resource_hides_what_the_sdk_hides(row: Resource) -> None:
    found = re.search(r"additional_secret_outputs=\[(.*?)\]", _source(row.name))
    secret = set(re.findall(r'"(\w+)"', found.group(1))) if found else set()
    assert {name for name, part in row.fields.items() if part.secret} == secret


@pytest.mark.parametrize("row", resources(), ids=lambda row: row.name)
def test_the_type_is_the_sdk_s(row: Resource) -> None:
    assert f'@pulumi.type_token("{row.token}")' in _source(row.name)


def test_the_functions_are_the_sdk_s() -> None:
    for row in functions():
        assert f"'{row.token}'" in _source(row.name)


@pytest.mark.parametrize("row", resources(), ids=lambda row: row.name)
def test_what_only_the_api_says_is_not_asked_for(row: Resource) -> None:
    for name, part in row.fields.items():
        assert not (part.output_only and (part.required or part.default is not None or part.replace)), name


def test_every_default_has_the_type_of_its_property() -> None:
    kinds = {"string": str, "int": int, "bool": bool}
    for row in resources():
        for part in row.fields.values():
            _default_fits(part, kinds)


def _default_fits(part: Field, kinds: dict[str, type]) -> None:
    if part.default is not None:
        assert isinstance(part.default, kinds[part.kind])
    for inner in part.fields.values():
        _default_fits(inner, kinds)
