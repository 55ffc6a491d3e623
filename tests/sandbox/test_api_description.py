"""The files that `tools.api_description` wrote are those of the description, and nobody has edited them since."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.api.context import HANDLERS, load_operations
from tools.api_description import DESCRIPTION, FILES, ROOT

BESIDE = ROOT.parent / "shared" / "openapi" / "digitalocean.json"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_files_are_of_one_description(path: Path):
    """A row that somebody edits, or a newer description, fails here; bundling the bundle changes nothing."""
    assert path.read_text() == FILES[path](json.loads(DESCRIPTION.read_text()))


def test_the_bundle_is_that_of_the_published_description():
    path = Path(os.environ.get("ANCLA_OPENAPI", BESIDE))
    if not path.is_file():
        pytest.skip("set ANCLA_OPENAPI to DigitalOcean's bundled OpenAPI description to compare the bundle with it")
    description = json.loads(path.read_text())
    for written, build in FILES.items():
        assert written.read_text() == build(description)


def test_every_handler_answers_a_known_operation():
    assert set(HANDLERS) <= {operation.id for operation in load_operations()}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "No such file or directory"), ("{", "is no OpenAPI description"), ("[]", "is no OpenAPI description")],
)
def test_a_file_that_is_no_description_is_refused_by_name(tmp_path: Path, content: str | None, complaint: str):
    path = tmp_path / "api.json"
    if content is not None:
        path.write_text(content)
    command = [sys.executable, "-m", "tools.api_description", str(path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"{path}: ")
    assert complaint in ran.stderr
    assert "Traceback" not in ran.stderr
