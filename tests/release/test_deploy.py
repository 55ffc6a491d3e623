"""What the desk makes of the machine's answer."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from ops.core.errors import ReleaseError
from ops.release.deploy import APPLY, deploy
from ops.stack import ssh
from ops.stack.outputs import LoadedStack
from ops.stack.remote_ops import PROGRAM
from ops.stack.ssh import RemoteResult, SshTarget

from .conftest import make_outputs, make_plan, make_secrets

REPORT = {"result": "released", "release": "abc", "environment": "staging", "services": [], "seconds": 1.5}


class Session:
    """A session whose command gives this answer."""

    target = SshTarget(address="192.0.2.1", host_key="ssh-ed25519 AAAA", deploy_key=SecretStr("k"))

    def __init__(self, result: RemoteResult) -> None:
        self.result = result
        self.sent: list[tuple[Any, bytes]] = []

    def follow(self, command: Any, *, stdin: bytes, line: Any) -> RemoteResult:
        self.sent.append((command, stdin))
        for said in self.result.stderr.splitlines():
            line(said)
        return self.result


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Any:
    def give(stdout: str, stderr: str = "", code: int = 0) -> Session:
        session = Session(RemoteResult(returncode=code, stdout=stdout, stderr=stderr))

        @contextmanager
        def connect(_: SshTarget) -> Generator[Session]:
            yield session

        monkeypatch.setattr(ssh, "connect", connect)
        return session

    return give


@pytest.fixture
def stack() -> LoadedStack:
    droplet = {"id": "1", "name": "d", "address": "192.0.2.1", "public_ip": "192.0.2.1", "private_ip": "10.0.0.2"}
    return LoadedStack(name="staging", outputs=make_outputs(droplets=[droplet]), secrets=make_secrets())


def test_the_plan_travels_on_stdin_and_progress_comes_back(answer: Any, stack: LoadedStack, capsys: Any):
    session = answer(json.dumps(REPORT), '{"step": "starting the containers"}\n')
    assert deploy(stack, make_plan()).result == "released"
    [(command, stdin)] = session.sent
    assert command == [*PROGRAM, *APPLY]
    assert json.loads(stdin) == make_plan().document()
    assert capsys.readouterr().err == "· starting the containers\n"


def test_a_failed_release_is_an_error_with_the_apps_last_words(answer: Any, stack: LoadedStack):
    answer(json.dumps({"error": "api: HTTP 500; the former release is back", "log": ["api | boom"]}), code=1)
    with pytest.raises(ReleaseError, match=r"192\.0\.2\.1:22: api: HTTP 500; the former release is back") as found:
        deploy(stack, make_plan())
    assert found.value.log == ("api | boom",)


@pytest.mark.parametrize(
    ("stdout", "stderr", "complaint"),
    [
        (
            "",
            "sudo: /usr/local/bin/ops: command not found",
            "no `ops` on the droplet .*command not found.*; run `pulumi up`",
        ),
        ("", "", "failed without a message"),
        ("", "Traceback:\nMemoryError", r": MemoryError$"),
        ('{"result": "released", "new_field": 1}', "", "version mismatch"),
    ],
)
def test_a_machine_that_is_not_ready_is_said_so(
    answer: Any, stack: LoadedStack, stdout: str, stderr: str, complaint: str
):
    answer(stdout, stderr, code=1)
    with pytest.raises(ReleaseError, match=complaint):
        deploy(stack, make_plan())
