"""The user data a droplet is born with, as a pure function: who may log in, and the host key to recognise it by."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

MAXIMUM_BYTES = 64 * 1024
"""DigitalOcean refuses longer user data."""


def build_cloud_config(*, user: str, authorized_keys: Sequence[str], host_key: str, host_key_public: str) -> str:
    """Return the cloud-config text.

    `host_key` is the bootstrap host key (private): the one secret in user data, replaced on the first contact, because
    anything on the droplet can read user data from the metadata service. Root never logs in.

    Raises:
        ValueError: the text is longer than DigitalOcean takes.
    """
    config = {
        "users": [
            {
                "name": user,
                "groups": ["sudo"],
                "shell": "/bin/bash",
                "lock_passwd": True,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": list(authorized_keys),
            }
        ],
        "disable_root": True,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host_key.strip() + "\n", "ed25519_public": host_key_public},
    }
    text = "#cloud-config\n" + yaml.safe_dump(config, sort_keys=False, width=4096)
    if len(text.encode()) > MAXIMUM_BYTES:
        raise ValueError(f"user data has {len(text.encode())} bytes; DigitalOcean takes {MAXIMUM_BYTES}")
    return text
