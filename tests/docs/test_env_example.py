from __future__ import annotations

from pathlib import Path

from blueprint.pulumi_config import load_stack_file
from ops.release.env_example import build_env_example


def test_env_example_is_fresh():
    stacks = [load_stack_file(path) for path in sorted(Path().glob("Pulumi.*.yaml"))]
    assert Path(".env.example").read_text() == build_env_example(stacks), "run `python -m ops.release.env_example`"
