"""The digests that decide when a droplet is converged again."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from components import host_plan
from tests.components.kit import Recording


def test_one_preview_asks_host_once(build: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    run = subprocess.run

    def count(command: list[str], **options: Any) -> Any:
        asked.append(options["input"])
        return run(command, **options)

    monkeypatch.setattr(host_plan.subprocess, "run", count)
    monkeypatch.setattr(host_plan, "_machines", {})
    host_plan._ask_host.cache_clear()
    recording = build("staging")
    assert len(asked) == 1
    assert recording.of_type("Command")
