"""The canaries planted before the first `up` are nowhere in clear. Runs last, over all that the session left."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.hosts.staging import CANARY_PASSWORD, CANARY_VARIABLE, Staging
from tools.environment import ROOT

pytestmark = [pytest.mark.hosts, pytest.mark.containers, pytest.mark.last]
CANARIES = {"database password": CANARY_PASSWORD, "app variable": CANARY_VARIABLE}


def spellings(secret: str) -> dict[str, bytes]:
    """Return every form in which a secret could stand somewhere. Base64 is of each of the three alignments."""
    raw = secret.encode()
    forms = {
        "plain": raw,
        "URL-encoded": quote(secret, safe="").encode(),
        "JSON-escaped": json.dumps(secret)[1:-1].encode(),
        "JSON-escaped, raw": json.dumps(secret, ensure_ascii=False)[1:-1].encode(),
        "JSON in JSON": json.dumps(json.dumps(secret)[1:-1])[1:-1].encode(),
    }
    for shift in range(3):
        # Without the characters at either end that depend on the neighbours.
        forms[f"base64 at {shift}"] = base64.b64encode(b"\0" * shift + raw)[2 * shift : -4].lstrip(b"=")[2:]
    return forms


def leaks(text: bytes) -> list[str]:
    return [
        f"{name}, {form}"
        for name, secret in CANARIES.items()
        for form, spelling in spellings(secret).items()
        if spelling in text
    ]


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.mark.parametrize("form", sorted(spellings("x" * 12)))
def test_a_leak_planted_on_purpose_is_found(form: str) -> None:
    for name, secret in CANARIES.items():
        planted = b"some log: \x00" + spellings(secret)[form] + b" and so on"
        assert any(leak.startswith(name) for leak in leaks(planted))
    encoded = base64.b64encode(b"password=" + CANARY_PASSWORD.encode() + b"&more")
    assert leaks(encoded)


def test_the_canaries_are_in_use(staging: Staging) -> None:
    """Without this, everything below would hold of secrets that nobody has."""
    environment = staging.on_droplet("cat /opt/ancla/app/.env /opt/ancla/app/*.env 2>/dev/null || true")
    assert leaks(environment.encode())
    mode = staging.on_droplet("stat -c '%a %U' /opt/ancla/app/.env").strip()
    assert mode == "600 root"


def test_no_state_file_holds_them(staging: Staging) -> None:
    looked_at = list(files(staging.home / "state"))
    assert any(path.name == "staging.json" for path in looked_at)
    for path in looked_at:
        assert leaks(path.read_bytes()) == [], path


@pytest.mark.long
def test_no_output_of_the_engine_or_of_ops_holds_them(staging: Staging) -> None:
    staging.pulumi("preview", "--diff")
    staging.pulumi("up", "--yes", "--diff")
    assert "Updating" in staging.transcript
    assert leaks(staging.transcript.encode()) == []


def test_no_journal_or_log_of_the_sandbox_holds_them(staging: Staging) -> None:
    looked_at = [path for path in files(staging.home) if path.suffix in (".jsonl", ".log")]
    assert any("journal" in path.name for path in looked_at)
    for path in looked_at:
        assert leaks(path.read_bytes()) == [], path


def test_no_command_line_held_them(staging: Staging) -> None:
    assert any(b"pulumi up" in line for line in staging.command_lines), "command lines were watched"
    for line in staging.command_lines:
        assert leaks(line) == [], line[:200]


def test_no_log_on_the_droplet_holds_them(staging: Staging) -> None:
    logs = subprocess.run(
        [
            "docker",
            "exec",
            staging.container("droplet"),
            "bash",
            "-c",
            "journalctl --no-pager; cat /var/log/*.log /var/log/*/*.log; docker ps -q | xargs -n1 docker logs",
        ],
        check=False,
        capture_output=True,
    )
    assert b"sshd" in logs.stdout
    assert leaks(logs.stdout + logs.stderr) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "broken", "mended"),
    [
        (
            "-converge-",
            "mv /usr/bin/apt-get /usr/bin/apt-get.away; mv /usr/sbin/ufw /usr/sbin/ufw.away",
            "mv /usr/bin/apt-get.away /usr/bin/apt-get; mv /usr/sbin/ufw.away /usr/sbin/ufw",
        ),
        # the document of ops has every secret of the environment
        ("-ops-", "mv /etc/ancla /etc/ancla.away; touch /etc/ancla", "rm /etc/ancla; mv /etc/ancla.away /etc/ancla"),
    ],
)
def test_a_failing_bootstrap_prints_nothing_of_them(staging: Staging, name: str, broken: str, mended: str) -> None:
    state = json.loads(staging.pulumi("stack", "export").stdout)["deployment"]["resources"]
    urn = next(r["urn"] for r in state if r["type"] == "command:local:Command" and name in r["urn"].split("::")[-1])
    staging.on_droplet(broken)
    try:
        failed = staging.pulumi("up", "--yes", "--skip-preview", "--target", urn, "--replace", urn, check=False)
    finally:
        staging.on_droplet(mended)
    assert failed.returncode != 0
    assert leaks((failed.stdout + failed.stderr).encode()) == []
    staging.pulumi("up", "--yes", "--skip-preview")
    assert leaks((ROOT / "Pulumi.staging.yaml").read_bytes()) == []
