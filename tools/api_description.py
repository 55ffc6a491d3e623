"""Bundle DigitalOcean's API description: operations and PostgreSQL's settings for the sandbox, schemas for its tests.

`python -m tools.api_description PATH` reads the published OpenAPI description, bundled into one file (its source is
github.com/digitalocean/openapi), and writes the files. Prose and code samples are left out; examples stay, tests
compare answers with them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OPERATIONS = ROOT / "sandbox" / "api" / "operations.json"
POSTGRES_CONFIG = ROOT / "sandbox" / "api" / "postgres_config.json"
DESCRIPTION = ROOT / "tests" / "sandbox" / "description.json"

Node = dict[str, Any]
_PREFIX = "/v2/"  # what stands beside it is another API
_ADVANCED_CONFIG = "resources.databases.models.advanced_config.postgres_advanced_config"
_RULES = frozenset({"type", "minimum", "maximum", "enum"})
_SUCCESS = ("200", "201", "202", "204")
_PROSE = frozenset({"description", "summary", "title", "externalDocs", "tags", "x-codeSamples", "headers", "servers"})
# The old name of the reserved IPs, which clients still call, is not in the description any more.
_FLOATING_IPS = (
    ("floatingIPs_list", "GET", "/v2/floating_ips", 200),
    ("floatingIPs_create", "POST", "/v2/floating_ips", 202),
    ("floatingIPs_delete", "DELETE", "/v2/floating_ips/{reserved_ip}", 204),
    ("floatingIPs_get", "GET", "/v2/floating_ips/{reserved_ip}", 200),
    ("floatingIPsActions_list", "GET", "/v2/floating_ips/{reserved_ip}/actions", 200),
    ("floatingIPsActions_post", "POST", "/v2/floating_ips/{reserved_ip}/actions", 201),
    ("floatingIPsActions_get", "GET", "/v2/floating_ips/{reserved_ip}/actions/{action_id}", 200),
)


def _operations(description: Node) -> Iterator[tuple[str, str, Node]]:
    for path, item in description["paths"].items():
        for method, operation in item.items():
            if path.startswith(_PREFIX) and isinstance(operation, dict) and "operationId" in operation:
                yield path, method, operation


def build_operations(description: Node) -> str:
    """Return operations.json: id, method, path and success status, an operation a line."""
    rows = [
        (operation["operationId"], method.upper(), path, int(next(s for s in _SUCCESS if s in operation["responses"])))
        for path, method, operation in _operations(description)
    ]
    in_order = sorted((*rows, *_FLOATING_IPS), key=lambda row: (row[2], row[1]))
    return "[\n" + ",\n".join(json.dumps(row) for row in in_order) + "\n]\n"


def build_postgres_config(description: Node) -> str:
    """Return postgres_config.json: type, bounds and words of each setting of a PostgreSQL cluster, one a line."""
    settings: Node = description["x-files"][_ADVANCED_CONFIG]["properties"]
    kept = {
        name: {"type": "object", **{key: value for key, value in setting.items() if key in _RULES}}
        for name, setting in settings.items()
    }
    return _lines(kept) + "\n"


class _Bundle:
    """Copies parts of a description without prose, and what they refer to, each at the place where it was."""

    def __init__(self, description: Node) -> None:
        self._description = description
        self._referenced: dict[tuple[str, ...], Any] = {}

    def copy(self, node: Any, *, names: bool = False) -> Any:
        """Copy a node; under `names` its keys are names of properties, not words of OpenAPI."""
        if isinstance(node, list):
            return [self.copy(item) for item in node]
        if not isinstance(node, dict):
            return node
        if isinstance(node.get("$ref"), str) and not names:
            self._refer(node["$ref"])
            return {"$ref": node["$ref"]}
        kept = {key: value for key, value in node.items() if names or key not in _PROSE}
        return {
            key: value if key == "example" and not names else self.copy(value, names=key == "properties" and not names)
            for key, value in kept.items()
        }

    def _refer(self, reference: str) -> None:
        keys = tuple(key.replace("~1", "/").replace("~0", "~") for key in reference.removeprefix("#/").split("/"))
        if keys in self._referenced:
            return
        target: Any = self._description
        for key in keys:
            target = target[key]
        self._referenced[keys] = None  # a schema may refer to itself
        self._referenced[keys] = self.copy(target)

    def place(self, document: Node) -> None:
        """Put what was referred to into the document."""
        for keys in sorted(self._referenced, key=len):
            node = document
            for key in keys[:-1]:
                node = node.setdefault(key, {})
            node.setdefault(keys[-1], self._referenced[keys])


def build_description(description: Node) -> str:
    """Return description.json: the operations of operations.json with the schemas of bodies and answers."""
    bundle = _Bundle(description)
    info: Node = {key: description["info"][key] for key in ("title", "version", "license")}
    document: Node = {
        "openapi": description["openapi"],
        "info": info | {"x-source": "https://github.com/digitalocean/openapi"},
        "paths": {},
    }
    for path, method, operation in _operations(description):
        document["paths"].setdefault(path, {})[method] = bundle.copy(operation)
    bundle.place(document)
    sections = [f"{json.dumps(name)}: {_lines(section)}" for name, section in document.items()]
    return "{\n" + ",\n".join(sections) + "\n}\n"


def _lines(section: Any) -> str:
    """Write a section with a line for each of its keys, so that a change of the description is a readable one here."""
    if not isinstance(section, dict):
        return json.dumps(section)
    items: Node = section
    lines = [f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in items.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


FILES = {
    OPERATIONS: build_operations,
    POSTGRES_CONFIG: build_postgres_config,
    DESCRIPTION: build_description,
}
"""Each file that is written, by its path."""


def main(arguments: list[str]) -> None:
    """Write the files from the description that the only argument names."""
    if len(arguments) != 1:
        raise SystemExit("usage: python -m tools.api_description PATH (of DigitalOcean's OpenAPI description, as JSON)")
    try:
        description: Node = json.loads(Path(arguments[0]).read_text())
        files = {path: build(description) for path, build in FILES.items()}
    except OSError as error:
        raise SystemExit(f"{arguments[0]}: {error.strerror}. Give the path of the description.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SystemExit(f"{arguments[0]}: is no OpenAPI description in one JSON file ({error!r})") from None
    for path, text in files.items():
        path.write_text(text)
        print(f"{path.relative_to(ROOT)}: {len(text):,} bytes")  # noqa: T201 - the command's answer


if __name__ == "__main__":
    main(sys.argv[1:])
