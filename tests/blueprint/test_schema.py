"""The published schemas are those of the models, and say what the models say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from blueprint.schema import FOLDER, build_schemas, render
from blueprint.settings.environment import EnvironmentSettings

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = build_schemas()


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_committed_schema_is_fresh(name: str):
    committed = (ROOT / FOLDER / name).read_text()

    assert committed == render(SCHEMAS[name]), "run `python -m blueprint.schema`"


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_schema_is_a_schema(name: str):
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


GROUPS = ("topology", "edge")


def models_of(value: Any) -> Iterator[type[BaseModel]]:
    """The models that a value of this type is made of, from the outside in."""
    if isinstance(value, type) and issubclass(value, BaseModel):
        yield value
        for field in value.model_fields.values():
            yield from models_of(field.annotation)
    for argument in get_args(value):
        yield from models_of(argument)


@pytest.mark.parametrize("group", GROUPS)
def test_every_key_says_what_it_is(group: str):
    field = EnvironmentSettings.model_fields[group]
    mute = {
        f"{model.__name__}.{name}"
        for model in models_of(field.annotation)
        for name, key in model.model_fields.items()
        if not key.description
    }

    assert field.description
    assert not mute


def stack_file(stack: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())


@pytest.mark.parametrize("stack", ["prod", "staging"])
def test_stack_files_fit_the_schema_editors_use(stack: str):
    document = stack_file(stack)
    document["config"]["ancla:secrets"] = {"deployKey": {"secure": "v1:x"}, "app": {"A": {"secure": "v1:y"}}}
    document["config"]["digitalocean:requestsPerSecond"] = 2

    jsonschema.validate(document, SCHEMAS["stack-file.schema.json"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("ancla:topology", "size"), "s-2vcpu-4g"),
        (("ancla:topology", "sizee"), "s-2vcpu-4gb"),
        (("ancla:region",), "mars"),
        (("ancla:regionn",), "nyc3"),
        (("ancla:database", "nodes"), 9),
    ],
)
def test_the_schema_refuses_what_the_model_refuses(path: tuple[str, ...], value: Any):
    document = stack_file("prod")
    target: dict[str, Any] = document["config"]
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMAS["stack-file.schema.json"])
