"""Every text that a drill's page shows and is ours: it has to be in each catalogue, and nothing else may be."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import ops
from ops.drill import checks
from ops.drill.evidence import catalogue
from ops.drill.evidence.document import Status
from ops.drill.kinds import pgbackrest, provider_fork
from ops.drill.negative_controls import EXPLAINED
from ops.drill.selection import Pick
from tests.ops.drill_kit import backrest_document, document, fork_document

OPS = Path(ops.__file__).parent
TEMPLATES = Path(catalogue.__file__).parent / "templates"


def codes() -> set[str]:
    """Templates of `say(...)`."""
    found = set()
    for path in OPS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="say"), args=[ast.Constant(value=str() as code)]):
                    found.add(code)
                case ast.Call(func=ast.Name(id="say")):
                    raise AssertionError(f"{path}:{node.lineno}: not one literal: it cannot be found in the source")
    return found


def phases() -> set[str]:
    """Names of the stretches of a drill."""
    found = set()
    for path in (OPS / "drill").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="phase" | "uninterrupted" | "note_phase"),
                    args=[ast.Constant(value=name), *_],
                ):
                    found.add(name)
    return found


def literals() -> set[str]:
    """Texts that the templates give to be translated."""
    template = "".join(path.read_text() for path in TEMPLATES.glob("*.html.j2"))
    found = set(re.findall(r'"([^"{}]+)"\|t\b', template)) | set(re.findall(r"'([^'{}]+)'\|t\b", template))
    for group in re.findall(r"\(([^()]*)\)\|t\b", template):
        found |= set(re.findall(r'"([^"]+)"', group))
    found |= set(re.findall(r'goal\(section, "\w+", "([^"]+)"', template))
    return found | set(re.findall(r'"((?:measured|computed), [^"]+)"', template))


def texts() -> set[str]:
    """Everything of ours that a page can show."""
    kinds = [document(), backrest_document(), fork_document()]
    names = {"scratch server", "source server", "machine"}
    return set().union(
        codes(),
        phases(),
        literals(),
        checks.QUESTIONS.values(),
        pgbackrest.QUESTIONS.values(),
        provider_fork.QUESTIONS.values(),
        EXPLAINED.values(),
        *(each.detail.facts(each) for each in kinds),
        map(str, Status),
        map(str, Pick),
        ("green", "in part", "red", "named", *names),
    )
