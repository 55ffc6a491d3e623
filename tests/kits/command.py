"""Run a command line of `ops` in the test's own process, as `python -m ops` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ops.cli.app import main


def ops_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., SimpleNamespace]:
    """Return a function that runs a command line in this folder, with nothing of this computer in its environment."""
    for name in os.environ:
        if name.startswith(("ANCLA_", "PULUMI_", "DIGITALOCEAN_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.chdir(folder)
    for name in ("ANCLA_RUNTIME", "ANCLA_STATE", "ANCLA_AUDIT", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(folder / f".{name}"))

    def run(*arguments: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["ops", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return SimpleNamespace(returncode=ended.value.code, stdout=captured.out, stderr=captured.err)

    return run
