"""Environments built from the committed stack files, with keys made for the run, and what they registered."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from blueprint.pulumi_config import load_stack_file
from blueprint.settings.environment import EnvironmentSettings
from components.environment import Environment, EnvironmentArgs
from components.guard import Account
from tests.components.kit import Recording, run_program

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-0f3b9c"


class Replacement(dict[str, Any]):
    """A group that takes the place of the stack file's, instead of changing keys of it."""


@cache
def made_secrets() -> str:
    def key() -> str:
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        return pem.decode()

    values = {
        "deployKey": key(),
        "bootstrapHostKey": key(),
        "hostKey": key(),
        "backupSigningKey": key(),
        "app": {"JWT_PRIVATE_KEY": CANARY},
    }
    return json.dumps(values)


def load(stack: str, changes: dict[str, Any] | None = None) -> EnvironmentSettings:
    """The settings of a committed stack file, with top-level groups changed key by key."""
    settings = load_stack_file(ROOT / f"Pulumi.{stack}.yaml", environ={"ANCLA_SECRETS": made_secrets()})
    values = settings.model_dump(mode="json", by_alias=True)
    values["secrets"] = json.loads(made_secrets())
    for key, value in (changes or {}).items():
        grows = isinstance(value, dict) and isinstance(values[key], dict) and not isinstance(value, Replacement)
        values[key] = {**values[key], **value} if grows else value
    return EnvironmentSettings.model_validate(values)


def record(
    stack: str,
    changes: dict[str, Any] | None = None,
    *,
    preview: bool = False,
    outputs: dict[str, dict[str, Any]] | None = None,
) -> Recording:
    settings = load(stack, changes)

    def program() -> dict[str, Any]:
        account = Account(uuid="11111111-2222-4333-8444-555555555555", endpoint="http://127.0.0.1:8470")
        name = f"{settings.project}-{settings.environment}"
        return Environment(name, EnvironmentArgs(settings=settings, account=account)).exports

    return run_program(program, preview=preview, stack=stack, outputs=outputs)


@pytest.fixture(scope="session")
def prod() -> Recording:
    return record("prod")


@pytest.fixture(scope="session")
def staging() -> Recording:
    return record("staging")


@pytest.fixture
def build() -> Callable[..., Recording]:
    return record
