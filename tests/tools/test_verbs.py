"""The Makefile's verbs: each installs only what it needs, asks before it deletes, and stops where the policy does."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tools import environment
from tools.workspace import ROOT, StepError

run = CliRunner()


def dry(*arguments: str) -> str:
    return subprocess.run(
        ["make", "-n", "--no-print-directory", *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "MAKEFLAGS": ""},
    ).stdout


@pytest.mark.parametrize(
    ("verb", "mode"),
    [
        ("status", "--installed "),
        ("down", "--installed "),
        ("wipe", "--installed "),
        ("check", "--python "),
        ("up", ""),
    ],
)
def test_each_verb_installs_only_what_it_needs(verb: str, mode: str):
    lines = [line for line in dry(verb).splitlines() if line.startswith("tools/run")]

    assert lines
    for line in lines:
        assert line.startswith(f"tools/run {mode}"), line
        assert mode or not line.startswith("tools/run --"), line


def test_one_folder_of_tests_can_be_run():
    assert dry("test", "T=tests/host").rstrip().endswith('-m "not all" tests/host')


def test_clean_deletes_caches_and_no_data(tmp_path: Path):
    for name in (".sandbox/state/__pycache__", "ops/core/__pycache__", ".ruff_cache", ".pytest_cache"):
        (tmp_path / name).mkdir(parents=True)

    subprocess.run(["make", "-f", str(ROOT / "Makefile"), "clean"], cwd=tmp_path, check=True)

    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {".sandbox", ".sandbox/state", ".sandbox/state/__pycache__", "ops", "ops/core"}


def verb(home: Path, *arguments: str, stdin: Any = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.environment", *arguments],
        cwd=ROOT,
        check=False,
        text=True,
        stdin=stdin,
        capture_output=True,
        env={**os.environ, "ANCLA_SANDBOX_HOME": str(home)},
    )


def test_wipe_asks_and_no_is_no(tmp_path: Path):
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")
    try:
        done = verb(tmp_path, "wipe", stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)

    assert done.returncode == 1
    assert "its databases, buckets and backups?" in done.stderr
    assert tmp_path.exists()


def test_wipe_with_nobody_to_ask_deletes_nothing(tmp_path: Path):
    done = verb(tmp_path, "wipe")

    assert done.returncode == 2
    assert "make wipe YES=1" in done.stderr
    assert tmp_path.exists()


def test_wipe_deletes_when_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    monkeypatch.setenv("ANCLA_SANDBOX_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(environment, "sandbox", lambda *arguments: calls.append(" ".join(arguments)))
    monkeypatch.setattr(environment, "_shell_function", calls.append)

    result = run.invoke(environment.app, ["wipe", "--yes"])

    assert result.exit_code == 0
    assert calls == ["docker_daemon", "reset --yes", "stop_docker_daemon"]
    assert not (tmp_path / "home").exists()


def test_without_docker_nothing_runs_and_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(environment, "sandbox", lambda *arguments: calls.append(" ".join(arguments)))
    monkeypatch.setattr(environment, "_shell_function", calls.append)

    assert run.invoke(environment.app, ["status"]).exit_code == 0
    assert run.invoke(environment.app, ["down"]).exit_code == 0
    assert calls == ["stop_docker_daemon"]


class Work:
    """A workspace that writes down what is asked of it."""

    stack = "staging"

    def __init__(self, home: Path, *, holds: bool) -> None:
        self.home, self.holds, self.calls = home, holds, list[str]()

    def select(self) -> None:
        self.calls.append("select")

    def judged(self, *_: str) -> None:
        self.calls.append("policy")
        if not self.holds:
            raise StepError("policy", 1)

    def pulumi(self, *arguments: str) -> None:
        self.calls.append(arguments[1])
        raise StepError("the end of this test", 7)


@pytest.mark.parametrize(
    ("holds", "remembered", "calls"),
    [
        (False, False, ["select", "policy"]),
        (True, False, ["select", "policy", "up"]),
        (True, True, ["select", "up"]),
    ],
)
def test_up_goes_on_only_where_the_policy_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds: bool, remembered: bool, calls: list[str]
):
    work = Work(tmp_path, holds=holds)
    monkeypatch.setattr(environment, "workspace", lambda *_, **__: work)
    monkeypatch.setattr(environment, "_build_app", lambda _: None)
    monkeypatch.setattr(environment, "is_remembered", lambda _: remembered)

    result = run.invoke(environment.app, ["up"])

    assert isinstance(result.exception, StepError)
    assert work.calls == calls


def test_a_stack_file_that_does_not_validate_is_lines_and_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys):
    def fails(*_: Any, **__: Any) -> None:
        raise environment.SettingsError("ancla:region: is no region", "ancla:budget: is no number")

    monkeypatch.setattr(environment, "workspace", fails)
    monkeypatch.setattr(sys, "argv", ["tools.environment", "preview"])

    with pytest.raises(SystemExit) as caught:
        environment.run()

    assert caught.value.code == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: ancla:region: is no region",
        "error: ancla:budget: is no number",
    ]


def bash(script: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f". tools/setup.sh; {script}"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **more},
    )


def test_a_long_step_of_the_setup_says_how_long(tmp_path: Path):
    lines = "until [ $(grep -c building: said) -ge 2 ]; do command sleep 0.05; done"
    done = bash(
        f"cd {tmp_path}; exec 2>said; sleep() {{ command sleep 0.05; }}; building() {{ {lines}; }};"
        " timed building building && timed failing false || echo $?"
    )

    assert (tmp_path / "said").read_text().count("building: ") >= 2
    assert done.stdout == "1\n"


@pytest.mark.parametrize("mode", ["python", "installed"])
def test_looking_and_checking_install_nothing_else_and_start_nothing(mode: str):
    others = "packages engine compose s3_server plugins docker_daemon go_build system_packages"
    done = bash(
        f'for name in {others}; do eval "$name() {{ echo called $name; exit 9; }}"; done; setup {mode}; echo ok'
    )

    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


DOCKER = """
docker_networks=networks; say() { echo "$@"; }; sleep() { command sleep 0.05; }
rm() { :; }; systemctl() { start_dockerd; }
setsid() { if [ -e networks ]; then echo 'panic: libnetwork.(*controller).reservePools'; else touch up; fi; }
docker() { [ -e up ]; }
"""


def test_docker_whose_record_of_networks_is_broken_starts_without_it(tmp_path: Path):
    (tmp_path / "networks").write_text("half written")
    done = bash(f"cd {tmp_path}; {DOCKER} docker_daemon", ANCLA_CACHE=str(tmp_path))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "set aside as networks.broken" in done.stdout
    assert (tmp_path / "networks.broken").read_text() == "half written"


@pytest.mark.parametrize(("answer", "stays"), [("return 1", True), ("echo 1f0a", True), (":", False)])
def test_docker_is_stopped_only_where_it_says_that_nothing_runs(tmp_path: Path, answer: str, stays: bool):
    script = f"""
    docker() {{ {answer}; }}; say() {{ :; }}; sleep 60 & echo $! >{tmp_path}/dockerd.pid
    cat() {{ case $1 in /proc/*) echo dockerd;; *) command cat "$@";; esac; }}
    stop_docker_daemon; kill -0 $! 2>/dev/null && echo stays; kill $! 2>/dev/null"""
    done = bash(script, ANCLA_CACHE=str(tmp_path))

    assert ("stays" in done.stdout) == stays, done.stdout + done.stderr


def steps_of(workflow: dict[str, Any]) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


def read_workflow(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())


def test_a_workflow_runs_what_ci_runs():
    workflow = read_workflow("test.yml")

    assert ".ci/run" in steps_of(workflow)
    assert "make check" in steps_of(workflow)
    assert workflow["permissions"] == {"contents": "read"}


def test_the_workflow_that_builds_asks_the_policy_first():
    workflow = read_workflow("up.yml")
    judged, up = steps_of(workflow)

    assert "pulumi preview" in judged
    assert "--show-sames" in judged
    assert "| tools/run --python python -m policy" in judged
    assert " up " in up
    assert workflow["jobs"]["up"]["defaults"]["run"]["shell"] == "bash", "a preview that fails ends the pipe"


def test_the_workflow_that_looks_for_drift_changes_nothing():
    steps = steps_of(read_workflow("drift.yml"))

    assert [step.partition(" python -m ")[2] for step in steps] == ["ops converge --check", "ops drift"]


def test_no_action_is_taken_by_a_name_that_can_move():
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        for line in path.read_text().splitlines():
            if "uses:" in line:
                assert re.search(r"@[0-9a-f]{40} # v", line), f"{path.name}: {line}"
