"""The sandbox's API without parts, in this process, every answer held against the API description where that is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sandbox.api.app import create_app
from sandbox.api.context import load_operations
from sandbox.api.app import Router
from sandbox.parts.none import NoParts
from tests.sandbox import openapi

TOKEN = "sandbox-test-token"
BASE = "http://sandbox.test"
_ROUTER = Router(load_operations())


@dataclass
class Sandbox:
    """A running API: `get`, `post`, … return (status, body); answers are validated as they pass."""

    client: TestClient
    parts: NoParts
    home: Path
    description: openapi.Description | None
    validated: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, token: str = TOKEN) -> tuple[int, Any]:
        response = self.client.request(
            method, f"{BASE}{path}", json=body, headers={"authorization": f"Bearer {token}"}
        )
        answer = response.json() if response.content else None
        self.headers = dict(response.headers)
        found = _ROUTER.find(method, path.partition("?")[0])
        if found and self.description and response.status_code != 501:
            problems = self.description.problems(found[0].id, response.status_code, answer)
            assert not problems, "\n".join(problems)
            self.validated += 1
        return response.status_code, answer

    def get(self, path: str) -> Any:
        status, body = self.call("GET", path)
        assert status == 200, (path, status, body)
        return body

    def post(self, path: str, body: Any) -> Any:
        status, answer = self.call("POST", path, body)
        assert status in (200, 201, 202, 204), (path, status, answer)
        return answer

    def put(self, path: str, body: Any) -> Any:
        status, answer = self.call("PUT", path, body)
        assert status in (200, 201, 202, 204), (path, status, answer)
        return answer

    def delete(self, path: str, body: Any = None) -> None:
        status, answer = self.call("DELETE", path, body)
        assert status == 204, (path, status, answer)

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Make a call that must fail; return status and message."""
        status, answer = self.call(method, path, body)
        assert status >= 400, (path, status, answer)
        assert set(answer) == {"id", "message", "request_id"}
        return status, answer["message"]

    def until(self, look: Callable[[], bool], seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.01)

    def until_gone(self, path: str) -> None:
        self.until(lambda: self.call("GET", path)[0] == 404)

    def droplet(self, name: str = "web-1", **more: Any) -> dict[str, Any]:
        """Make a droplet and wait until it is active."""
        body = {"name": name, "size": "s-1vcpu-1gb", "image": "ubuntu-24-04-x64", "region": "nyc3", **more}
        number = self.post("/v2/droplets", body)["droplet"]["id"]
        self.until(lambda: self.get(f"/v2/droplets/{number}")["droplet"]["status"] == "active")
        return self.get(f"/v2/droplets/{number}")["droplet"]

    def cluster(self, name: str = "db", **more: Any) -> dict[str, Any]:
        """Make a PostgreSQL cluster and wait until it is online."""
        body = {"name": name, "engine": "pg", "version": "15", "size": "db-s-1vcpu-1gb", "region": "nyc3", "num_nodes": 1}
        ident = self.post("/v2/databases", body | more)["database"]["id"]
        self.until(lambda: self.get(f"/v2/databases/{ident}")["database"]["status"] == "online")
        return self.get(f"/v2/databases/{ident}")["database"]


@contextmanager
def running(home: Path, parts: NoParts) -> Iterator[Sandbox]:
    path = openapi.find()
    app = create_app(home=home, parts=parts, base_url=BASE, token=TOKEN)
    with TestClient(app, base_url=BASE) as client:
        sandbox = Sandbox(client, parts, home, openapi.load(path) if path else None)
        sandbox.until(lambda: client.get("/_sandbox/health").status_code == 200)
        yield sandbox


@pytest.fixture
def parts() -> NoParts:
    return NoParts()


@pytest.fixture
def sandbox(tmp_path: Path, parts: NoParts) -> Iterator[Sandbox]:
    with running(tmp_path / "home", parts) as sandbox:
        yield sandbox
