"""A release is in the audit log: of the desk, and of the machine."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from ops.errors import ReleaseError
from ops.release import cli
from ops.release.apply import ReleaseReport
from ops.watch import audit

from .conftest import make_plan

REPORT = ReleaseReport(result="released", release="abc", environment="staging", services=(), seconds=1.5)


@pytest.fixture(autouse=True)
def desk(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = SimpleNamespace(name="staging", outputs=SimpleNamespace(domain="staging.example.org"))
    monkeypatch.setenv("ANCLA_AUDIT", str(tmp_path / "audit.jsonl"))
    monkeypatch.setattr(cli, "load_stack", lambda *_: stack)
    monkeypatch.setattr(cli, "cloud_from_environment", lambda: None)
    monkeypatch.setattr(cli, "plan_release", lambda *_: make_plan())
    monkeypatch.setattr(cli, "deploy", lambda *_: REPORT)


def entries() -> list[dict[str, Any]]:
    found = audit.read(audit.log_path())
    assert found.problems == []
    return found.entries


def fail(*_: Any) -> None:
    raise ReleaseError("web is not healthy")


def test_a_deploy_leaves_a_line_and_a_dry_run_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cli.deploy_command(dry_run=True)
    cli.deploy_command()
    monkeypatch.setattr(cli, "deploy", fail)
    with pytest.raises(ReleaseError):
        cli.deploy_command()
    done, failed = entries()
    assert (done["verb"], done["result"], done["stack"]) == ("deploy", "done", "staging")
    assert (done["outcome"], done["release"]) == ("released", "abc")
    assert (failed["verb"], failed["result"]) == ("deploy", "failed")


def test_what_the_machine_applied_is_in_its_own(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    plan = make_plan()
    monkeypatch.setattr(cli, "_refuse_unless_root", lambda: None)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setattr(cli, "Machine", lambda: None)
    for apply, stdin in ((lambda: REPORT, plan.document()), (fail, plan.document()), (fail, {})):
        monkeypatch.setattr(cli, "Release", lambda apply=apply, **_: SimpleNamespace(apply=apply))
        monkeypatch.setattr(cli.sys, "stdin", io.StringIO(cli.json.dumps(stdin)))
        if apply is fail:
            with pytest.raises(typer.Exit) as ended:
                cli.apply_command()
            assert ended.value.exit_code == 1
        else:
            cli.apply_command()
    assert [(e["verb"], e["result"]) for e in entries()] == [
        ("release apply", "done"),
        ("release apply", "failed"),
        ("release apply", "failed"),
    ]
    assert entries()[0]["release"] == "abc"
    assert "is not healthy" in capsys.readouterr().out
    secret = plan.dotenv.get_secret_value()
    assert secret not in audit.log_path().read_text()
