"""Inside a Pulumi program the same settings come from the engine's configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pulumi.runtime
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from blueprint.keys import KeyFormatError, public_line
from blueprint.pulumi_config import SettingsError, load_program, load_stack_file

ROOT = Path(__file__).resolve().parents[2]


def key(algorithm: Any = Ed25519PrivateKey) -> str:
    return algorithm.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


SECRETS = {
    "deployKey": key(),
    "bootstrapHostKey": key(),
    "hostKey": key(),
    "backupSigningKey": key(),
    "app": {"JWT_PRIVATE_KEY": "x"},
}


def engine(stack: str, **changes: Any) -> dict[str, str]:
    """What the engine hands to a program: texts, with JSON where the stack file has structure."""
    config: dict[str, Any] = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
    config.update({f"ancla:{name}": value for name, value in changes.items()})
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in config.items()
        if value is not None
    }
    return {"digitalocean:token": "not-ours", **texts}


@pytest.fixture(autouse=True)
def _empty_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(pulumi, "get_stack", lambda: "staging")
    monkeypatch.setattr(pulumi, "get_root_directory", lambda: str(tmp_path))
    pulumi.runtime.set_all_config({}, [])
    yield
    pulumi.runtime.set_all_config({}, [])


@pytest.mark.parametrize("stack", ["prod", "staging"])
def test_engine_and_file_give_the_same_settings(stack: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pulumi, "get_stack", lambda: stack)
    pulumi.runtime.set_all_config(engine(stack, secrets=SECRETS), ["ancla:secrets"])

    expected = load_stack_file(ROOT / f"Pulumi.{stack}.yaml", environ={"ANCLA_SECRETS": json.dumps(SECRETS)})
    assert load_program(environ={}) == expected


def test_the_engines_process_variables_are_read_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(engine("staging")))

    assert load_program(environ={"ANCLA_SECRETS": json.dumps(SECRETS)}).environment == "staging"


def test_an_environment_of_another_name_than_the_stack_is_refused(monkeypatch: pytest.MonkeyPatch):
    """A copied stack file would be a second stack that fights for the names of the first one's resources."""
    monkeypatch.setattr(pulumi, "get_stack", lambda: "demo")
    pulumi.runtime.set_all_config(engine("staging"), [])

    with pytest.raises(SettingsError) as caught:
        load_program(environ={"ANCLA_SECRETS": json.dumps(SECRETS)})

    assert len(caught.value.problems) == 1
    assert 'ancla:environment: found "staging", and the stack is demo (Pulumi.demo.yaml)' in str(caught.value)


def test_the_program_refuses_a_stack_file_of_two_readings(tmp_path: Path):
    """The engine hands on 1537, and nobody can tell from that what was written."""
    text = (ROOT / "Pulumi.staging.yaml").read_text()
    (tmp_path / "Pulumi.staging.yaml").write_text(text.replace("port: 3001", "port: 03001"))
    pulumi.runtime.set_all_config(engine("staging"), [])

    with pytest.raises(SettingsError, match=r"^ancla:services\.api\.port, line \d+: found 03001, which is read as"):
        load_program(environ={"ANCLA_SECRETS": json.dumps(SECRETS)})


def test_the_sandboxs_recipient_comes_beside_those_of_the_file():
    pulumi.runtime.set_all_config(engine("staging"), [])
    environ = {"ANCLA_SECRETS": json.dumps(SECRETS)}
    written = load_program(environ=environ).backup.recipients
    recipient = "age1jtrfz86cu0jhfl3t3mc97tumhsd7fny2yt5xxp74dlcsfyclkydqk6xelc"

    assert load_program(environ={**environ, "ANCLA_SANDBOX_RECIPIENT": recipient}).backup.recipients == (
        *written,
        recipient,
    )
    with pytest.raises(SettingsError, match="recipients"):
        load_program(environ={**environ, "ANCLA_SANDBOX_RECIPIENT": "nobody"})


