"""The example of the components beside staging in a sandbox: a real droplet is bootstrapped from another folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hosts.staging import Staging
from tests.kits.process import run_to_end
from tools.environment import ROOT

pytestmark = [pytest.mark.hosts, pytest.mark.containers, pytest.mark.engine, pytest.mark.all]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples" / "components", tmp_path / "example")
    return tmp_path / "example"


@pytest.fixture
def pulumi(staging: Staging, folder: Path) -> Iterator[Callable[..., str]]:
    """The engine in the example's folder, which knows nothing of the checkout but where Python finds it."""
    environment = {**staging.work.environment, "PULUMI_STACK": "dev"}
    del environment["ANCLA_ROOT"]

    def run(*arguments: str) -> str:
        return run_to_end("pulumi", *arguments, "--non-interactive", cwd=folder, env=environment).stdout

    run("stack", "init", "dev")
    run("config", "set", "domain", "components.example.org")
    yield run
    run("destroy", "--yes", "--skip-preview")
    run("stack", "rm", "--yes", "dev")


def change(folder: Path, before: str, after: str) -> None:
    program = folder / "__main__.py"
    text = program.read_text()
    assert text.count(before) == 1
    program.write_text(text.replace(before, after))


def test_a_droplet_of_another_program_is_bootstrapped_and_changed(
    staging: Staging, pulumi: Callable[..., str], folder: Path
) -> None:
    def on_droplet(*command: str) -> str:
        droplets = staging.api("GET", "/v2/droplets?per_page=200")["droplets"]
        (found,) = (item for item in droplets if item["name"] == "components-dev-app")
        container = f"{staging.instance}-droplet-{found['id']}"
        done = subprocess.run(["docker", "exec", container, *command], text=True, check=False, capture_output=True)
        return done.stdout + done.stderr

    # The version of which staging has an image.
    change(folder, "trusted_droplets=", 'version="15", trusted_droplets=')
    pulumi("up", "--yes", "--skip-preview")
    pulumi("preview", "--expect-no-changes")
    assert "Docker Compose version" in on_droplet("docker", "compose", "version")
    assert "Status: active" in on_droplet("ufw", "status")
    assert "passwordauthentication no" in on_droplet("sshd", "-T")
    assert on_droplet("systemctl", "is-active", "nginx").split() != ["active"]

    change(folder, "AppDropletArgs(region=region", "AppDropletArgs(region=region, nginx=True")
    pulumi("up", "--yes", "--skip-preview")
    assert on_droplet("systemctl", "is-active", "nginx").split() == ["active"]
    pulumi("refresh", "--yes", "--expect-no-changes")
