"""The sandbox is killed while it forks a cluster: started again, the fork is there, as of the asked time, and whole."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kits.ports import free_ports
from tests.sandbox.parts.conftest import eventually
from tests.sandbox.parts.test_command import Run, runner, runs

pytestmark = pytest.mark.containers
CLUSTER = {"engine": "pg", "version": "15", "size": "db-s-1vcpu-1gb", "region": "nyc3", "num_nodes": 1}
MOMENTS = ("asked for", "filled", "replayed", "stopped")


@dataclass
class Stand:
    """A sandbox of this test, by its own command."""

    run: Run
    home: Path
    name: str
    variables: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.variables['DIGITALOCEAN_TOKEN']}"}
        with httpx.Client(trust_env=False, timeout=60) as client:
            url = self.variables["DIGITALOCEAN_API_URL"] + path
            answer = client.request(method, url, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def make(self, **body: Any) -> str:
        return self.call("POST", "/v2/databases", {**CLUSTER, **body})["database"]["id"]

    def online(self, ident: str) -> None:
        eventually(lambda: self.call("GET", f"/v2/databases/{ident}")["database"]["status"] == "online")

    def query(self, ident: str, sql: str) -> str:
        container = f"ancla-{self.name}-database-{ident}"
        command = ["docker", "exec", "-i", "-u", "postgres", container, "psql", "-qAtX", "-p", "25060", "defaultdb"]
        done = subprocess.run(command, input=sql, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def kill(self) -> None:
        pid = int((self.home / "serve.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not runs(pid))

    def names(self, kind: str) -> str:
        command = ["docker", *(("ps", "-a") if kind == "container" else (kind, "ls"))]
        shown = "{{.Names}}" if kind == "container" else "{{.Name}}"
        wanted = ["--format", shown, "--filter", f"label=ancla.sandbox={self.name}"]
        return subprocess.run([*command, *wanted], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    home, name = tmp_path_factory.mktemp("killed-home"), f"test-killed-{os.getpid()}"
    run = runner(home, name)
    try:
        run("start", "--port-base", str(free_ports(3)))
        yield Stand(run, home, name, json.loads(run("env", "--json").stdout))
    finally:
        run("reset", "--yes")


@pytest.fixture(scope="module")
def source(stand: Stand) -> tuple[str, str]:
    """A cluster with a backup, and a time at which it had one row of two."""
    ident = stand.make(name="source")
    stand.online(ident)
    eventually(lambda: stand.call("GET", f"/v2/databases/{ident}/backups")["backups"] != [])
    stand.query(ident, "CREATE TABLE two AS SELECT 1 AS row")
    time.sleep(0.3)
    moment = datetime.now(UTC).isoformat()
    time.sleep(0.3)
    stand.query(ident, "INSERT INTO two VALUES (2)")
    return ident, moment


def _killed(stand: Stand, source: tuple[str, str], moment: str) -> None:
    ident, asked = source
    restore = {"database_name": "source", "backup_created_at": asked}
    fork = stand.make(name=f"fork-{MOMENTS.index(moment)}", backup_restore=restore)
    thing = f"ancla-{stand.name}-database-{fork}"
    if moment == "filled":
        eventually(lambda: f"{thing}-data" in stand.names("volume").split())
    elif moment == "replayed":
        eventually(lambda: thing in stand.names("container").split())
    if moment == "stopped":
        stand.run("stop")
    else:
        stand.kill()
    stand.run("start")
    stand.online(fork)
    assert stand.query(fork, "SELECT string_agg(row::text, ',') FROM two") == "1", moment
    assert stand.query(ident, "SELECT string_agg(row::text, ',') FROM two") == "1,2", moment
    assert "fill" not in stand.names("container")
    stand.call("DELETE", f"/v2/databases/{fork}")
    eventually(lambda: fork not in stand.names("container") + stand.names("volume"))


@pytest.mark.long
def test_a_fork_survives_a_kill_of_the_sandbox(stand: Stand, source: tuple[str, str]) -> None:
    moment = random.Random(int(os.environ["ANCLA_SEED"])).choice(MOMENTS)
    print(f"killed when the fork is {moment}")
    _killed(stand, source, moment)


@pytest.mark.all
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_fork_survives_a_kill_of_the_sandbox_at_every_moment(
    stand: Stand, source: tuple[str, str], moment: str
) -> None:
    _killed(stand, source, moment)
