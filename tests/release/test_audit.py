"""A release is in the audit log: of the desk, and of the machine."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from ops.cli import deploy
from ops.core.errors import ReleaseError
from ops.monitoring import audit
from ops.release.apply import ReleaseReport

from .conftest import make_plan

REPORT = ReleaseReport(result="released", release="abc", environment="staging", services=(), seconds=1.5)


@pytest.fixture(autouse=True)
def desk(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = SimpleNamespace(name="staging", outputs=SimpleNamespace(domain="staging.example.org"))
    monkeypatch.setenv("ANCLA_AUDIT", str(tmp_path / "audit.jsonl"))
    monkeypatch.setattr(deploy, "load_stack", lambda *_: stack)
    monkeypatch.setattr(deploy, "cloud_from_environment", lambda: None)
    monkeypatch.setattr(deploy, "plan_release", lambda *_: make_plan())
    monkeypatch.setattr(deploy, "deploy", lambda *_: REPORT)


def entries() -> list[dict[str, Any]]:
    found = audit.read(audit.log_path())
    assert found.problems == []
    return found.entries


def fail(*_: Any) -> None:
    raise ReleaseError("web is not healthy")


def test_a_deploy_leaves_a_line_and_a_dry_run_none(monkeypatch: pytest.MonkeyPatch) -> None:
    deploy.deploy_command(dry_run=True)
    deploy.deploy_command()
    monkeypatch.setattr(deploy, "deploy", fail)
    with pytest.raises(ReleaseError):
        deploy.deploy_command()
    done, failed = entries()
    assert (done["verb"], done["result"], done["stack"]) == ("deploy", "done", "staging")
    assert (done["outcome"], done["release"]) == ("released", "abc")
    assert (failed["verb"], failed["result"]) == ("deploy", "failed")


def test_what_the_machine_applied_is_in_its_own(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    plan = make_plan()
    monkeypatch.setattr(deploy, "_refuse_unless_root", lambda: None)
    monkeypatch.setattr(deploy.signal, "signal", lambda *_: None)
    monkeypatch.setattr(deploy, "Machine", lambda: None)
    for apply, stdin in ((lambda: REPORT, plan.document()), (fail, plan.document()), (fail, {})):
        monkeypatch.setattr(deploy, "Release", lambda apply=apply, **_: SimpleNamespace(apply=apply))
        monkeypatch.setattr(deploy.sys, "stdin", io.StringIO(deploy.json.dumps(stdin)))
        if apply is fail:
            with pytest.raises(typer.Exit) as ended:
                deploy.apply_command()
            assert ended.value.exit_code == 1
        else:
            deploy.apply_command()
    assert [(e["verb"], e["result"]) for e in entries()] == [
        ("release apply", "done"),
        ("release apply", "failed"),
        ("release apply", "failed"),
    ]
    assert entries()[0]["release"] == "abc"
    assert "is not healthy" in capsys.readouterr().out
    secret = plan.dotenv.get_secret_value()
    assert secret not in audit.log_path().read_text()
