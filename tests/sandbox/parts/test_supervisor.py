"""Starts and resets from outside: what is done under the lock, and which files a reset leaves. No container."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from pathlib import Path

import pytest

from sandbox.parts.base import PartError
from sandbox.parts.instance import Instance
from sandbox.supervisor import SandboxError, Supervisor


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    home = tmp_path / "home"
    home.mkdir()
    (home / "addresses.json").write_text('{"block": "198.18.0.0/20"}')
    (home / "instance.json").write_text(json.dumps({"name": "other-ports", "port": 18000}))
    return Supervisor(Instance(name="other-ports", home=home, port=19000))


def test_a_start_at_other_ports_waits_for_the_one_that_runs_before_it_ends_the_api(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def check(*, moved: bool) -> None:
        done.append(f"moved {moved}")
        raise SandboxError("far enough")

    monkeypatch.setattr(supervisor.parts.docker, "ping", lambda: None)
    monkeypatch.setattr(supervisor, "_end_api", lambda: done.append("ended"))
    monkeypatch.setattr(supervisor, "_check_ports", check)

    def start() -> None:
        with pytest.raises(SandboxError, match="far enough"):
            supervisor.start()

    with (supervisor.home / "serve.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=start)
        thread.start()
        time.sleep(0.3)
        assert done == []
    thread.join(10)
    assert done == ["ended", "moved True"]


def test_an_api_of_an_earlier_version_ends_at_the_next_start(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(supervisor.parts.docker, "ping", lambda: None)
    monkeypatch.setattr(supervisor, "running_pid", lambda: None if done else 1)
    monkeypatch.setattr(supervisor, "_end_api", lambda: done.append("ended"))
    monkeypatch.setattr(supervisor.parts.images, "ensure", dict)
    monkeypatch.setattr(supervisor, "_check_ports", lambda **_: None)
    monkeypatch.setattr(supervisor, "_spawn", lambda: done.append("spawned"))
    monkeypatch.setattr(supervisor.parts, "start", lambda: False)
    monkeypatch.setattr(supervisor, "_wait_ready", lambda _: None)
    kept = {"name": "other-ports", "port": 19000, "code": "of yesterday"}
    (supervisor.home / "instance.json").write_text(json.dumps(kept))
    supervisor.start()
    assert done == ["ended", "spawned"]
    done.clear()
    supervisor.start()
    assert done == [], "it is of this version, and runs"


def test_a_reset_that_could_not_remove_all_keeps_the_addresses(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise PartError("not removed: network public (it is in use)")

    monkeypatch.setattr(supervisor.parts, "reset", refuse)
    with pytest.raises(PartError, match="not removed"):
        supervisor.reset()
    assert (supervisor.home / "addresses.json").exists(), "the next start would choose others, and find the old ones"
    monkeypatch.setattr(supervisor.parts, "reset", lambda: None)
    supervisor.reset()
    assert list(supervisor.home.iterdir()) == []