def test_missing_secrets_are_named_with_the_command_that_makes_them():
    pulumi.runtime.set_all_config(engine("staging"), [])

    with pytest.raises(SettingsError) as caught:
        load_program(environ={})

    text = str(caught.value)
    for name in ("secrets.deployKey", "secrets.bootstrapHostKey", "secrets.hostKey", "secrets.app.JWT_PRIVATE_KEY"):
        assert f"ancla:{name}: is missing" in text
    assert "ops stack init" in text


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "topology",
            {"kind": "droplets", "size": "s-2vcpu-4gb", "count": 2, "balancer": {}},
            "topology.kind: droplets",
        ),
        (
            "topology",
            {"kind": "kubernetes", "pool": {"size": "s-2vcpu-4gb", "min": 1, "max": 3}},
            "topology.kind: kubernetes",
        ),
        ("topology", {"kind": "app-platform", "size": "apps-s-1vcpu-1gb"}, "topology.kind: app-platform"),
        (
            "topology",
            {"kind": "droplet", "size": "s-2vcpu-4gb", "volumes": {"data": "30G"}},
            "topology.volumes: {data: 30G}",
        ),
        ("topology", {"kind": "droplet", "size": "s-2vcpu-4gb", "balancer": {}}, "topology.balancer: {}"),
        (
            "edge",
            {"names": ["example.org"], "ports": {"tunnel": {"port": 51820, "protocol": "udp", "why": "WireGuard"}}},
            "edge.ports: {tunnel: {port: 51820, protocol: udp, why: WireGuard}}",
        ),
        ("edge", {"names": ["example.org"], "proxy": "cloudflare"}, "edge.proxy: cloudflare"),
        ("database", {"kind": "sqlite", "service": "web", "path": "db/leads.db"}, "database.kind: sqlite"),
        ("database", {"kind": "postgresql", "version": 17}, "database.kind: postgresql"),
        (
            "database",
            {
                "kind": "managed-postgresql",
                "size": "db-s-1vcpu-2gb",
                "replicas": {"reports": {"size": "db-s-1vcpu-2gb"}},
            },
            "database.replicas: {reports: {size: db-s-1vcpu-2gb}}",
        ),
        ("cache", {"kind": "managed-valkey", "size": "db-s-1vcpu-2gb"}, "cache.kind: managed-valkey"),
        ("cache", {"kind": "valkey"}, "cache.kind: valkey"),
        ("extras", ["grafana"], "extras: grafana"),
    ],
)
def test_what_is_not_built_yet_parses_and_is_refused_by_name(name: str, value: Any, expected: str):
    pulumi.runtime.set_all_config(engine("staging", **{name: value}), [])

    with pytest.raises(SettingsError) as caught:
        load_program(environ={"ANCLA_SECRETS": json.dumps(SECRETS)})

    assert caught.value.problems[0].startswith(f"ancla:{expected}: ")
    assert all(problem.endswith("not built yet") for problem in caught.value.problems)


def test_a_destination_outside_spaces_needs_its_key_pair():
    elsewhere = {"destinations": [{"bucket": "elsewhere", "endpoint": "https://s3.example.org"}]}
    pulumi.runtime.set_all_config(engine("staging", backup=elsewhere), [])
    pair = {"backupKeys": {"elsewhere": {"accessKey": "a", "secretKey": "b"}}}
    with pytest.raises(SettingsError, match=r"ancla:secrets\.backupKeys\.elsewhere: is missing"):
        load_program(environ={"ANCLA_SECRETS": json.dumps(SECRETS)})
    assert load_program(environ={"ANCLA_SECRETS": json.dumps({**SECRETS, **pair})}).backup.destinations


def test_a_value_encrypted_outside_secrets_is_refused_before_it_is_used():
    pulumi.runtime.set_all_config(engine("staging", region="canary-value"), ["ancla:region"])

    with pytest.raises(SettingsError, match="ancla:region: has an encrypted value") as caught:
        load_program(environ={})

    assert "canary-value" not in str(caught.value)


@pytest.mark.parametrize("name", ["deployKey", "bootstrapHostKey", "hostKey", "backupSigningKey"])
@pytest.mark.parametrize(
    "bad", ["canary-value", "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary-value\n-----END OPENSSH PRIVATE KEY-----\n"]
)
def test_a_key_that_is_no_key_is_one_line_without_it(name: str, bad: str):
    pulumi.runtime.set_all_config(engine("staging"), [])

    with pytest.raises(SettingsError, match=rf"ancla:secrets\.{name}: is not an OpenSSH private key") as caught:
        load_program(environ={"ANCLA_SECRETS": json.dumps({**SECRETS, name: bad})})

    assert "canary-value" not in str(caught.value)


def test_the_public_half_of_a_key():
    assert public_line(SecretStr(SECRETS["deployKey"])).startswith("ssh-ed25519 AAAA")
    with pytest.raises(KeyFormatError):
        public_line(SecretStr(""))
