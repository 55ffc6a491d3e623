"""A small typed front to the `docker` command: what the parts need of it, and errors as one line.

The command line rather than an SDK: it follows contexts and `DOCKER_HOST`, builds images, and takes secrets on stdin.
Nothing secret is ever an argument: it goes in through `put` (a tar on stdin) or `execute(..., stdin=...)`.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.parts.base import PartError


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
    """Runs `docker`. Every failure is a `PartError` with Docker's own last line."""

    def run(self, *arguments: str, stdin: bytes | None = None, check: bool = True, timeout: float = 600) -> str:
        """Run `docker ARGUMENTS` and return what it printed, stripped.

        Raises:
            PartError: docker is missing, does not answer in `timeout` seconds, or (with `check`) fails.
        """
        try:
            done = subprocess.run(
                ["docker", *arguments],
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                check=False,
                timeout=timeout,
            )
        except FileNotFoundError:
            raise PartError("docker: command not found; install Docker and start its daemon") from None
        except subprocess.TimeoutExpired:
            raise PartError(f"docker {arguments[0]}: no end after {timeout:g} s") from None
        if check and done.returncode != 0:
            lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
            raise PartError(f"docker {arguments[0]}: {lines[-1] if lines else f'exit code {done.returncode}'}")
        return done.stdout.decode(errors="replace").strip()

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
        """What Docker knows of a thing, or None when there is no such thing."""
        text = self.run("inspect", "--type", kind, name, check=False)
        found: list[dict[str, Any]] = json.loads(text or "[]")
        return found[0] if found else None

    def running(self, name: str) -> bool:
        """Say whether the container runs."""
        return self.run("inspect", "--type", "container", "--format", "{{.State.Running}}", name, check=False) == "true"

    def create(self, name: str, image: str, options: Sequence[str], command: Sequence[str] = ()) -> None:
        """Create a container without starting it; one left by an earlier, interrupted try is replaced."""
        self.remove(name)
        self.run("create", "--name", name, *options, image, *command)

    def start(self, name: str) -> None:
        """Start a container; one that runs stays as it is."""
        self.run("start", name)

    def remove(self, name: str) -> None:
        """Remove a container, its anonymous volumes too, if it is there."""
        self.run("rm", "--force", "--volumes", name, check=False)

    def put(self, name: str, files: Iterable[File]) -> None:
        """Place files in a container, running or not."""
        self.run("cp", "-", f"{name}:/", stdin=archive(files))

    def execute(
        self, name: str, *command: str, stdin: str | None = None, user: str | None = None, check: bool = True
    ) -> str:
        """Run a command in a running container and return what it printed."""
        options = (*(("--interactive",) if stdin is not None else ()), *(("--user", user) if user else ()))
        return self.run("exec", *options, name, *command, stdin=None if stdin is None else stdin.encode(), check=check)

    def ensure_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Create a volume if it is not there."""
        self.run("volume", "create", *label_options(labels), name)

    def remove_volume(self, name: str) -> None:
        """Remove a volume if it is there."""
        self.run("volume", "rm", "--force", name, check=False)

    def remove_network(self, name: str) -> None:
        """Remove a network if it is there and nobody is on it."""
        self.run("network", "rm", name, check=False)


def label_options(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the options of `docker create` and its kin for these labels."""
    return tuple(part for key, value in labels.items() for part in ("--label", f"{key}={value}"))


def eventually(check: Any, *, what: str, seconds: float, pause: float = 0.1) -> None:
    """Call `check` until it is true.

    Raises:
        PartError: it was not true within `seconds`.
    """
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise PartError(f"{what}: not ready after {seconds:g} s")
        time.sleep(pause)
