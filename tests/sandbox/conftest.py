"""The sandbox's API without parts, served on loopback; its answers are compared with the API description."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from sandbox.api.app import Router, create_app
from sandbox.api.context import load_operations
from sandbox.parts.none import NoParts
from sandbox.store import Store
from tests.sandbox import openapi

TOKEN = "sandbox-test-token"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDYdUPKOi4nR5wgC0gXGc0Pf4YbJp1cmUzUO2VJ3s2Na me"
_ROUTER = Router(load_operations())


@dataclass
class Sandbox:
    """A running API. Each call is authenticated, and its answer validated against the description."""

    url: str
    parts: NoParts
    home: Path
    store: Store
    description: openapi.Description = field(default_factory=openapi.load)
    validated: set[tuple[str, int, bytes]] = field(default_factory=set)
    headers: httpx.Headers = field(default_factory=httpx.Headers)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def call(self, method: str, path: str, body: Any = None, token: str = TOKEN) -> tuple[int, Any]:
        """Make a call; return status and body."""
        response = self.client.request(method, path, json=body, headers={"authorization": f"Bearer {token}"})
        answer = response.json() if response.content else None
        self.headers = response.headers
        found = _ROUTER.find(method, path.partition("?")[0])
        if found and found[0].id in self.description.operations and response.status_code != 501:
            key = (found[0].id, response.status_code, response.content)
            if key not in self.validated:
                problems = self.description.problems(found[0].id, response.status_code, answer)
                assert not problems, "\n".join(problems)
            self.validated.add(key)
        return response.status_code, answer

    def get(self, path: str) -> Any:
        status, body = self.call("GET", path)
        assert status == 200, (path, status, body)
        return body

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Make a call that changes something and must succeed."""
        status, answer = self.call(method, path, body)
        assert 200 <= status < 300, (method, path, status, answer)
        return answer

    def post(self, path: str, body: Any) -> Any:
        return self.send("POST", path, body)

    def put(self, path: str, body: Any) -> Any:
        return self.send("PUT", path, body)

    def delete(self, path: str, body: Any = None) -> None:
        assert self.send("DELETE", path, body) is None

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Make a call that must fail; return status and message."""
        status, answer = self.call(method, path, body)
        assert status >= 400, (path, status, answer)
        assert set(answer) == {"id", "message", "request_id"}
        return status, answer["message"]

    def until(self, look: Callable[[], bool], seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.01)

    def until_gone(self, path: str) -> None:
        self.until(lambda: self.call("GET", path)[0] == 404)

    def finished(self, action: dict[str, Any]) -> str:
        """Wait for an action; return how it ended."""
        path = f"/v2/actions/{action['id']}"
        self.until(lambda: self.get(path)["action"]["completed_at"] is not None)
        return self.get(path)["action"]["status"]

    def droplet(self, name: str = "web-1", **more: Any) -> dict[str, Any]:
        """Make a droplet and wait until it is active."""
        body = {"name": name, "size": "s-1vcpu-1gb", "image": "ubuntu-24-04-x64", "region": "nyc3", **more}
        number = self.post("/v2/droplets", body)["droplet"]["id"]
        self.until(lambda: self.get(f"/v2/droplets/{number}")["droplet"]["status"] == "active")
        return self.get(f"/v2/droplets/{number}")["droplet"]

    def act(self, droplet: dict[str, Any], kind: str, **more: Any) -> dict[str, Any]:
        """Do an action of a droplet to its end; return the droplet."""
        action = self.post(f"/v2/droplets/{droplet['id']}/actions", {"type": kind, **more})["action"]
        assert self.finished(action) == "completed"
        return self.get(f"/v2/droplets/{droplet['id']}")["droplet"]

    def cluster(self, name: str = "db", **more: Any) -> dict[str, Any]:
        """Make a PostgreSQL cluster and wait until it is online."""
        body = {
            "name": name,
            "engine": "pg",
            "version": "15",
            "size": "db-s-1vcpu-1gb",
            "region": "nyc3",
            "num_nodes": 1,
        }
        ident = self.post("/v2/databases", body | more)["database"]["id"]
        self.until(lambda: self.get(f"/v2/databases/{ident}")["database"]["status"] == "online")
        return self.get(f"/v2/databases/{ident}")["database"]


def _forbid_parts_under_the_lock(parts: NoParts, store: Store) -> None:
    """A part that hangs must not stop the other calls: whatever the tests do, none is used inside a transaction."""
    note = parts._note

    def checked(method: str, argument: Any) -> None:
        assert not store.held(), f"{method} was called while its caller held the account"
        note(method, argument)

    parts._note = checked


@contextmanager
def running(home: Path, parts: NoParts, *, wait: bool = True) -> Generator[Sandbox]:
    """Serve the API on a free port until the block ends."""
    app = create_app(home=home, parts=parts, base_url="http://api.sandbox.test", token=TOKEN)
    if isinstance(parts, NoParts):  # tests of real parts use this as well
        _forbid_parts_under_the_lock(parts, app.state.api.cloud.store)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, http="httptools", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    sandbox = Sandbox(f"http://127.0.0.1:{port}", parts, home, app.state.api.cloud.store)
    try:
        if wait:
            sandbox.until(lambda: sandbox.client.get("/_sandbox/health").status_code == 200)
        yield sandbox
    finally:
        sandbox.client.close()
        server.should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Sandbox]:
    """One sandbox for the many small cases of a module that leave nothing behind."""
    with running(tmp_path_factory.mktemp("shared") / "home", NoParts()) as sandbox:
        yield sandbox


@pytest.fixture
def parts() -> NoParts:
    return NoParts()


@pytest.fixture
def sandbox(tmp_path: Path, parts: NoParts) -> Generator[Sandbox]:
    with running(tmp_path / "home", parts) as sandbox:
        yield sandbox
