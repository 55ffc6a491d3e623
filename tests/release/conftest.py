"""A stack's outputs, and a machine made of a temporary folder that does what it is told and remembers it."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from blueprint.outputs import EnvironmentOutputs, OutputSecrets
from ops.core.errors import ReleaseError
from ops.release.machine import Layout, Machine
from ops.release.plan import ReleasePlan, build_plan
from tests.kits.outputs import DATABASE, build_outputs

CANARY = "kanarienvogel'\"$x\\ &=/é"
PEM = "-----BEGIN KEY-----\nfirst-line-of-a-key\nsecond-line\n-----END KEY-----"
LOGIN = json.dumps({"auths": {"registry.digitalocean.com": {"auth": "LOGIN-CANARY"}}})


HEALTH = {"path": "/health"}
SERVICES: dict[str, dict[str, Any]] = {
    "web": {
        "image": "web:1.0.0",
        "port": 3000,
        "routes": [{"path": "/"}],
        "health": HEALTH,
        "environment": {"PRICE": "$$5", "HOST": "${edge.host}", "SPACES_KEY": "<${buckets.my-files.key}$$>"},
    },
    "api": {
        "image": "team/api:1.0.0",
        "port": 3001,
        "routes": [{"path": "/api"}],
        "health": HEALTH,
        "uses": ["database", "buckets.my-files"],
        "secrets": ["TOKEN", "KEY"],
    },
    "worker": {"image": "worker:2.0.0", "port": 3002},
    "jobs": {"image": "worker:2.0.0", "command": ["work", "$HOME"]},
}


def make_outputs(**changes: Any) -> EnvironmentOutputs:
    document = build_outputs(
        project="nextgentech",
        database=DATABASE
        | {"databases": ["app"], "pools": {"app": {"name": "app-pool", "database": "app"}}, "pool_port": 25061}
        | {"ca_certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
        buckets={
            "my-files": {
                "bucket": {"name": "assets", "region": "nyc3", "endpoint": "https://nyc3.digitaloceanspaces.com"},
                "public": True,
                "url": "https://assets.nyc3.cdn.digitaloceanspaces.com",
                "cdn_id": "c",
            }
        },
        registry={"name": "acme", "endpoint": "registry.digitalocean.com/acme"},
        services=SERVICES,
        secrets={"file": "secrets.json"},
    )
    return EnvironmentOutputs.model_validate(document | changes)


def make_secrets(key: str = PEM) -> OutputSecrets:
    return OutputSecrets.model_validate(
        {
            "deploy_key": "DEPLOY",
            "database_password": CANARY,
            "bucket_keys": {"my-files": {"access_key": "ACCESS", "secret_key": "SPACES-SECRET"}},
            "app": {"TOKEN": CANARY, "KEY": key, "UNUSED": "never"},
        }
    )


def make_plan(version: str = "1.0.0", *, login: str = LOGIN, key: str = PEM, **changes: Any) -> ReleasePlan:
    outputs = make_outputs(**changes)
    services = {
        name: service.model_copy(update={"image": f"{service.reference.repository}:{version}"})
        for name, service in outputs.services.items()
    }
    outputs = outputs.model_copy(update={"services": services})
    digests = {name: f"sha256:{name}-{version}" for name in services}
    return build_plan(outputs, make_secrets(key), digests, login)


class KilledError(BaseException):
    """What `kill -9` looks like from inside a test: nothing after it runs."""


@dataclass(frozen=True, kw_only=True)
class FakeMachine(Machine):
    """A machine whose Docker and Nginx are dictionaries; `before` may fail or kill any step."""

    calls: list[str] = field(default_factory=list)
    images_here: set[str] = field(default_factory=set)
    roots: set[str] = field(default_factory=set)
    up_with: dict[str, str] = field(default_factory=dict)
    served: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    before: dict[str, Callable[[str], None]] = field(default_factory=dict)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if "any" in self.before:
            self.before["any"](name)

    @contextmanager
    def locked(self, who: str) -> Generator[None]:
        yield

    def images(self) -> set[str]:
        return set(self.images_here)

    def pull(self, image: str, login: SecretStr) -> None:
        self._call(f"pull {image.rpartition('/')[2]}")
        self.images_here.add(image)

    def user(self, image: str) -> str:
        name = image.rpartition("/")[2].partition("@")[0]
        return "" if name in self.roots else "65534:65534"

    def extract(self, image: str, folder: str, targets: Any) -> None:
        self._call(f"extract {folder}")
        for target in targets:
            target.mkdir(parents=True, exist_ok=True)
            (target / "index.html").write_text(image)

    def remove_images(self, images: Any) -> None:
        self._call("remove_images")
        self.images_here.difference_update(images)

    def up(self) -> None:
        self._call("up")
        self.up_with.clear()
        self.up_with.update({name: (self.layout.app / name).read_text() for name in ("compose.yaml", ".env", "ca.crt")})

    def down(self) -> None:
        self._call("down")
        self.up_with.clear()

    def running(self) -> dict[str, str]:
        found = yaml.safe_load(self.up_with["compose.yaml"])["services"] if self.up_with else {}
        return {name: "restarting" if self._is_broken(name) else "running" for name in found}

    def restarts(self, service: str) -> int:
        return 3 if self._is_broken(service) else 0

    def logs(self, service: str, lines: int = 20) -> list[str]:
        return [f"cannot reach postgresql with {CANARY}", "first-line-of-a-key"]

    def reload_nginx(self) -> None:
        self._call("reload_nginx")
        self.served.clear()
        self.served.update({path.name: path.read_text() for path in self.layout.nginx.glob("*.conf")})

    def get(self, url: str, host: str | None = None, timeout: float = 5) -> int | str:
        ports = {"3000": "web", "3001": "api"}
        behind_nginx = "api" if "/api" in url else "web"
        name = behind_nginx if host else ports[url.rsplit(":", maxsplit=1)[-1].partition("/")[0]]
        self._call(f"get {name}{' by Nginx' if host else ''}")
        if not self.up_with and "root " not in self.served.get("app.routes.conf", ""):
            return "connection refused"
        if host and "app.upstreams.conf" not in self.served:
            return 503
        return 500 if self._is_broken(name) else 200

    def connect(self, service: str, port: int, timeout: float = 5) -> str | None:
        self._call(f"connect {service}")
        return "no connection: refused" if not self.up_with or self._is_broken(service) else None

    def sleep(self, seconds: float) -> None:
        pass

    def _is_broken(self, name: str) -> bool:
        return any(f"@sha256:{name}-{version}" in self.up_with.get("compose.yaml", "") for version in self.broken)


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    """A converged machine: the base's page is in the place of the routes."""
    nginx = tmp_path / "nginx"
    nginx.mkdir()
    (nginx / "app.routes.conf").write_text("no release yet\n")
    layout = Layout(app=tmp_path / "app", nginx=nginx, static=tmp_path / "static", lock=tmp_path / "lock")
    return FakeMachine(layout=layout)


def failing_at(name: str) -> Callable[[str], None]:
    def check(call: str) -> None:
        if call == name:
            raise ReleaseError(f"{name} failed with {CANARY}")

    return check
