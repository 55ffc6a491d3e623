"""What a stack gives back parses into the contract, and its secrets are in one place."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from blueprint.outputs import EnvironmentOutputs, OutputSecrets, OutputsError, SecretsFile, parse_outputs
from tests.components.conftest import CANARY, Replacement, made_secrets
from tests.components.kit import Recording


@pytest.mark.parametrize("stack", ["prod", "staging"])
def test_exports_parse_into_the_contract(stack: str, request: pytest.FixtureRequest):
    recording: Recording = request.getfixturevalue(stack)

    outputs = parse_outputs(json.loads(json.dumps(recording.result)))

    assert outputs.environment == stack
    assert outputs.droplets[0].address == "203.0.113.5"
    assert outputs.database is not None
    assert outputs.database.databases == ["app"]
    assert isinstance(outputs.secrets, OutputSecrets)
    assert outputs.secrets.database_password is not None
    assert outputs.secrets.database_password.get_secret_value() == "user-password"
    assert len(outputs.secrets.backup_keys) == len(outputs.backup.destinations)


def test_every_field_is_one_stack_output(prod: Recording):
    assert prod.result.keys() == EnvironmentOutputs.model_fields.keys()


def test_all_that_is_secret_is_in_the_one_output(prod: Recording):
    clear = json.dumps({key: value for key, value in prod.result.items() if key != "secrets"})

    for word in (CANARY, "user-password", "admin-password", "spaces-secret", "PRIVATE KEY"):
        assert word not in clear
        assert word in json.dumps(prod.result["secrets"]), "a check that could never fail"
    assert json.loads(made_secrets())["deployKey"] == prod.result["secrets"]["deploy_key"]


def test_what_a_machine_gets_parses_into_the_contract(prod: Recording):
    document = json.loads(prod.one("Command", "-ops-command").inputs["stdin"])

    outputs = parse_outputs(document["outputs"])
    assert isinstance(outputs.secrets, SecretsFile)
    OutputSecrets.model_validate(document["secrets"])


def test_an_environment_without_database_and_buckets_exports_too(build: Callable[..., Recording]):
    services = {"web": {"image": "web:1"}, "api": {"image": "api:1"}}
    changes = {"database": Replacement({"kind": "none"}), "buckets": Replacement(), "services": services}
    recording = build("staging", changes)

    outputs = parse_outputs(recording.result)
    assert outputs.database is None
    assert outputs.buckets == {}
    assert not recording.of_type("DatabaseCluster")
    assert not [item for item in recording.of_type("Command") if "grants" in item.name]


def test_an_environment_without_a_registry_exports_none(build: Callable[..., Recording]):
    elsewhere = {"web": {"image": f"ghcr.io/team/web:1.0.0@sha256:{'0' * 64}", "port": 3000}}
    recording = build("staging", {"registry": None, "services": Replacement(elsewhere)})

    assert parse_outputs(recording.result).registry is None
    assert not [item for item in recording.of_type("Command") if "images" in item.name]


def test_hidden_secrets_are_refused_with_the_command_that_shows_them(prod: Recording):
    with pytest.raises(OutputsError, match="--show-secrets"):
        parse_outputs({**prod.result, "secrets": "[secret]"})
