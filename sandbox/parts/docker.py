"""A small typed front to the `docker` command: what the parts need of it, and errors as one line.

The command line rather than an SDK: it follows contexts and `DOCKER_HOST`, builds images, and takes secrets on stdin.
Nothing secret is ever an argument: it goes in through `put` (a tar on stdin) or `execute(..., stdin=...)`.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sandbox.parts.base import PartError

COMMAND_SECONDS = 180
"""Seconds that a command may take by default. A machine whose disk is busy takes long to make a container."""
EXEC_SECONDS = 60
PROBE_SECONDS = 15
STOP_SECONDS = 20

_ABSENT = re.compile(r"no such (container|object|network|volume|image)|network \S+ not found", re.IGNORECASE)
"""Docker's own words for "it is not there", by all versions since 20.10. Nothing else means that."""


class AbsentError(PartError):
    """Docker says that the thing is not there. Any other failure means that it could not be asked."""


Program = Callable[[list[str], bytes | None, float], "subprocess.CompletedProcess[bytes]"]


def _spawn(command: list[str], stdin: bytes | None, timeout: float) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        check=False,
        timeout=timeout,
    )


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to place in a container. `mode` is its permission bits, `owner` a numeric uid and gid."""

    path: str
    text: str
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)


def archive(files: Iterable[File]) -> bytes:
    """Pack files into a tar that `docker cp - container:/` unpacks; parent folders are made as needed."""
    buffer = io.BytesIO()
    now = int(time.time())
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for file in files:
            data = file.text.encode()
            info = tarfile.TarInfo(file.path.lstrip("/"))
            info.size, info.mode, info.mtime = len(data), file.mode, now
            info.uid, info.gid = file.owner
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class Docker:
    """Runs `docker`. Every failure is a `PartError` with Docker's own last line. `program` runs a command line."""

    def __init__(self, program: Program = _spawn) -> None:
        self._program = program

    def run(
        self, *arguments: str, stdin: bytes | None = None, check: bool = True, timeout: float = COMMAND_SECONDS
    ) -> str:
        """Run `docker ARGUMENTS` and return what it printed, stripped.

        Raises:
            AbsentError: (with `check`) Docker says that what it was asked about is not there.
            PartError: docker is missing, does not answer in `timeout` seconds, or (with `check`) fails.
        """
        return self._output(*arguments, stdin=stdin, check=check, timeout=timeout).decode(errors="replace").strip()

    def _output(
        self, *arguments: str, stdin: bytes | None = None, check: bool = True, timeout: float = COMMAND_SECONDS
    ) -> bytes:
        try:
            done = self._program(["docker", *arguments], stdin, timeout)
        except FileNotFoundError:
            raise PartError("docker: command not found; install Docker and start its daemon") from None
        except subprocess.TimeoutExpired:
            raise PartError(f"docker {arguments[0]}: no end after {timeout:g} s") from None
        if check and done.returncode != 0:
            text = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise (AbsentError if _ABSENT.search(text) else PartError)(
                f"docker {arguments[0]}: {_reason(text) or f'exit code {done.returncode}'}"
            )
        return done.stdout

    def ping(self) -> None:
        """Raise `PartError` in one clear line when no daemon answers."""
        if shutil.which("docker") is None:
            raise PartError("docker: command not found; install Docker and start its daemon")
        try:
            self.run("version", "--format", "{{.Server.Version}}", timeout=20)
        except PartError as error:
            raise PartError(f"{error}; start the Docker daemon, or point DOCKER_HOST at one") from None

    def names(self, kind: str, label: str, *, everything: bool = True) -> set[str]:
        """Names of the labelled things of a kind: container (stopped ones too with `everything`), network or volume."""
        if kind == "container":
            options = ("ps", "--format", "{{.Names}}", *(("--all",) if everything else ()))
        else:
            options = (kind, "ls", "--format", "{{.Name}}")
        return set(self.run(*options, "--filter", f"label={label}").split())

    def inspect(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return the description of a thing, or None where Docker says that there is no such thing."""
        try:
            found: list[dict[str, Any]] = json.loads(self.run("inspect", "--type", kind, name))
        except AbsentError:
            return None
        return found[0]

    def running(self, name: str) -> bool:
        """Return True if the container runs."""
        found = self.inspect("container", name)
        return found is not None and bool(found["State"]["Running"])

    def start(self, name: str) -> None:
        """Start a container; one that runs stays as it is."""
        self.run("start", name)

    def stop(self, name: str, *, seconds: int = STOP_SECONDS) -> None:
        """Stop a container if it is there; the restart policy learns that it is meant."""
        with suppress(AbsentError):
            self.run("stop", "--time", str(seconds), name, timeout=seconds + COMMAND_SECONDS)

    def remove(self, name: str) -> None:
        """Remove a container, its anonymous volumes too, if it is there.

        Raises:
            PartError: it may still be there.
        """
        try:
            self.run("rm", "--force", "--volumes", name)
        except AbsentError:
            return
        except PartError as error:
            if "already in progress" not in str(error):
                raise
            eventually(
                lambda: self.inspect("container", name) is None, what=f"removal of {name}", seconds=COMMAND_SECONDS
            )

    def put(self, name: str, files: Iterable[File]) -> None:
        """Place files in a container, running or not."""
        self.run("cp", "-", f"{name}:/", stdin=archive(files))

    def get(self, name: str, folder: str) -> dict[str, str]:
        """Return the files directly in a folder of a container by name; none when there is no such folder."""
        try:
            packed = self._output("cp", f"{name}:{folder}/.", "-")
        except PartError as error:
            if "could not find the file" in str(error).lower():
                return {}
            raise
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            files = [member for member in tar if member.isfile()]
            return {file.name.removeprefix("./"): _text(tar, file) for file in files}

    def execute(
        self,
        name: str,
        *command: str,
        stdin: str | None = None,
        user: str | None = None,
        check: bool = True,
        timeout: float = EXEC_SECONDS,
    ) -> str:
        """Run a command in a running container and return what it printed."""
        options = (*(("--interactive",) if stdin is not None else ()), *(("--user", user) if user else ()))
        data = None if stdin is None else stdin.encode()
        return self.run("exec", *options, name, *command, stdin=data, check=check, timeout=timeout)

    def probe(self, name: str, *command: str) -> bool:
        """Return True if a command in a container succeeds within `PROBE_SECONDS`.

        An exec into a container that has just started may hang for ever: that is no, and the caller asks again.
        """
        try:
            self.execute(name, *command, timeout=PROBE_SECONDS)
        except PartError:
            return False
        return True

    def ensure_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Create a volume if it is not there."""
        self.run("volume", "create", *label_options(labels), name)

    def remove_volume(self, name: str) -> None:
        """Remove a volume with its data if it is there.

        Raises:
            PartError: it may still be there.
        """
        with suppress(AbsentError):
            self.run("volume", "rm", "--force", name)

    def remove_network(self, name: str) -> None:
        """Remove a network if it is there.

        Raises:
            PartError: it may still be there, since somebody is on it, say.
        """
        with suppress(AbsentError):
            self.run("network", "rm", name)


def _reason(text: str) -> str:
    """Return the line that says most: the daemon's, which the client may have put others around, or the last."""
    lines = text.splitlines() or [""]
    return next((line for line in lines if "Error response from daemon" in line), lines[-1])


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = tar.extractfile(member)
    return file.read().decode(errors="replace") if file else ""


def label_options(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the options of `docker create` and its kin for these labels."""
    return tuple(part for key, value in labels.items() for part in ("--label", f"{key}={value}"))


def eventually(check: Callable[[], bool], *, what: str, seconds: float, pause: float = 0.1) -> None:
    """Call `check` until it is true.

    Raises:
        PartError: it was not true within `seconds`.
    """
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise PartError(f"{what}: not ready after {seconds:g} s")
        time.sleep(pause)
