"""Write the JSON Schemas of the contracts: `python -m blueprint.schema [FOLDER]` (docs/reference by default).

`stack-file.schema.json` is for editors: a stack file, with every key under `ancla:` and encrypted values allowed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from blueprint.outputs import EnvironmentOutputs
from blueprint.settings.environment import EnvironmentSettings
from blueprint.stack_file import NAMESPACE

FOLDER = Path("docs/reference")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ENCRYPTED: dict[str, Any] = {
    "type": "object",
    "properties": {"secure": {"type": "string"}},
    "required": ["secure"],
    "additionalProperties": False,
}


def build_schemas() -> dict[str, dict[str, Any]]:
    """Return each schema by its file name."""
    return {
        "environment-settings.schema.json": {"$schema": _DIALECT, **EnvironmentSettings.model_json_schema()},
        "environment-outputs.schema.json": {"$schema": _DIALECT, **EnvironmentOutputs.model_json_schema()},
        "stack-file.schema.json": _stack_file(),
    }


def render(schema: dict[str, Any]) -> str:
    """Return the text of a schema's file."""
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def _stack_file() -> dict[str, Any]:
    settings = EnvironmentSettings.model_json_schema()
    definitions: dict[str, Any] = settings.pop("$defs")
    for name in ("Secrets", "KeyPair", "TlsSecrets"):
        definitions[name] = _encryptable(definitions[name])
    config = {
        "type": "object",
        "properties": {f"{NAMESPACE}:{name}": value for name, value in settings["properties"].items()},
        "required": [f"{NAMESPACE}:{name}" for name in settings["required"]],
        "patternProperties": {"^(digitalocean|command|pulumi):": True},
        "additionalProperties": False,
    }
    return {
        "$schema": _DIALECT,
        "title": "Stack file",
        "description": EnvironmentSettings.__doc__,
        "type": "object",
        "properties": {"config": config},
        "required": ["config"],
        "$defs": definitions,
    }


def _encryptable(schema: dict[str, Any]) -> dict[str, Any]:
    """Let every secret value be an encrypted one too, also in a map or list of them."""

    def value(node: dict[str, Any]) -> dict[str, Any]:
        for key in ("patternProperties", "additionalProperties", "items"):
            inner: Any = node.get(key)
            if key == "patternProperties" and isinstance(inner, dict):
                return {**node, key: {pattern: value(item) for pattern, item in inner.items()}}
            if isinstance(inner, dict):
                return {**node, key: value(inner)}
        return {"anyOf": [node, _ENCRYPTED]}

    return {**schema, "properties": {name: value(node) for name, node in schema["properties"].items()}}


def main() -> None:
    """Write every schema."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in build_schemas().items():
        (folder / name).write_text(render(schema), encoding="utf-8")


if __name__ == "__main__":
    main()
