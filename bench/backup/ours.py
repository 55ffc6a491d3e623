"""Ancla as its users run it: `python -m ops` with an outputs file, as on a machine."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.backup.data import ADMIN, DATABASE, OWNER
from blueprint.outputs import EnvironmentOutputs

if TYPE_CHECKING:
    from bench.backup.place import Place


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of a run: age recipient and identity file, the key that signs manifests (public line and file)."""

    recipient: str
    identity: Path
    signer: str
    signing_key: Path


def make_keys(folder: Path) -> Keys:
    """Make an age identity and a signing key with the stock tools."""
    identity, signing = folder / "identity.txt", folder / "signing_key"

    def output(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    output("age-keygen", "-o", str(identity))
    output("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(signing))
    return Keys(
        recipient=output("age-keygen", "-y", str(identity)).strip(),
        identity=identity,
        signer=" ".join(signing.with_suffix(".pub").read_text().split()[:2]),
        signing_key=signing,
    )


def write_outputs(place: Place, *, bucket: str, port: int) -> Path:
    """Write the outputs and the secrets that `ops` reads on a machine; returns the file for `--outputs`.

    Args:
        place: the servers and the keys.
        bucket: the backup destination.
        port: of the database, or of the proxy before it.
    """
    keys, server, store = place.keys, place.server, place.store
    secrets = place.work / "secrets.json"
    secrets.touch(mode=0o600)
    secrets.write_text(
        json.dumps(
            {
                "database_password": server.password,
                "database_admin_password": server.password,
                "backup_keys": [{"access_key": store.access_key, "secret_key": store.secret_key}],
                "backup_signing_key": keys.signing_key.read_text(),
            }
        )
    )
    outputs = EnvironmentOutputs.model_validate(
        {
            "environment": "bench",
            "project": "ancla",
            "domain": "example.org",
            "region": "nyc3",
            "account": "bench",
            "droplets": [],
            "access": {"user": "deploy", "port": 22, "host_key": keys.signer},
            "database": {
                "id": "bench",
                "version": server.version.partition(".")[0],
                "host": "localhost",
                "private_host": "localhost",
                "port": port,
                "user": OWNER,
                "admin_user": ADMIN,
                "databases": [DATABASE],
                "pool_name": None,
                "pool_port": None,
                "ca_certificate": server.certificate.read_text(),
            },
            "assets": None,
            "registry": {"name": "bench", "endpoint": "registry.example.org/bench"},
            "services": [],
            "backup": {
                "destinations": [{"name": bucket, "region": "us-east-1", "endpoint": store.endpoint}],
                "recipients": [keys.recipient],
                "level": place.level,
                "signer": keys.signer,
                "signers": [keys.signer],
                "schedule": "*-*-* 03:00:00",
                "retention": {},
                "max_age_hours": 26,
                "rto_minutes": 60,
            },
            "secrets": {"file": str(secrets)},
        }
    )
    file = place.work / "outputs.json"
    file.write_text(outputs.model_dump_json(indent=1))
    return file
