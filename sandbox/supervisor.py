"""Starts and stops one sandbox: its containers, and the API as a detached process with pid file and log in its home."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import httpx

from sandbox.parts.containers import ContainerParts
from sandbox.parts.instance import Instance, instance_name, write_private
from sandbox.store import NewerStateError

DEFAULT_PORT = 8470
READY_SECONDS = 300
END_SECONDS = 30
OWN_FILES = (
    "addresses.json", "ca-bundle.pem", "instance.json", "journal.jsonl", "serve.lock", "serve.log", "serve.pid",
    "state.db", "state.db-shm", "state.db-wal", "token",
)  # fmt: skip


class SandboxError(Exception):
    """What a person asked for cannot be done; the message is one line saying what and what to do."""


class NotRunningError(SandboxError):
    """The API of this home does not answer."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The API's admin answer: parsed JSON."""

    status: int
    body: dict[str, Any]


def open_instance(home: Path, name: str | None, port: int | None) -> Instance:
    """The instance of a home folder: as it was last started, unless a name or port is given.

    Raises:
        SandboxError: the home belongs to an instance of another name, or cannot be written.
    """
    home = home.expanduser().resolve()
    kept = _read_json(home / "instance.json")
    if name and kept and kept["name"] != name:
        raise SandboxError(f"{home} is the home of the sandbox {kept['name']}, not {name}; use another --home")
    return Instance(
        name=name or kept.get("name") or instance_name(home), home=home, port=port or kept.get("port") or DEFAULT_PORT
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise SandboxError(f"{path} cannot be read: {error}") from None


@cache
def code_digest() -> str:
    """Return a hash of the sandbox's own code: an API of an earlier version ends at the next start."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*")):
        if file.suffix in {".py", ".json"}:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def quiet(_: str) -> None:
    """Take a line of progress and say nothing."""


class Supervisor:
    """One sandbox, from outside its API. `say` gets one line for each step that takes long."""

    def __init__(self, instance: Instance, say: Callable[[str], None] = quiet) -> None:
        self.instance, self.say = instance, say
        self.parts = ContainerParts(instance, say)

    @property
    def home(self) -> Path:
        """The folder of its state."""
        return self.instance.home

    @property
    def token(self) -> str:
        """The only token the API takes; made on first use."""
        file = self.home / "token"
        if not file.exists():
            write_private(file, f"sandbox_v1_{secrets.token_hex(32)}")
        return file.read_text(encoding="utf-8").strip()

    @property
    def bundle(self) -> Path:
        """This machine's trusted certificates and the sandbox's authority."""
        return self.home / "ca-bundle.pem"

    # The API's process.

    def ask(self, path: str, *, timeout: float = 60) -> Answer:
        """GET an admin path.

        Raises:
            NotRunningError: nothing answers, or something else does.
        """
        if not (self.home / "token").exists():
            raise NotRunningError(f"no sandbox was ever started in {self.home}: python -m sandbox start")
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            with httpx.Client(trust_env=False, timeout=timeout) as client:
                answer = client.get(f"{self.instance.base_url}/_sandbox/{path}", headers=headers)
            body = answer.json()
        except (httpx.HTTPError, ValueError):
            raise NotRunningError(f"the sandbox {self.instance.name} is not running: python -m sandbox start") from None
        if answer.status_code == http.HTTPStatus.UNAUTHORIZED:
            raise NotRunningError(
                f"port {self.instance.port} is another sandbox's; give its --home, or start this one with --port-base"
            )
        return Answer(status=answer.status_code, body=body)

    def running_pid(self) -> int | None:
        """The API's process, if it is alive: it holds a lock on its pid file as long as it lives."""
        try:
            with (self.home / "serve.pid").open(encoding="ascii") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(file.read())
        except (OSError, ValueError):
            pass
        return None

    def start(self) -> None:
        """Bring everything up; quick when it is up already.

        Raises:
            SandboxError: a port is taken, or the API does not come up.
            PartError: Docker or a part refuses.
        """
        self.parts.docker.ping()
        self._make_home()
        with self._lock():
            kept = _read_json(self.home / "instance.json")
            moved = kept.get("port") not in (None, self.instance.port)
            if moved or kept.get("code") != code_digest():
                self._end_api()
            alive = self.running_pid() is not None
            if not alive:
                self._check_ports(moved=moved)
            self._write_settings()
            images = self.parts.images.ensure()
            self.say(f"images are there: {', '.join(images.values())}")
            made = self.parts.start()
            if made:
                self.parts.images.remove_old()
            if alive and made:
                self.say("parts were missing: the API starts again to set them up")
                self._end_api()
                alive = False
            self._wait_ready(None if alive else self._spawn())

    def _make_home(self) -> None:
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.home.chmod(0o700)
        except OSError as error:
            raise SandboxError(f"home {self.home}: {error.strerror}") from None

    def _write_settings(self) -> None:
        kept = {"name": self.instance.name, "port": self.instance.port, "code": code_digest()}
        write_private(self.home / "instance.json", json.dumps(kept))
        write_private(self.bundle, self.parts.authority.bundle())

    def _lock(self) -> IO[str]:
        """Two `start` at once: the second waits, and finds everything done."""
        # Closed by the caller's `with`, and the lock with it.
        file = (self.home / "serve.lock").open("w", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def _check_ports(self, *, moved: bool) -> None:
        """Check that the ports are free, or ours already; `moved` from others, none of them is ours."""
        running = set[str]() if moved else self.parts.docker.names("container", self.instance.label, everything=False)
        wanted = {
            self.instance.port: None,
            self.instance.proxy_port: self.parts.proxy.container,
            self.instance.page_port: self.parts.edge.container,
        }
        for port, holder in wanted.items():
            if holder in running:
                continue
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise SandboxError(f"port {port} on 127.0.0.1: {error.strerror}") from None
                    raise SandboxError(
                        f"port {port} on 127.0.0.1 is taken; stop what listens there, or choose three others in a row "
                        f"with --port-base or ANCLA_SANDBOX_PORT, such as {self.instance.port + 100}"
                    ) from None

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "sandbox", "serve", "--home", str(self.home)]
        log = os.open(self.home / "serve.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, close_fds=True,
                cwd=Path(__file__).parent.parent,
            )  # fmt: skip
        finally:
            os.close(log)

    def _wait_ready(self, process: subprocess.Popen[bytes] | None) -> None:
        end = time.monotonic() + READY_SECONDS
        state, problems = "starting", {}
        while time.monotonic() < end:
            try:
                health = self.ask("health", timeout=5).body
                state, problems = str(health.get("status")), health.get("problems") or {}
            except NotRunningError:
                ended = self.running_pid() is None if process is None else process.poll() is not None
                if ended:
                    raise SandboxError(
                        f"the API ended: {self._last_log_line()} (log: {self.home / 'serve.log'})"
                    ) from None
            if state == "ready":
                for what, reason in problems.items():
                    self.say(f"problem: {what}: {reason}")
                return
            if state.startswith("failed"):
                raise SandboxError(f"the API {state} (log: {self.home / 'serve.log'})")
            time.sleep(0.1)
        raise SandboxError(f"the API is not ready after {READY_SECONDS} s: {state} (log: {self.home / 'serve.log'})")

    def _last_log_line(self) -> str:
        try:
            lines = (self.home / "serve.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "no word"

    def _end_api(self) -> None:
        pid = self.running_pid()
        if pid is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                break
            end = time.monotonic() + END_SECONDS
            while self.running_pid() == pid and time.monotonic() < end:
                time.sleep(0.05)
            if self.running_pid() != pid:
                break

    def stop(self) -> None:
        """End the API and every container; data stays."""
        self._end_api()
        self.parts.stop()

    def reset(self) -> None:
        """Remove everything of this instance: containers, networks, volumes, and its own files in the home.

        Raises:
            PartError: something could not be removed. The files stay, so that it can be tried again.
        """
        self._end_api()
        self.parts.reset()
        for name in OWN_FILES:
            (self.home / name).unlink(missing_ok=True)

    def environment(self) -> dict[str, str]:
        """Variables that make official clients talk to this sandbox.

        Raises:
            NotRunningError: the keys come from the API.
        """
        spaces = self.ask("bootstrap").body["spaces"]
        proxy = f"http://127.0.0.1:{self.instance.proxy_port}"
        direct = "127.0.0.1,localhost"
        bundle = str(self.bundle)
        return {
            "DIGITALOCEAN_TOKEN": self.token,
            "DIGITALOCEAN_API_URL": self.instance.base_url,
            "SPACES_ACCESS_KEY_ID": spaces["access_key"],
            "SPACES_SECRET_ACCESS_KEY": spaces["secret_key"],
            # curl reads http_proxy in lower case alone.
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), direct),
            **dict.fromkeys(("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), bundle),
            "ANCLA_SANDBOX_NAME": self.instance.name,
            "ANCLA_SANDBOX_PAGE": f"http://127.0.0.1:{self.instance.page_port}",
            "ANCLA_SANDBOX_RESOLVER": self.instance.plan.infrastructure("resolver"),
            "ANCLA_SANDBOX_NAMESERVER": self.instance.plan.infrastructure("nameserver"),
        }

    def serve(self) -> None:
        """Run the API in this process until it is told to end."""
        # Here, not above: the other verbs need not wait for the API's imports.
        import uvicorn  # noqa: PLC0415

        from sandbox.api.app import create_app  # noqa: PLC0415

        self._make_home()
        with self._pid_file():
            self._write_settings()
            try:
                app = create_app(home=self.home, parts=self.parts, base_url=self.instance.base_url, token=self.token)
            except NewerStateError as error:
                raise SandboxError(str(error)) from None
            uvicorn.run(
                app, host="127.0.0.1", port=self.instance.port, http="httptools", log_level="warning", access_log=False
            )

    @contextlib.contextmanager
    def _pid_file(self) -> Generator[None, None, None]:
        """Hold the pid file locked; see `running_pid`."""
        # Appending: an API that runs already keeps its pid in the file.
        with (self.home / "serve.pid").open("a", encoding="ascii") as file:
            for _ in range(20):  # somebody who looks at the lock holds it for a moment
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.05)
            else:
                raise SandboxError(f"the API of {self.home} runs already")
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield
