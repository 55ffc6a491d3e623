"""Remove the sandboxes of test runs that were killed: `python -m tests.leftovers`.

Their containers start again with Docker, and their networks keep ranges that the next run may want.
"""

from __future__ import annotations

import os
from pathlib import Path

from sandbox.parts.base import PartError
from sandbox.parts.containers import ContainerParts
from sandbox.parts.docker import Docker
from sandbox.parts.instance import LABEL, Instance


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


def main() -> None:
    """Remove them, and say which."""
    try:
        for name in killed_runs(Docker()):
            print(f"tests: removing the sandbox {name} of a run that was killed")
            ContainerParts(Instance(name=name, home=Path(os.devnull))).reset()
    except PartError as error:
        print(f"tests: leftovers of killed runs stay: {error}")


if __name__ == "__main__":
    main()
