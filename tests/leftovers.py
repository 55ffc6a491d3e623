"""Sandboxes of test runs that were killed: whose each is, and which are over.

A process id alone says little: several containers may share one Docker and have processes of the same ids, and an id
comes again. So each test process labels what it makes with the boot, the PID namespace, its id and its start time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sandbox.parts.base import PartError
from sandbox.parts.containers import ContainerParts
from sandbox.parts.docker import Docker
from sandbox.parts.instance import LABEL, OWNER_LABEL, Instance

OWNER = "ANCLA_SANDBOX_OWNER"
_LISTINGS = (("ps", "--all"), ("network", "ls"), ("volume", "ls"))


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process, told from every other one that there is or was. Where there is no /proc, only by its id."""

    boot: str
    namespace: str
    pid: int
    start: str

    def __str__(self) -> str:
        return f"{self.boot}/{self.namespace}/{self.pid}/{self.start}"

    @staticmethod
    def parse(text: str) -> Process:
        """Read it from a label.

        Raises:
            ValueError: it is not one.
        """
        boot, namespace, pid, start = text.split("/")
        return Process(boot=boot, namespace=namespace, pid=int(pid), start=start)


def process(pid: int) -> Process | None:
    """Return the process of this id in this PID namespace; None when there is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # somebody else's
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink()).removeprefix("pid:[").removesuffix("]")
    except OSError:
        return Process(boot="unknown", namespace="unknown", pid=pid, start="unknown")
    try:
        # The name of the program is in brackets and may hold spaces; the start time is the 22nd field.
        start = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return None  # it has ended since
    return Process(boot=boot, namespace=namespace, pid=pid, start=start)


def owned() -> dict[str, str]:
    """Return the variable by which all that a sandbox makes is labelled as this process's."""
    return {OWNER: str(process(os.getpid()))}


def is_over(owner: Process, *, local: bool) -> bool:
    """Say whether the process has ended for certain. `local`: this computer's kernel is that of its containers."""
    me = process(os.getpid())
    assert me is not None
    if owner.boot != me.boot:
        return local  # the computer was started again since
    return owner.namespace == me.namespace and process(owner.pid) != owner


def _is_local(docker: Docker) -> bool:
    host = docker.run("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
    return host.startswith("unix:")


def owners(docker: Docker) -> dict[str, Process | None]:
    """Return the sandboxes of test runs (`test-…`) by name, each with its process. None: it has no (valid) label."""
    found: dict[str, Process | None] = {}
    for listing in _LISTINGS:
        form = f'{{{{.Label "{LABEL}"}}}} {{{{.Label "{OWNER_LABEL}"}}}}'
        for line in docker.run(*listing, "--filter", f"label={LABEL}", "--format", form).splitlines():
            name, _, label = line.partition(" ")
            if name.startswith("test-"):
                try:
                    found[name] = found.get(name) or Process.parse(label)
                except ValueError:
                    found.setdefault(name, None)
    return found


def killed_runs(docker: Docker) -> list[str]:
    """Name the sandboxes of test runs whose process is over."""
    local = _is_local(docker)
    return sorted(name for name, owner in owners(docker).items() if owner and is_over(owner, local=local))


def remove_leftovers() -> None:
    """Remove the sandboxes of killed runs, and name them."""
    try:
        for name in killed_runs(Docker()):
            print(f"tests: removing the sandbox {name} of a run that was killed")
            ContainerParts(Instance(name=name, home=Path(os.devnull))).reset()
    except PartError as error:
        print(f"tests: leftovers of killed runs stay: {error}")
