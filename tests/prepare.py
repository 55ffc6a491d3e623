"""Prepare this computer for the tests: `python -m tests.prepare`, before every run.

Installs the programs that only tests use, removes the sandboxes of test runs that were killed (their containers start
again with Docker, and their networks keep ranges that the next run may want), and builds the images, so that the time
limit of no test covers that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sandbox.parts.base import PartError
from sandbox.parts.containers import ContainerParts
from sandbox.parts.docker import Docker
from sandbox.parts.instance import LABEL, Instance

PROGRAMS = ("age", "jq", "zstd", "pgbackrest")
"""Programs, and Debian packages, that tests alone use; without them those tests are skipped and name the program."""


def install_programs() -> None:
    """Install what is missing of them, as root where there is apt; what fails is reported by the skipped tests."""
    packages = [program for program in PROGRAMS if not shutil.which(program)]
    if not packages or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        subprocess.run(
            ["apt-get", "-qq", *arguments],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )


def alive(pid: int) -> bool:
    """Whether a test run may have this process id: some Python has it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith(("py", "Py"))
    except ProcessLookupError:
        return False  # it has ended since
    except FileNotFoundError:
        return not Path("/proc/self/comm").exists()  # Linux alone has it; elsewhere the id has to do


def killed_runs(docker: Docker) -> list[str]:
    """Names of the sandboxes of test runs (`test-…-PROCESS`) whose process is gone."""
    names: set[str] = set()
    for listing in (("ps", "--all"), ("network", "ls"), ("volume", "ls")):
        shown = docker.run(*listing, "--filter", f"label={LABEL}", "--format", f'{{{{.Label "{LABEL}"}}}}')
        names.update(name for name in shown.split() if name.startswith("test-"))
    return sorted(name for name in names if (pid := name.rpartition("-")[2]).isdigit() and not alive(int(pid)))


def remove_leftovers() -> None:
    """Remove the sandboxes of killed runs, and name them."""
    try:
        for name in killed_runs(Docker()):
            print(f"tests: removing the sandbox {name} of a run that was killed")
            ContainerParts(Instance(name=name, home=Path(os.devnull))).reset()
    except PartError as error:
        print(f"tests: leftovers of killed runs stay: {error}")


def main() -> None:
    """Do all of it."""
    install_programs()
    remove_leftovers()
    # Without Docker the tests that need it name it.
    subprocess.run([sys.executable, "-m", "sandbox", "images"], check=False)


if __name__ == "__main__":
    main()
