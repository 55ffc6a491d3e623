"""The stand-ins under the real engine: how a program's errors are told, and that nothing outlives the engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engine.kit import ROOT

pytestmark = pytest.mark.engine


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose program is in a folder below, as `main:` says."""
    (tmp_path / "src").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: small\nruntime: python\nmain: src\n")
    (tmp_path / "src" / "beside.py").write_text("HERE = True\n")
    pulumi(tmp_path, "stack", "init", "dev")
    return tmp_path


def environment(project: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(ROOT / "sandbox/plugins/bin"), os.environ["PATH"]]),
        "ANCLA_PYTHON": sys.executable,
        "PULUMI_HOME": str(project / "home"),
        "PULUMI_BACKEND_URL": f"file://{project / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": "a passphrase of the tests",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PYTHONPATH": "/only/what/was/given",
    }


def pulumi(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["pulumi", *arguments, "--non-interactive"],
        cwd=project,
        env=environment(project),
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
    )


def preview(project: Path, program: str) -> subprocess.CompletedProcess[str]:
    (project / "src" / "__main__.py").write_text(program)
    return pulumi(project, "preview", "--stack", "dev")


def test_a_program_sees_its_folder_and_the_environment_it_was_started_with(project: Path) -> None:
    program = """
import os, sys, beside, pulumi
assert os.getcwd() == os.path.dirname(os.path.abspath(__file__)), os.getcwd()
assert not any(name.startswith("sandbox") for name in sys.modules)
pulumi.export("path", os.environ["PYTHONPATH"])
pulumi.export("secret", pulumi.Config().require_secret("word"))
"""
    assert pulumi(project, "config", "set", "--secret", "word", "canary", "--stack", "dev").returncode == 0
    (project / "src" / "__main__.py").write_text(program)
    done = pulumi(project, "up", "--yes", "--skip-preview", "--stack", "dev")
    assert done.returncode == 0, done.stdout
    assert "canary" not in done.stdout
    assert pulumi(project, "stack", "output", "path", "--stack", "dev").stdout.strip() == "/only/what/was/given"
    shown = pulumi(project, "stack", "output", "secret", "--show-secrets", "--stack", "dev")
    assert shown.stdout.strip() == "canary"


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (
            "import sys\nsys.exit('settings: size is wrong; use one of a, b')",
            "error: settings: size is wrong; use one of a, b",
        ),
        ("import sys\nprint('said by the program', file=sys.stderr)\nsys.exit(3)", "said by the program"),
        ("import pulumi\nraise pulumi.RunError('it cannot be')", "error: it cannot be"),
    ],
)
def test_a_program_s_own_words_are_told_without_a_traceback(project: Path, program: str, told: str) -> None:
    done = preview(project, program)
    assert done.returncode != 0
    assert told in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "File " not in done.stdout


def test_a_mistake_in_a_program_is_told_with_its_place_alone(project: Path) -> None:
    done = preview(project, "def f():\n    raise ValueError('not this')\n\nf()\n")
    assert done.returncode != 0
    assert "ValueError: not this" in done.stdout
    assert f'"{project}/src/__main__.py", line 2' in done.stdout
    assert "site-packages" not in done.stdout
    assert "runpy" not in done.stdout


def test_nothing_outlives_an_engine_that_is_killed(project: Path) -> None:
    pid = project / "pid"
    program = f"import pulumi_command as c\nc.local.Command('long', create='sleep 300 & echo $! > {pid}; wait')\n"
    (project / "src" / "__main__.py").write_text(program)
    engine = subprocess.Popen(
        ["pulumi", "up", "--yes", "--skip-preview", "--stack", "dev", "--non-interactive"],
        cwd=project,
        env=environment(project),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 120
    while not (pid.exists() and pid.read_text().strip()):
        assert time.monotonic() < end
        time.sleep(0.05)
    child = int(pid.read_text())
    assert _runs(child)
    plugins = _of(project)
    assert len(plugins) >= 2
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    end = time.monotonic() + 120
    while _runs(child) or any(_runs(plugin) for plugin in plugins):
        assert time.monotonic() < end, "something still runs"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _of(project: Path) -> list[int]:
    """The plugins that the engine of this project has started."""
    wanted = f"PULUMI_HOME={project / 'home'}".encode()
    found: list[int] = []
    for process in Path("/proc").iterdir():
        try:
            if (
                b"sandbox.plugins" in (process / "cmdline").read_bytes()
                and wanted in (process / "environ").read_bytes()
            ):
                found.append(int(process.name))
        except (OSError, ValueError):
            continue
    return found
