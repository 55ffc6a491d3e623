"""The engine's folder has the stack files that ship, and each verb's environment is the sandbox's own."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from blueprint.pulumi_config import load_stack_file
from tools import judged
from tools import workspace as module
from tools.workspace import ROOT, StepError, Workspace, elapsed, workspace

STACKS = sorted(path.name for path in ROOT.glob("Pulumi.*.yaml"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as two verbs have left it: keys take a while to make."""
    home = tmp_path_factory.mktemp("made") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANCLA_SANDBOX_HOME", str(home))
        patch.setattr(module, "sandbox", lambda *_, **__: "{}")
        for stack in ("staging", "prod"):
            workspace(stack, start=False)
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = shutil.copytree(made, tmp_path / "home")
    monkeypatch.setenv("ANCLA_SANDBOX_HOME", str(home))
    monkeypatch.setattr(module, "sandbox", lambda *_, **__: "{}")
    return home


def test_the_stack_file_that_is_tried_is_the_one_that_ships(home: Path):
    for name in STACKS:
        assert (home / "project" / name).read_text() == (ROOT / name).read_text()


def test_a_salt_of_the_engine_stays_in_the_copy_alone(home: Path):
    copy = home / "project" / "Pulumi.staging.yaml"
    copy.write_text("encryptionsalt: v1:canary\nconfig: {}\n")

    workspace("staging", start=False)

    assert copy.read_text() == "encryptionsalt: v1:canary\n" + (ROOT / "Pulumi.staging.yaml").read_text()


def test_backups_of_the_sandbox_are_for_its_own_identity_too(home: Path):
    work = workspace("prod", start=False)
    written = load_stack_file(work.stack_file, environ={}).backup.recipients

    tried = load_stack_file(work.stack_file, environ=work.environment).backup.recipients

    assert tried == (*written, work.environment["ANCLA_SANDBOX_RECIPIENT"])
    assert tried[-1] in (home / "identity.txt").read_text()
    assert (home / "identity.txt").stat().st_mode & 0o077 == 0


def test_secrets_are_made_up_once_and_completed(home: Path):
    first = json.loads(workspace("staging", start=False).environment["ANCLA_SECRETS"])
    path = home / "secrets-staging.json"
    path.write_text(json.dumps({**first, "app": {}, "hostKey": None}))

    second = json.loads(workspace("staging", start=False).environment["ANCLA_SECRETS"])

    assert second["deployKey"] == first["deployKey"]
    assert second["hostKey"] not in (None, first["hostKey"])
    assert second["app"].keys() == first["app"].keys() == {"JWT_PRIVATE_KEY"}
    assert path.stat().st_mode & 0o077 == 0


def in_folder(tmp_path: Path) -> Workspace:
    return Workspace(stack="staging", home=tmp_path, environment={"PATH": "/usr/bin:/bin"})


def test_a_long_step_says_how_long_it_has_been_running(capsys: pytest.CaptureFixture[str]):
    said = ""
    with elapsed("building", every=0.05):
        while said.count("building: ") < 2:  # a machine that is busy says it late
            time.sleep(0.05)
            said += capsys.readouterr().err
    capsys.readouterr()
    time.sleep(0.1)

    assert "… building: 0 s\n" in said
    assert not capsys.readouterr().err, "it ends with the step"


def test_a_step_that_fails_shows_what_it_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(StepError, match=r"^trying failed \(exit 3\)$"):
        in_folder(tmp_path).run("trying", sys.executable, "-c", "print('why'); exit(3)", quiet=True)

    assert "why" in capfd.readouterr().err


@pytest.fixture
def engine(tmp_path: Path) -> Workspace:
    """A stack whose engine prints the file `preview`, and ends with the exit code in `exit`."""
    (tmp_path / "project").mkdir()
    program = tmp_path / "pulumi"
    program.write_text(f'#!/bin/sh\ncat {tmp_path}/preview; echo "its stderr" >&2; exit "$(cat {tmp_path}/exit)"\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    return Workspace(stack="staging", home=tmp_path, environment=environment)


GOLDEN = (ROOT / "tests" / "policy" / "previews" / "staging.json").read_text()
FAILED = json.dumps({"steps": [], "diagnostics": [{"severity": "error", "message": "ancla:region: is no region"}]})


@pytest.mark.parametrize(
    ("printed", "code", "says"),
    [
        (
            GOLDEN.replace('"portRange": "80"', '"portRange": "8080"'),
            0,
            "ports-not-open: nextgentech-staging: tcp 8080",
        ),
        (FAILED, 255, "error: the preview failed: ancla:region: is no region"),
        ("incorrect passphrase", 255, "incorrect passphrase"),
    ],
)
def test_a_preview_that_breaks_a_rule_or_fails_is_an_end(
    engine: Workspace, capfd: pytest.CaptureFixture[str], printed: str, code: int, says: str
):
    (engine.home / "preview").write_text(printed)
    (engine.home / "exit").write_text(str(code))

    with pytest.raises(StepError):
        engine.judged()

    shown = "".join(capfd.readouterr())
    assert says in shown
    assert "Traceback" not in shown


def test_a_preview_that_holds_is_none(engine: Workspace):
    (engine.home / "preview").write_text(GOLDEN)
    (engine.home / "exit").write_text("0")

    engine.judged()


def test_what_held_is_remembered_until_something_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    work = in_folder(tmp_path)
    work.checkpoint.parent.mkdir(parents=True)
    work.checkpoint.write_text("one")
    assert not judged.is_remembered(work)

    judged.remember(work)
    assert judged.is_remembered(work)

    work.checkpoint.write_text("two")
    assert not judged.is_remembered(work), "the state changed"
    judged.remember(work)
    (tmp_path / "secrets-staging.json").write_text("{}")
    assert not judged.is_remembered(work), "the secrets changed"
    judged.remember(work)
    copy = tmp_path / "Pulumi.staging.yaml"
    copy.write_text((ROOT / "Pulumi.staging.yaml").read_text() + "\n")
    monkeypatch.setattr(Workspace, "stack_file", property(lambda _: copy))
    assert not judged.is_remembered(work), "the stack file changed"
    judged.remember(work)
    monkeypatch.setattr(judged, "_PROGRAM", ("blueprint",))
    assert not judged.is_remembered(work), "the program changed"
