"""Write the reference: commands of `ops`, keys of a stack file, variables `ANCLA_*`, tables of the components' pages.

`python -m tools.reference` writes them; a test fails while one is stale.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blueprint.references import REFERENCES, USES
from blueprint.settings.environment import EnvironmentSettings
from tools import variables

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
_HEAD = "<!-- written by `python -m tools.reference`; changes here are undone -->\n\n"
Schema = dict[str, Any]


def build_pages() -> dict[str, str]:
    """Return each page by its file name."""
    return {
        "ops.md": _HEAD + _ops(),
        "stack-file.md": _HEAD + _stack_file(EnvironmentSettings.model_json_schema()),
        "variables.md": _HEAD + variables.build_page(),
        **{f"../components/{name}": text for name, text in _components().items()},
    }


def _components() -> dict[str, str]:
    """Return the components' pages, which people write, with the tables of inputs and outputs as the code has them."""
    tables: dict[str, dict[str, str]] = json.loads(_printed("components.reference"))

    def table(found: re.Match[str]) -> str:
        return f"<!-- {found['name']} {found['part']} -->\n\n{tables[found['name']][found['part']]}\n\n<!-- end -->"

    marked = re.compile(r"<!-- (?P<name>\w+) (?P<part>inputs|outputs) -->\n.*?<!-- end -->", re.DOTALL)
    pages = sorted((FOLDER.parent / "components").glob("*.md"))
    return {page.name: marked.sub(table, page.read_text()) for page in pages}


def _ops() -> str:
    return _printed("ops.cli.reference")


def _printed(module: str) -> str:
    command = [sys.executable, "-m", module]
    return subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout


def _stack_file(schema: Schema) -> str:
    definitions: dict[str, Schema] = schema["$defs"]
    lines = ["# The keys of a stack file", "", "Each stands under `ancla:`, as in `ancla:region: nyc3`.", ""]
    lines += _table(schema)
    for name in sorted(definitions):
        if "properties" in definitions[name]:
            lines += [
                "",
                f"## {name}",
                "",
                _text(definitions[name].get("description", "")),
                "",
                *_table(definitions[name]),
            ]
    return "\n".join([*lines, *_references()]) + "\n"


def _references() -> Iterator[str]:
    yield from ("", "## References", "", "`${…}` in a service's `environment` or in `edge.headers`; `*` is a name.", "")
    yield from ("| path | value | |", "| --- | --- | --- |")
    for reference in REFERENCES:
        yield f"| `{reference.path}` | {_text(reference.meaning)} | {'secret' if reference.secret else ''} |"
    yield from (
        "",
        "## What a service is given for what it uses",
        "",
        "| `uses` | variable | value |",
        "| --- | --- | --- |",
    )
    for use, given in USES.items():
        yield from (f"| `{use}` | `{variable}` | `{path}` |" for variable, path in given.items())


def _table(schema: Schema) -> Iterator[str]:
    required = set(schema.get("required", []))
    yield "| key | value | default | |"
    yield "| --- | --- | --- | --- |"
    for key, value in schema["properties"].items():
        default = "required" if key in required else _default(value)
        yield f"| `{key}` | {_kind(value)} | {default} | {_text(value.get('description', ''))} |"


def _default(value: Schema) -> str:
    default = value.get("default")
    if default is None or isinstance(default, dict | list):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _kind(value: Schema) -> str:
    """Say what a value may be, with a link where it is a group."""
    match value:
        case {"$ref": reference}:
            name = reference.rsplit("/", 1)[-1]
            kind = "a region" if name == "Region" else f"[{name}](#{name.lower()})"
        case {"anyOf": options} | {"oneOf": options}:
            kind = " or ".join(_kind(option) for option in options if option.get("type") != "null")
        case {"const": constant}:
            kind = f"`{constant}`"
        case {"enum": options}:
            kind = ", ".join(dict.fromkeys(f"`{option}`" for option in options))  # 17 and "17" are one
        case {"type": "array", "items": items}:
            kind = f"list of {_kind(items)}"
        case {"patternProperties": dict(inner)} | {"additionalProperties": dict() as inner}:
            kind = f"map of {_kind(next(iter(inner.values())) if 'patternProperties' in value else inner)}"
        case _:
            bounds = [f"{word} {value[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in value]
            name = str(value.get("type", "value"))
            kind = " ".join(["map" if name == "object" else name, *bounds])
    return kind


def _text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for name, content in build_pages().items():
        (FOLDER / name).write_text(content)
