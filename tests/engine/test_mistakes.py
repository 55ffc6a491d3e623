"""What people get wrong: one clear line that says what, where and what to do; an exit code; nothing changed."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.kit import MUTATING, ROOT, BareCloud

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareCloud]:
    """One empty cloud for all mistakes: none of them may leave a trace in it."""
    bare = BareCloud(tmp_path_factory.mktemp("mistakes") / "world", "staging")
    yield bare
    bare.close()


def diagnostics(output: str) -> list[str]:
    """Return what the engine says is wrong, without its own closing words."""
    said = re.findall(r"^\s+error: (.*)$", output, re.MULTILINE)
    return [line for line in said if "program exited with non-zero exit code" not in line]


MISTAKES = {
    "a wrong size": ("size: s-2vcpu-4gb", "size: s-2vcpu-5gb", ["ancla:topology.size", "s-2vcpu-5gb", "s-2vcpu-4gb"]),
    "an unknown key": ("    image: ubuntu", "    imagen: ubuntu", ["ancla:topology.imagen", "image"]),
    "a bad CIDR": ('sshSources: ["0.0.0.0/0", "::/0"]', 'sshSources: ["300.0.0.0/8"]', ["sshSources", "300.0.0.0/8"]),
    "a domain with a typo": (
        "names: [staging.nextgentech.mx]",
        'names: ["staging,nextgentech.mx"]',
        ["ancla:edge.names[0]"],
    ),
    "a region that is none": ("ancla:region: nyc3", "ancla:region: nyc33", ["ancla:region", "nyc33", "nyc3"]),
    "what is not built yet": ("ancla:region: nyc3", "ancla:region: nyc3\n  ancla:extras: [grafana]", ["grafana"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_stack_file_is_one_line_and_changes_nothing(shared: BareCloud, mistake: str) -> None:
    right, wrong, words = MISTAKES[mistake]
    stack_file = shared.project / "Pulumi.staging.yaml"
    text = stack_file.read_text()
    assert right in text
    stack_file.write_text(text.replace(right, wrong))
    before = [call for call in shared.journal() if call["method"] in MUTATING]
    try:
        done = shared.pulumi("up", "--yes", "--skip-preview", check=False)
        offline = subprocess.run(
            [sys.executable, "-m", "ops", "settings", "check", str(stack_file)],
            cwd=ROOT, text=True, capture_output=True, check=False,
        )  # fmt: skip
    finally:
        stack_file.write_text(text)

    refused = [line for line in offline.stderr.splitlines() if not line.startswith("warning: not in effect yet")]
    for found, code in ((diagnostics(done.stdout), done.returncode), (refused, offline.returncode)):
        assert code != 0
        assert len(found) == 1, found
        for word in words:
            assert word in found[0]
    assert "Traceback" not in done.stdout + done.stderr + offline.stdout + offline.stderr
    assert [call for call in shared.journal() if call["method"] in MUTATING] == before


def test_a_missing_secret_is_named_with_the_command_that_sets_it(shared: BareCloud) -> None:
    values = json.loads(shared.environment["ANCLA_SECRETS"])
    del values["app"]["JWT_PRIVATE_KEY"]
    kept = shared.environment
    shared.environment = {**kept, "ANCLA_SECRETS": json.dumps(values)}
    try:
        done = shared.pulumi("preview", check=False)
    finally:
        shared.environment = kept
    found = diagnostics(done.stdout)
    assert done.returncode != 0
    assert len(found) == 1, found
    assert "secrets.app.JWT_PRIVATE_KEY" in found[0]
    assert "pulumi config set --secret" in found[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_a_sandbox_that_does_not_answer_is_one_line(shared: BareCloud) -> None:
    kept = shared.environment
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        shared.environment = {**kept, "DIGITALOCEAN_API_URL": address}
        try:
            done = shared.pulumi("preview", check=False)
        finally:
            shared.environment = kept
    found = diagnostics(done.stdout)
    assert done.returncode != 0
    assert len(found) == 1, found
    assert address in found[0]
    assert "make up" in found[0]


def test_a_port_that_is_taken_is_one_line_and_starts_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "sandbox", "start", "--home", str(tmp_path / "home"), "--port-base", str(port)],
            cwd=ROOT, text=True, capture_output=True, check=False, env={**os.environ, "ANCLA_SANDBOX_NAME": "taken"},
        )  # fmt: skip
    assert done.returncode != 0
    assert str(port) in done.stderr
    assert "--port-base" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    started = subprocess.run(
        ["docker", "ps", "-q", "--filter", "label=ancla.sandbox=taken"], text=True, capture_output=True, check=True
    )
    assert started.stdout == ""
