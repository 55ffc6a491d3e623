"""A test run that was killed leaves its sandbox; the next one removes it, and nothing of those that still run."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from sandbox.parts.containers import ContainerParts
from sandbox.parts.docker import label_options
from sandbox.parts.instance import LABEL, OWNER_LABEL
from tests.leftovers import Process, is_over, killed_runs, process

REMOVE = "from tests.leftovers import remove_leftovers; remove_leftovers()"


def me() -> Process:
    found = process(os.getpid())
    assert found is not None
    return found


def ended() -> Process:
    child = subprocess.Popen(["true"])
    child.wait()
    return replace(me(), pid=child.pid, start="1")


def test_a_process_is_over_for_certain_or_not() -> None:
    assert Process.parse(str(me())) == me()
    assert not is_over(me(), local=True)
    assert is_over(ended(), local=True)
    assert is_over(replace(me(), start="1"), local=True), "an id comes again"
    other = replace(ended(), namespace="4026532999")
    assert not is_over(other, local=True), "another container's processes are not seen from here"
    assert is_over(replace(me(), boot="earlier"), local=True), "the computer was started again since"
    assert not is_over(replace(me(), boot="elsewhere"), local=False), "another computer uses the same Docker"


@pytest.mark.containers
def test_the_sandbox_of_a_killed_run_goes_and_that_of_a_live_one_stays(parts: ContainerParts) -> None:
    gone, unseen = f"test-leftover-{os.getpid()}", f"test-unseen-{os.getpid()}"
    owners = {gone: ended(), unseen: replace(ended(), namespace="4026532999")}
    for name, owner in owners.items():
        labels = label_options({LABEL: name, OWNER_LABEL: str(owner)})
        parts.docker.run("volume", "create", *labels, f"ancla-{name}-data")
        parts.docker.run("network", "create", "--internal", *labels, f"ancla-{name}-public")
    try:
        assert gone in killed_runs(parts.docker)
        said = subprocess.run([sys.executable, "-c", REMOVE], capture_output=True, text=True, check=True).stdout
        assert f"tests: removing the sandbox {gone} of a run that was killed\n" in said
        assert unseen not in said
        for kind in ("volume", "network"):
            assert not parts.docker.names(kind, f"{LABEL}={gone}")
            assert parts.docker.names(kind, f"{LABEL}={unseen}")
        assert parts.docker.names("network", parts.instance.label), f"that of process {os.getpid()} stays"
    finally:
        for name in owners:
            parts.docker.remove_volume(f"ancla-{name}-data")
            parts.docker.remove_network(f"ancla-{name}-public")
