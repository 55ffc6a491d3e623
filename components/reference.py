"""Write the tables of the components' pages: `python -m components.reference` prints them as JSON, by component."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import sys
from collections.abc import Mapping

import components


def build_tables(name: str) -> dict[str, str]:
    """Return the tables of inputs and outputs of a component, as Markdown."""
    module = importlib.import_module(getattr(components, name).__module__)
    classes = {item.name: item for item in ast.parse(inspect.getsource(module)).body if isinstance(item, ast.ClassDef)}
    helpers = [key for key in classes if key.endswith("Args") and key != f"{name}Args"]
    known = vars(module)
    inputs = [_table(classes[f"{name}Args"], known, inputs=True)]
    inputs += [f"`{key}`:\n\n{_table(classes[key], known, inputs=True)}" for key in helpers]
    return {"inputs": "\n\n".join(inputs), "outputs": _table(classes[name], known, inputs=False)}


def _table(item: ast.ClassDef, known: Mapping[str, object], *, inputs: bool) -> str:
    lines = (
        ["| | type | default | |", "| --- | --- | --- | --- |"] if inputs else ["| | type | |", "| --- | --- | --- |"]
    )
    for field, text in zip(item.body, item.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            cells = [f"`{ast.unparse(field.target)}`", f"`{_type(field.annotation)}`"]
            cells += [_default(field.value, known)] if inputs else []
            lines.append(f"| {' | '.join([*cells, _cell(str(text.value.value))])} |")
    return "\n".join(lines)


def _type(annotation: ast.expr) -> str:
    return _cell(ast.unparse(annotation).replace("pulumi.", "").replace("digitalocean.", ""))


def _default(value: ast.expr | None, known: Mapping[str, object]) -> str:
    if value is None:
        return "required"
    text = repr(known[value.id]) if isinstance(value, ast.Name) else ast.unparse(value)
    if "default_factory=dict" in text:
        return "`{}`"
    return "" if text == "None" or text.startswith("field(default=None") else f"`{text}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    names = [name for name in components.__all__ if not name.endswith("Args")]
    sys.stdout.write(json.dumps({name: build_tables(name) for name in names}))
