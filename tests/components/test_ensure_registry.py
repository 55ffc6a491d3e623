"""A shared registry is made once, by whoever comes first, and stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components import registry
from sandbox.parts.none import NoParts
from tests.sandbox.conftest import TOKEN, Sandbox, running

TEXT = Path(registry.__file__).with_name("ensure_registry.py").read_text()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Sandbox]:
    with running(tmp_path / "home", NoParts()) as made:
        yield made


def run(document: dict[str, Any], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """As the engine does: from the text, in any folder."""
    return subprocess.run(
        [sys.executable, "-I", "-c", TEXT, json.dumps(document)],
        cwd=tmp_path,
        env={**os.environ, "DIGITALOCEAN_TOKEN": TOKEN},
        text=True,
        capture_output=True,
        check=False,
    )


def test_the_first_makes_it_the_second_finds_it_and_the_last_names_it(cloud: Sandbox, tmp_path: Path):
    wanted = {"endpoint": cloud.url, "name": "shop", "tier": "basic", "region": "fra1"}

    first, second = run(wanted, tmp_path), run({**wanted, "tier": "professional", "region": None}, tmp_path)
    last = run({"name": "shop", "stays": True}, tmp_path)

    assert [done.returncode for done in (first, second, last)] == [0, 0, 0], first.stderr + second.stderr
    assert first.stdout.startswith("registry shop: made")
    assert second.stdout == "registry shop: is there\n"
    assert "registry shop: stays" in last.stdout
    assert [(item["name"], item["region"]) for item in cloud.get("/v2/registries")["registries"]] == [("shop", "fra1")]
    assert cloud.get("/v2/registries/subscription")["subscription"]["tier"]["slug"] == "basic"


def test_a_name_of_another_account_is_one_line(cloud: Sandbox, tmp_path: Path):
    cloud.send("PATCH", "/_sandbox/switches", {"foreign_registries": ["taken"]})

    done = run({"endpoint": cloud.url, "name": "taken", "tier": "basic", "region": None}, tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith("registry taken: DigitalOcean answers 409: ")
    assert done.stderr.count("\n") == 1


def test_a_refused_token_is_one_line(cloud: Sandbox, tmp_path: Path):
    document = {"endpoint": cloud.url, "name": "shop", "tier": "basic", "region": None}
    done = subprocess.run(
        [sys.executable, "-I", "-c", TEXT, json.dumps(document)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "DIGITALOCEAN_TOKEN": "another"},
        text=True,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("registry shop: DigitalOcean answers 401: ")
