"""Compare answers of the sandbox with DigitalOcean's API description, as `tools.api_description` bundled it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft4Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

PATH = Path(__file__).with_name("description.json")
_URI = "urn:openapi"

# Where the description is wrong about its own API: (field, value) → why the value is right.
KNOWN = {
    ("status", "off"): "a droplet that is powered off; the description's YAML has a bare `off`, which reads as false",
}


def _jsonschema(node: Any) -> Any:
    """Translate OpenAPI 3.0's dialect: `nullable` becomes one more type, examples and discriminators go."""
    if isinstance(node, list):
        return [_jsonschema(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {
        name: _jsonschema(value)
        for name, value in node.items()
        if name not in ("example", "examples", "discriminator", "nullable", "readOnly", "format")
    }
    if "$ref" in out:
        out["$ref"] = _URI + out["$ref"]
    if node.get("nullable"):
        if isinstance(out.get("type"), str):
            out["type"] = [out["type"], "null"]
        if isinstance(out.get("enum"), list):
            out["enum"] = [*out["enum"], None]
        if not {"type", "enum"} & set(out):
            out = {"anyOf": [out, {"type": "null"}]}
    return out


class Description:
    """The description, ready to validate answers by operation id and status."""

    def __init__(self, path: Path) -> None:
        raw = json.loads(path.read_text())
        self.raw = raw
        self._document = _jsonschema(raw)
        self._registry = Registry().with_resource(_URI, Resource(contents=self._document, specification=DRAFT4))
        self.operations = {
            operation["operationId"]: (path, method)
            for path, item in raw["paths"].items()
            for method, operation in item.items()
            if isinstance(operation, dict) and "operationId" in operation
        }
        self._validators: dict[tuple[str, int], Draft4Validator | None] = {}

    def _resolve(self, node: Any) -> Any:
        while isinstance(node, dict) and "$ref" in node:
            target: Any = self._document
            for part in node["$ref"].removeprefix(_URI).removeprefix("#/").split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            node = target
        return node

    def _answer(self, operation: str, status: int) -> Any:
        path, method = self.operations[operation]
        responses = self._document["paths"][path][method]["responses"]
        return self._resolve(responses.get(str(status)) or responses.get("default"))

    def _validator(self, operation: str, status: int) -> Draft4Validator | None:
        key = (operation, status)
        if key not in self._validators:
            content = self._answer(operation, status).get("content", {})
            schema = content.get("application/json", {}).get("schema")
            self._validators[key] = (
                None
                if schema is None
                else Draft4Validator(schema, registry=self._registry, format_checker=FormatChecker())
            )
        return self._validators[key]

    def problems(self, operation: str, status: int, body: Any) -> list[str]:
        """Return why an answer does not fit the description; empty when it fits."""
        path, method = self.operations[operation]
        documented = self.raw["paths"][path][method]["responses"]
        if status < 400 and str(status) not in documented:
            return [f"{operation}: status {status} is not documented"]
        validator = self._validator(operation, status)
        if validator is None:
            return [f"{operation}: {status} has no body"] if body is not None else []
        found: list[str] = []
        for error in validator.iter_errors(body):
            where = "/".join(map(str, error.absolute_path))
            if not isinstance(error.instance, str) or (where.rpartition("/")[2], error.instance) not in KNOWN:
                found.append(f"{operation} {status} at /{where}: {error.message[:300]}")
        return found

    def fields(self, operation: str, status: int, key: str) -> set[str]:
        """Return every property name that the description knows in the object (or list) `key` of an answer."""
        content = self._answer(operation, status)["content"]["application/json"]["schema"]
        return self._properties(self._below(content, key))

    def _parts(self, schema: Any) -> list[Any]:
        """Flatten a schema and its alternatives."""
        schema = self._resolve(schema)
        if not isinstance(schema, dict):
            return []
        inner = [
            part for word in ("allOf", "oneOf", "anyOf") for item in schema.get(word, []) for part in self._parts(item)
        ]
        return [schema, *inner]

    def _below(self, schema: Any, key: str) -> Any:
        for part in self._parts(schema):
            if key in part.get("properties", {}):
                found = self._resolve(part["properties"][key])
                return found.get("items", found)
        raise KeyError(key)

    def _properties(self, schema: Any) -> set[str]:
        return {name for part in self._parts(schema) for name in part.get("properties", {})}

    def example(self, operation: str, status: int, key: str) -> set[str]:
        """Return the field names of the object `key` in the first example, or nothing if there is none."""
        path, method = self.operations[operation]
        node = self.raw["paths"][path][method]["responses"][str(status)]
        content = self._raw(node).get("content", {}).get("application/json", {})
        example = self._raw(content.get("example"))
        if example is None:
            named = self._raw(content.get("examples")) or {}
            example = next((self._raw(item).get("value") for item in named.values()), None)
        found = (example or {}).get(key) or {}
        return set(found[0] if isinstance(found, list) else found)

    def _raw(self, node: Any) -> Any:
        while isinstance(node, dict) and "$ref" in node:
            target: Any = self.raw
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            node = target
        return node


@cache
def load() -> Description:
    """Read the description once."""
    return Description(PATH)
