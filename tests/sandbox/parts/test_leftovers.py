"""A test run that was killed leaves its sandbox; the next one removes it, and nothing of those that still run."""

from __future__ import annotations

import os
import subprocess
import sys

from sandbox.parts.containers import ContainerParts
from sandbox.parts.instance import LABEL
from tests.prepare import killed_runs

REMOVE = "from tests.prepare import remove_leftovers; remove_leftovers()"


def test_the_sandbox_of_a_killed_run_goes_and_that_of_a_live_one_stays(parts: ContainerParts) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    name = f"test-leftover-{gone.pid}"
    parts.docker.run("volume", "create", "--label", f"{LABEL}={name}", f"ancla-{name}-data")
    parts.docker.run("network", "create", "--internal", "--label", f"{LABEL}={name}", f"ancla-{name}-public")
    assert name in killed_runs(parts.docker)
    said = subprocess.run([sys.executable, "-c", REMOVE], capture_output=True, text=True, check=True).stdout
    assert f"tests: removing the sandbox {name} of a run that was killed\n" in said
    assert name not in killed_runs(parts.docker)
    for kind in ("volume", "network"):
        assert not parts.docker.names(kind, f"{LABEL}={name}")
    assert parts.docker.names("network", parts.instance.label), f"that of process {os.getpid()} stays"
