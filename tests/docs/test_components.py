"""The pages of the components: each example is a program that runs, and each table is of its component."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import components
from tests.components.kit import run_program

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "components"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "README.md")


def test_every_component_has_a_page():
    titles = {page.read_text().partition("\n")[0].removeprefix("# ") for page in PAGES}
    assert titles == {name for name in components.__all__ if not name.endswith("Args")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_example_of_a_page_runs(page: Path):
    text = page.read_text()
    program = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(program) == 1

    def run() -> None:
        exec(compile(program[0], page.name, "exec"), {})

    recording = run_program(run)
    assert recording.of_type(text.partition("\n")[0].removeprefix("# "))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_parts(page: Path):
    text = page.read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["What it makes", "Inputs", "Outputs", "What replaces it"]
    assert len(re.findall(r"^<!-- \w+ (inputs|outputs) -->$", text, re.MULTILINE)) == 2
