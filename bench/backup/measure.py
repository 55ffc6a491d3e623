"""Running one command and measuring it: wall time, CPU of everybody who worked for it, memory, disk.

- CPU of the tool is the kernel's own account (`wait4`) of the process and of every descendant that was waited for.
- CPU of a server is read from /proc before and after; a PostgreSQL postmaster accounts for the backends that ended.
- Memory is the summed PSS of the process tree, sampled; processes named `postgres` are left out.
- What else the machine did meanwhile is the rest of /proc/stat, so that a run beside other work shows itself.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
MEMORY_SECONDS = 0.1
DISK_SECONDS = 0.5
SERVER_NAME = "postgres"


class CommandFailedError(Exception):
    """The measured command failed; the message is its last line on stderr."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Where and with what a command runs.

    `environment` is all of it; nothing is inherited. `spool` is the folder whose size is watched, `servers` the process
    ids of those that work for the command without being its children. Stdout goes to `output`, stderr to `errors`.
    """

    environment: Mapping[str, str]
    spool: Path
    servers: Mapping[str, int]
    log: Path
    folder: Path

    @property
    def output(self) -> Path:
        """What it printed."""
        return self.log.with_suffix(".out")

    @property
    def errors(self) -> Path:
        """What it complained of."""
        return self.log.with_suffix(".err")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One measured run. Seconds and bytes. `cpu` is the tool's tree, `servers` the CPU seconds of each server."""

    wall: float
    cpu: float
    servers: dict[str, float]
    foreign: float
    """CPU seconds of the machine that belong to nobody here: kernel threads, and other work."""
    stolen: float
    """CPU seconds that the hypervisor gave to others."""
    sampler: float
    """CPU seconds of the measuring itself."""
    peak_memory: int
    peak_spool: int


@dataclass
class _Sampler:
    root: int
    spool: Path
    memory: int = 0
    disk: int = 0
    cpu: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        next_disk = 0.0
        while not self.done.wait(MEMORY_SECONDS):
            self.memory = max(self.memory, sum(map(_pss, _tree(self.root))))
            if time.monotonic() >= next_disk:
                self.disk = max(self.disk, disk_bytes(self.spool))
                next_disk = time.monotonic() + DISK_SECONDS
        self.cpu = time.thread_time()


def measure(line: str, command: Command) -> Sample:
    """Run `line` by bash (`pipefail`), as a person would type it, and measure it to its end.

    Raises:
        CommandFailedError: it ended with another code than 0.
    """
    before = {name: server_cpu(pid) for name, pid in command.servers.items()}
    busy, stolen, own = *_machine(), _own()
    with command.output.open("wb") as output, command.errors.open("wb") as errors:
        begun = time.monotonic()
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", line],
            env=dict(command.environment),
            cwd=command.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        sampler = _Sampler(root=process.pid, spool=command.spool)
        thread = threading.Thread(target=sampler.run, daemon=True)
        thread.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # an interrupt: what was started must not go on working
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            raise
        finally:
            wall = time.monotonic() - begun
            sampler.done.set()
            thread.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    now_busy, now_stolen = _machine()
    servers = {name: max(0.0, server_cpu(pid) - before[name]) for name, pid in command.servers.items()}
    if process.returncode != 0:
        lines = [line.strip() for line in command.errors.read_text(errors="replace").splitlines() if line.strip()]
        raise CommandFailedError(f"exit {process.returncode}: {lines[-1][:300] if lines else 'no message'}")
    cpu = usage.ru_utime + usage.ru_stime
    return Sample(
        wall=wall,
        cpu=cpu,
        servers=servers,
        foreign=max(0.0, now_busy - busy - cpu - sum(servers.values()) - (_own() - own)),
        stolen=now_stolen - stolen,
        sampler=sampler.cpu,
        peak_memory=sampler.memory,
        peak_spool=sampler.disk,
    )


def server_cpu(pid: int) -> float:
    """Return the CPU seconds of a server: its own, its living children's, and those of children that ended."""
    total = 0
    for process in (pid, *_children(pid)):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15] if process == pid else fields[11:13]))
    return total / TICK


def disk_bytes(folder: Path) -> int:
    """Return the bytes that the files below `folder` occupy on the disk."""
    total = 0
    for path in _files(folder):
        with contextlib.suppress(OSError):
            total += path.stat().st_blocks * 512
    return total


def file_bytes(folder: Path) -> int:
    """Return the bytes that the files below `folder` hold."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (Path(where) / name for name in names)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def _tree(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_text().strip() == SERVER_NAME:
            return
        yield pid
    for child in _children(pid):
        yield from _tree(child)


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


def _machine() -> tuple[float, float]:
    """Return the CPU seconds that the machine was busy, and those that were stolen from it, since its start."""
    fields = [int(value) / TICK for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    user, nice, system, _idle, _wait, hard, soft, stolen = fields[:8]
    return user + nice + system + hard + soft, stolen


def _own() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
