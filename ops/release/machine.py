"""Change the droplet for `apply`: files, containers, Nginx, and requests on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from ops.core.errors import BusyError, ReleaseError
from ops.core.files import atomic_write, locked
from ops.release.compose import PROJECT
from ops.release.routes import STATIC
from ops.stack.outputs import CONVERGE_AGAIN

PULL_SECONDS = 600
UP_SECONDS = 180


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Paths of a release. Only root may read `app`; the routes are files that the site of `host/` includes."""

    app: Path = Path("/opt/ancla/app")
    nginx: Path = Path("/etc/nginx/ancla.d")
    static: Path = Path(STATIC)
    lock: Path = Path("/run/lock/ancla-release.lock")
    http: str = "http://127.0.0.1"

    @property
    def files(self) -> dict[str, tuple[Path, int]]:
        """Return path and mode of each file of a release, by its name in `former`."""
        return {
            "compose.yaml": (self.app / "compose.yaml", 0o600),
            ".env": (self.app / ".env", 0o600),
            "ca.crt": (self.app / "ca.crt", 0o644),  # read by containers that do not run as root
            "upstreams.conf": (self.nginx / "app.upstreams.conf", 0o644),
            "routes.conf": (self.nginx / "app.routes.conf", 0o644),
        }

    @property
    def former(self) -> Path:
        """Return the folder with the files of the last proven release."""
        return self.app / "former"

    @property
    def record(self) -> Path:
        """Return the file that records the current release: written last, removed first."""
        return self.app / "release.json"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The droplet; tests replace it by a class with the same methods."""

    layout: Layout = field(default_factory=Layout)

    @contextmanager
    def locked(self, who: str) -> Generator[None]:
        """Hold the release lock. The kernel releases it however the process ends; the text in it is for people.

        Raises:
            ReleaseError: another release is in progress.
        """
        path = self.layout.lock
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            try:
                held.enter_context(locked(path, wait=False))
            except BusyError:
                holder = path.read_text(errors="replace").strip() or "somebody"
                raise ReleaseError(f"another release is in progress ({holder}); try again when it has ended") from None
            since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
            path.write_text(f"{who}, pid {os.getpid()}, since {since}\n")  # the lock is on the file, not its content
            yield

    def images(self) -> set[str]:
        """Return the images on the droplet, as `repository@digest`."""
        listed = self._docker("image", "ls", "--digests", "--format", "{{.Repository}}@{{.Digest}}")
        return set(listed.stdout.split())

    def pull(self, image: str, login: SecretStr) -> None:
        """Pull an image by digest with a login that is kept in memory (/run) only for the duration.

        Raises:
            ReleaseError: it cannot be pulled.
        """
        with tempfile.TemporaryDirectory(prefix="ancla-login-", dir="/run") as folder:  # mode 0700
            Path(folder, "config.json").write_text(login.get_secret_value())
            done = self._docker("pull", "--quiet", image, environment={"DOCKER_CONFIG": folder}, timeout=PULL_SECONDS)
        if done.returncode != 0:
            raise ReleaseError(f"{image}: cannot be pulled: {last_line(done.stderr)}")

    def user(self, image: str) -> str:
        """Return the user that an image on the droplet runs as, empty for root by default.

        Raises:
            ReleaseError: Docker cannot tell.
        """
        done = self._docker("image", "inspect", "--format", "{{.Config.User}}", image)
        if done.returncode != 0:
            raise ReleaseError(f"{image}: cannot be inspected: {last_line(done.stderr)}")
        return done.stdout.strip()

    def extract(self, image: str, folder: str, targets: Sequence[Path]) -> None:
        """Copy a folder of an image to folders here, so that Nginx may read them.

        Raises:
            ReleaseError: the image has no such folder, or the disk is full.
        """
        # It never runs: the command is one that Docker asks for where the image has none.
        created = self._docker("create", image, "none")
        container = created.stdout.strip()
        if created.returncode != 0:
            raise ReleaseError(f"{image}: cannot be opened: {last_line(created.stderr)}")
        try:
            for target in targets:
                target.mkdir(parents=True, exist_ok=True)
                copied = self._docker("cp", f"{container}:{folder}/.", str(target), timeout=PULL_SECONDS)
                if copied.returncode != 0:
                    raise ReleaseError(f"{image}: {folder}: cannot be copied: {last_line(copied.stderr)}")
                self._run(["chmod", "-R", "u=rwX,go=rX", str(target)])
        finally:
            self._docker("rm", container)

    def remove_images(self, images: Sequence[str]) -> None:
        """Remove images; those that a container still uses stay."""
        if images:
            self._docker("image", "rm", *images)

    def up(self) -> None:
        """Start the services of compose.yaml, stop the others, and wait until every container runs.

        Raises:
            ReleaseError: a container does not start, or exits.
        """
        done = self._compose("up", "--detach", "--remove-orphans", "--pull", "never", "--wait", "--wait-timeout", "120")
        if done.returncode != 0:
            raise ReleaseError(f"docker compose up: {last_line(done.stderr)}")

    def down(self) -> None:
        """Stop and remove the containers of the project; images and volumes stay."""
        self._compose("down", "--remove-orphans")

    def running(self) -> dict[str, str]:
        """Return `running`, `restarting`, `exited`, … by service; and `unhealthy`, if the image has a health check."""
        done = self._compose("ps", "--all", "--format", "json")
        found: dict[str, str] = {}
        for line in done.stdout.splitlines():
            parsed: Any = json.loads(line)
            for container in parsed if isinstance(parsed, list) else [parsed]:  # one array before compose 2.21
                unhealthy = container.get("Health") == "unhealthy"
                found[container["Service"]] = "unhealthy" if unhealthy else container["State"]
        return found

    def restarts(self, service: str) -> int:
        """Return how often Docker has restarted the service's container."""
        container = self._compose("ps", "--all", "--quiet", service).stdout.split()
        done = self._docker("inspect", "--format", "{{.RestartCount}}", *container[:1])
        return int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdecimal() else 0

    def logs(self, service: str, lines: int = 20) -> list[str]:
        """Return the last log lines of a service."""
        done = self._compose("logs", "--no-color", "--no-log-prefix", "--tail", str(lines), service)
        return (done.stdout + done.stderr).splitlines()[-lines:]

    def reload_nginx(self) -> None:
        """Check Nginx's files, then reload it.

        Raises:
            ReleaseError: Nginx refuses them, and keeps using the old ones.
        """
        judged = self._run(["nginx", "-t", "-q"])
        if judged.returncode != 0:
            raise ReleaseError(f"Nginx refuses the routes: {last_line(judged.stderr)}")
        done = self._run(["systemctl", "reload", "nginx"])
        if done.returncode != 0:
            raise ReleaseError(f"Nginx does not reload: {last_line(done.stderr)}")

    def get(self, url: str, host: str | None = None, timeout: float = 5) -> int | str:
        """Return the status of a GET, or the reason of its failure. Redirects are not followed."""
        try:
            headers = {"Host": host} if host else {}
            with httpx.Client(trust_env=False, timeout=timeout, verify=False) as client:  # noqa: S501 -- loopback
                return client.get(url, headers=headers).status_code
        except httpx.ConnectError:
            return "connection refused"
        except httpx.TimeoutException:
            return f"no answer in {timeout:g} s"
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__

    def connect(self, service: str, port: int, timeout: float = 5) -> str | None:
        """Connect to a port of a container, by the container's own address; return the problem, or None.

        The port that is published on loopback is Docker's: it takes a connection whether the service listens or not.
        """
        container = self._compose("ps", "--quiet", service).stdout.split()
        address = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
        found = self._docker("inspect", "--format", address, *container[:1]).stdout.split() if container else []
        if not found:
            return "no container"
        try:
            socket.create_connection((found[0], port), timeout=timeout).close()
        except OSError as error:
            return f"no connection: {error.strerror or error}"
        return None

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def _compose(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        compose = ["compose", "--project-name", PROJECT, "--project-directory", str(self.layout.app)]
        return self._docker(*compose, *arguments, timeout=UP_SECONDS)

    def _docker(
        self, *arguments: str, environment: dict[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        return self._run(["docker", *arguments], environment=environment, timeout=timeout)

    def _run(
        self, command: Sequence[str], environment: dict[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        # A clean environment: compose prefers variables of its environment to those in .env.
        clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        clean.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        try:
            return subprocess.run(
                command,
                env=clean | (environment or {}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ReleaseError(f"{' '.join(command[:2])} did not end within {timeout:g} s") from None
        except FileNotFoundError:
            raise ReleaseError(f"{command[0]}: missing here; on a workstation run {CONVERGE_AGAIN}") from None


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file completely or not at all, with its mode set before the first byte.

    Raises:
        ReleaseError: it cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_write(path, content, mode=mode)
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be written: {error.strerror}") from None


def last_line(text: str) -> str:
    """Return the last line that is not blank."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
