"""Backups made on the machine itself, and what it cannot do with them."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from pyrage import DecryptError, decrypt, ssh  # pyright: ignore[reportMissingModuleSource]  # compiled in

from ops.repository.age import read_identities
from ops.repository.catalog import find, prefix_of
from ops.stack.outputs import load_stack
from ops.targets.destinations import store
from tests.hosts.staging import Staging

pytestmark = [pytest.mark.hosts, pytest.mark.containers]

AGE = re.compile(r"AGE-SECRET-KEY-1[0-9A-Z]{50}")
IDENTITIES = r"""
find / -xdev -type f -size -256k ! -path '/proc/*' ! -path '/sys/*' ! -path '/usr/*' ! -path '/opt/ancla/venv-*' \
  -exec grep -lE 'AGE-SECRET-KEY-1[0-9A-Z]{50}|BEGIN [A-Z ]*PRIVATE KEY' {} + || true
"""


@pytest.fixture(scope="module")
def made(staging: Staging) -> dict[str, object]:
    return json.loads(staging.on_droplet("ops backup create --name app --json"))["backups"][0]


@pytest.fixture(scope="module")
def sealed(staging: Staging, made: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One object of the backup as it is stored."""
    outputs = tmp_path_factory.mktemp("outputs") / "outputs.json"
    outputs.touch(mode=0o600)
    outputs.write_text(staging.work.pulumi("outputs", "stack", "output", "--json", "--show-secrets", quiet=True))
    loaded = load_stack(outputs_file=outputs)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HTTPS_PROXY", "AWS_CA_BUNDLE"):
            patch.setenv(name, staging.work.environment[name])
        bucket = store(loaded)
        manifest = find(bucket, "app", str(made["id"]))
        with bucket.open(prefix_of("app", manifest.id) + manifest.objects[0].key) as body:
            return body.read()


def test_ops_on_the_machine_sees_its_environment(staging: Staging) -> None:
    probes = json.loads(staging.on_droplet("ops status --json"))["probes"]
    assert {probe["part"] for probe in probes} >= {"droplet", "database"}, probes
    assert [probe for probe in probes if probe["state"] == "down"] == []


@pytest.mark.long
def test_the_machine_cannot_read_the_backup_it_made(staging: Staging, made: dict[str, object], sealed: bytes) -> None:
    """Every private key that lies on the machine is tried on it, whatever it is for."""
    found = [staging.on_droplet(f"base64 '{path}'") for path in staging.on_droplet(IDENTITIES).splitlines()]
    keys = [base64.b64decode(text).decode("latin-1") for text in found]  # programs name such headers too
    assert any("PRIVATE KEY" in text for text in keys), "the host key at least is there: the search works"
    assert not any(AGE.search(text) for text in keys)
    assert AGE.search(Path(staging.work.environment["ANCLA_IDENTITY"]).read_text()), "and would be known"
    tried = 0
    for text in keys:
        for block in text.replace("\\n", "\n").split("-----BEGIN ")[1:]:
            pem = "-----BEGIN " + block.partition("-----END ")[0] + "-----END " + block.partition("-----END ")[2]
            try:
                identity = ssh.Identity.from_buffer(pem.partition('"')[0].strip().encode() + b"\n")
            except Exception:  # noqa: BLE001 - not a key of a kind that age knows: it opens nothing
                continue
            tried += 1
            with pytest.raises(DecryptError):
                decrypt(sealed, [identity])
    assert tried > 0
    done = staging.on_droplet("ops drill --name app --evidence /tmp/drill 2>&1 || echo exit $?; rm -rf /tmp/drill")
    assert "exit 1" in done, done
    assert "give the identity" in done
    alerts = json.loads(staging.on_droplet("ops watch alerts --json || true; rm -f /var/lib/ancla/watch.json"))
    assert [alert["runbook"] for alert in alerts["alerts"]] == ["drill-red"], "a drill that cannot be held is told"


def test_who_holds_the_identity_reads_it(staging: Staging, sealed: bytes) -> None:
    identities = read_identities(Path(staging.work.environment["ANCLA_IDENTITY"]))
    assert decrypt(sealed, list(identities))[:4] == b"\x28\xb5\x2f\xfd", "zstd's magic number"
