"""Run a program to its end; when it fails, the test shows what it said."""

from __future__ import annotations

import subprocess
from typing import Any


def run_to_end(*command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as `subprocess.run` does, with its output as text; with `check` it has to exit 0."""
    done = subprocess.run(command, text=True, check=False, capture_output=True, **options)
    given = options.get("input", "")
    assert not check or not done.returncode, f"{command} {given}exits {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
