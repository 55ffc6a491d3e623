"""The pure builders: cloud-config, content hash, keyed hashes, names of records."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from blueprint.dns_records import relative
from components.cloud_init import MAXIMUM_BYTES, build_cloud_config
from components.credentials import credentials_of, keyed_hash
from components.dns_zone import absolute
from tests.components.conftest import load


def cloud_config(**changes: Any) -> str:
    values: dict[str, Any] = {
        "user": "deploy",
        "authorized_keys": ["ssh-ed25519 A"],
        "host_key": "KEY\n",
        "host_key_public": "ssh-ed25519 B",
    }
    return build_cloud_config(**{**values, **changes})


def test_only_the_named_user_logs_in_and_only_by_key():
    config = yaml.safe_load(cloud_config())

    assert cloud_config().startswith("#cloud-config\n")
    assert [user["name"] for user in config["users"]] == ["deploy"]
    assert config["users"][0]["ssh_authorized_keys"] == ["ssh-ed25519 A"]
    assert config["users"][0]["sudo"] == "ALL=(ALL) NOPASSWD:ALL"
    assert config["users"][0]["lock_passwd"] is True
    assert config["disable_root"] is True
    assert config["ssh_pwauth"] is False


def test_the_bootstrap_host_key_is_the_only_one():
    config = yaml.safe_load(cloud_config())

    assert config["ssh_keys"] == {"ed25519_private": "KEY\n", "ed25519_public": "ssh-ed25519 B"}
    assert config["ssh_deletekeys"] is True


def test_user_data_that_digitalocean_would_refuse_is_refused_here():
    with pytest.raises(ValueError, match=str(MAXIMUM_BYTES)):
        cloud_config(authorized_keys=["x" * MAXIMUM_BYTES])


def test_a_keyed_hash_needs_the_key():
    assert keyed_hash("key", "value") == keyed_hash("key", "value")
    assert keyed_hash("key", "value") != keyed_hash("key", "other")
    assert keyed_hash("key", "value") != keyed_hash("other", "value"), "a plain hash of a short secret can be guessed"


def test_credentials_do_not_show_themselves():
    credentials = credentials_of(load("staging"))

    assert "PRIVATE" not in repr(credentials)
    assert credentials.deploy_public.startswith("ssh-ed25519 ")


@pytest.mark.parametrize(("name", "expected"), [("a.example.org", "a.example.org."), ("a.", "a."), ("@", "@")])
def test_targets_end_with_a_dot(name: str, expected: str):
    assert absolute(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("@", "@"), ("www", "www"), ("example.org", "@"), ("www.example.org.", "www"), ("a.b.example.org", "a.b")],
)
def test_names_are_relative_to_the_zone(name: str, expected: str):
    assert relative(name, "example.org") == expected
