"""`python -m sandbox`: start again changes nothing, stop keeps data, reset leaves nothing, a mistake is one line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kits.ports import free_ports
from tests.leftovers import owned
from tests.sandbox.parts.conftest import eventually

pytestmark = pytest.mark.containers
ROOT = Path(__file__).parents[3]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def runs(pid: int) -> bool:
    """Whether there is such a process, and not only what is left of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter: it went between the opening and the reading
        return False


def runner(home: Path, name: str) -> Run:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANCLA_SANDBOX")}

    def run(*arguments: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "sandbox", *arguments],
            cwd=ROOT, text=True, capture_output=True, check=False,
            env={**environment, "ANCLA_SANDBOX_HOME": str(home), "ANCLA_SANDBOX_NAME": name, **owned(), **more},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def port() -> int:
    return free_ports(3)


@pytest.fixture(scope="module")
def name() -> str:
    return f"test-cli-{os.getpid()}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli-home")


@pytest.fixture(scope="module")
def run(home: Path, name: str, port: int) -> Iterator[Run]:
    command = runner(home, name)
    try:
        command("start", "--port-base", str(port))
        yield command
    finally:
        command("reset", "--yes")
        left = [
            subprocess.run(
                [*what, "--filter", f"label=ancla.sandbox={name}"], capture_output=True, text=True, check=True
            ).stdout
            for what in (["docker", "ps", "-aq"], ["docker", "network", "ls", "-q"], ["docker", "volume", "ls", "-q"])
        ]
        assert left == ["", "", ""]


def variables(run: Run) -> dict[str, str]:
    return json.loads(run("env", "--json").stdout)


def api(run: Run, method: str, path: str, body: Any = None) -> httpx.Response:
    have = variables(run)
    with httpx.Client(trust_env=False, timeout=60) as client:
        headers = {"Authorization": f"Bearer {have['DIGITALOCEAN_TOKEN']}"}
        return client.request(method, have["DIGITALOCEAN_API_URL"] + path, json=body, headers=headers)


@pytest.mark.long
def test_env_is_complete_and_private(run: Run, home: Path) -> None:
    have = variables(run)
    assert have["DIGITALOCEAN_TOKEN"].startswith("sandbox_v1_")
    wanted = {"DIGITALOCEAN_API_URL", "SPACES_ACCESS_KEY_ID", "SPACES_SECRET_ACCESS_KEY", "HTTP_PROXY", "HTTPS_PROXY"}
    assert wanted | {"NO_PROXY", "SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"} <= have.keys()
    assert all(have.values())
    exported = subprocess.run(
        ["sh", "-c", f"{run('env').stdout}\nprintenv DIGITALOCEAN_TOKEN"], capture_output=True, text=True, check=True
    ).stdout
    assert exported.strip() == have["DIGITALOCEAN_TOKEN"]
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "token").stat().st_mode & 0o777 == 0o600
    assert Path(have["SSL_CERT_FILE"]).read_text().count("BEGIN CERTIFICATE") > 1


def test_start_again_changes_nothing(run: Run, name: str, home: Path) -> None:
    def seen() -> str:
        return subprocess.run(
            ["docker", "ps", "--format", "{{.ID}} {{.Names}}", "--filter", f"label=ancla.sandbox={name}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    before, pid = seen(), (home / "serve.pid").read_text()
    run("start")
    assert (seen(), (home / "serve.pid").read_text()) == (before, pid)


def test_a_killed_api_comes_back_with_its_state(run: Run, home: Path) -> None:
    assert api(run, "POST", "/v2/tags", {"name": "kept"}).status_code == 201
    os.kill(int((home / "serve.pid").read_text()), signal.SIGKILL)
    eventually(lambda: "not running" in run("env", code=1).stderr if not _alive(home) else False)
    run("start")
    assert api(run, "GET", "/v2/tags/kept").status_code == 200


def _alive(home: Path) -> bool:
    return runs(int((home / "serve.pid").read_text()))


def test_a_missing_part_is_made_again(run: Run, name: str) -> None:
    subprocess.run(["docker", "rm", "-f", f"ancla-{name}-edge"], check=True, capture_output=True)
    run("start")
    world = json.loads(run("status", "--json").stdout)
    assert world["running"] is True
    assert f"ancla-{name}-edge" in {row["name"] for row in world["containers"]}


@pytest.mark.long
def test_stop_keeps_data_and_start_goes_on(run: Run, name: str) -> None:
    run("stop")
    running = subprocess.run(
        ["docker", "ps", "-q", "--filter", f"label=ancla.sandbox={name}"], capture_output=True, text=True, check=True
    )
    assert running.stdout == ""
    assert "not running" in run("leaks", code=1).stderr
    run("stop")  # again is no error
    run("start")
    assert api(run, "GET", "/v2/tags/kept").status_code == 200


def test_leaks_name_what_is_left_and_exit_1(run: Run) -> None:
    api(run, "POST", "/v2/tags", {"name": "left-over"})
    assert "left-over" in run("leaks", code=1).stdout
    for tag in ("left-over", "kept"):
        api(run, "DELETE", f"/v2/tags/{tag}")
    assert run("leaks").stdout == ""


def test_the_journal_lists_calls(run: Run) -> None:
    calls = json.loads(run("journal", "--json").stdout)
    assert any(call["method"] == "POST" and call["path"] == "/v2/tags" for call in calls)
    assert "/v2/tags" in run("journal").stdout


def test_a_port_already_taken_is_one_line_that_names_it(tmp_path: Path) -> None:
    first = free_ports(3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first + 1))
        taken.listen()
        done = runner(tmp_path / "home", f"test-port-{os.getpid()}")("start", "--port-base", str(first), code=1)
    assert f"port {first + 1}" in done.stderr
    assert "--port-base" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("verb", ["env", "leaks", "journal"])
def test_a_home_where_nothing_was_started_is_one_line_and_stays_empty(tmp_path: Path, verb: str) -> None:
    home = tmp_path / "nothing"
    done = runner(home, f"test-none-{os.getpid()}")(verb, code=1)
    assert "python -m sandbox start" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not home.exists()


def test_without_docker_it_says_so(tmp_path: Path) -> None:
    done = runner(tmp_path / "home", "test-nodocker")("start", code=1, DOCKER_HOST="unix:///nonexistent.sock")
    assert "Docker daemon" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
