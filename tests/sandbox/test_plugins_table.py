"""The table against the SDKs that programs use: the same properties, required ones and secrets."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from sandbox.plugins.fields import Field, snake
from sandbox.plugins.resource import Resource
from sandbox.plugins.resources import functions, resources

# Newer than the sources the table was read from: a program that gives it is told so.
NOT_IN_THE_TABLE = {"Droplet": {"gpuPartitionMode"}}


def _camel(name: str) -> str:
    return re.sub("_(.)", lambda found: found.group(1).upper(), name)


def _source(name: str) -> str:
    """The text of an SDK's module: importing all of it takes seconds."""
    found = importlib.util.find_spec("pulumi_digitalocean")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).with_name(f"{snake(name).lstrip('_')}.py").read_text()


@pytest.mark.parametrize("row", resources(), ids=lambda row: row.name)
def test_a_resource_has_the_properties_of_the_sdk(row: Resource) -> None:
    source = _source(row.name)
    state = source[source.index(f"class _{row.name}State") : source.index("@pulumi.type_token")]
    getter = r'@pulumi\.getter(?:\(name="(\w+)"\))?\s+(?:@_utilities\.deprecated\(.*?\)\s+)?def (\w+)\(self\)'
    names = {name or plain for name, plain in re.findall(getter, state, flags=re.DOTALL)}
    assert set(row.fields) == names - NOT_IN_THE_TABLE.get(row.name, set())


@pytest.mark.parametrize("row", resources(), ids=lambda row: row.name)
def test_a_resource_needs_what_the_sdk_needs(row: Resource) -> None:
    source = _source(row.name)
    arguments = source[source.index(f"class {row.name}Args") :]
    start = arguments.index("def __init__")
    lines = arguments[start : arguments.index("):", start)].splitlines()
    needed = {_camel(line.strip().split(":")[0]) for line in lines if "Input[" in line and "= None" not in line}
    assert {name for name, part in row.fields.items() if part.required} == needed


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
