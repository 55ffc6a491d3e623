"""The distribution: `pip install .` gives the packages with their data, their types and the command `ancla`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from blueprint.keys import make_key, public_line
from blueprint.machine import FirewallSettings, MachineSettings, SshSettings
from components.converge import build_command

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("blueprint", "components", "host", "ops", "policy")
NAMES = (
    "AppDroplet",
    "AppDropletArgs",
    "AssetBucketWithCDN",
    "AssetBucketWithCDNArgs",
    "DnsZone",
    "DnsZoneArgs",
    "ManagedDatabase",
    "ManagedDatabaseArgs",
)


MACHINE = MachineSettings(
    hostname="web",
    ssh=SshSettings(user="deploy", deploy_key=public_line(make_key())),
    firewall=FirewallSettings(ssh_sources=("0.0.0.0/0",)),
)


def run(*command: str | Path, folder: Path, stdin: str = "") -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
        input=stdin,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a virtual environment that has the wheel, and what the tests have for its dependencies."""
    home = tmp_path_factory.mktemp("consumer")
    sources = home / "sources"  # a build leaves files beside what it builds
    for name in PACKAGES:
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", home, sources, folder=home)
    shutil.rmtree(sources)
    run(sys.executable, "-m", "venv", "--without-pip", home / ".venv", folder=home)
    python = home / ".venv/bin/python"
    wheel = next(home.glob("ancla-*.whl"))
    run(*pip, f"--python={python}", "install", "-q", "--no-deps", "--no-index", wheel, folder=home)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=home).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def test_the_command_is_ops(consumer: Path):
    assert run(".venv/bin/ancla", "--version", folder=consumer) == run(
        ".venv/bin/python", "-m", "ops", "--version", folder=consumer
    )
    assert "restore" in run(".venv/bin/ancla", "--help", folder=consumer)


def test_the_components_are_imported_by_name(consumer: Path):
    program = f"from components import {', '.join(NAMES)}; import components; print(components.__file__)"

    assert run(".venv/bin/python", "-c", program, folder=consumer).startswith(str(consumer))


@pytest.mark.parametrize("name", PACKAGES)
def test_every_file_of_a_package_is_in_the_wheel(consumer: Path, name: str):
    """Prices, templates, translations, lock files and `py.typed` beside the code."""
    files = {
        path.relative_to(ROOT)
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".in"
    }
    installed = next(consumer.glob(".venv/lib/*/site-packages"))

    assert Path(name, "py.typed") in files
    assert sorted(str(path) for path in files if not (installed / path).is_file()) == []


def test_a_command_of_a_program_finds_the_python_beside_it(consumer: Path):
    """The engine runs it in the program's folder, outside of the program's virtual environment."""
    document = json.dumps({"image": "ubuntu-24-04-x64", "machine": MACHINE.model_dump(mode="json"), "timers": None})

    assert json.loads(run("/bin/sh", "-c", build_command("plan"), folder=consumer, stdin=document)).keys() == {
        "machine",
        "ops",
    }


def test_a_command_without_any_python_says_what_to_set(tmp_path: Path):
    done = subprocess.run(
        ["/bin/sh", "-c", build_command("plan")],
        cwd=tmp_path,
        env={"PATH": ""},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert "ANCLA_PYTHON" in done.stderr


def test_what_the_wheel_needs_is_what_the_checkout_pins():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = {item.name: item.specifier for item in map(Requirement, project["dependencies"])}
    pins = {
        item.name: next(iter(item.specifier)).version
        for item in map(
            Requirement, (line for line in (ROOT / "requirements.in").read_text().splitlines() if line[0] != "#")
        )
    }

    assert ranges.keys() == pins.keys()
    assert [name for name, pin in pins.items() if pin not in ranges[name]] == []
