"""Ancla as its users run it: `python -m ops` with an outputs file, as on a machine."""

from __future__ import annotations

import json
from pathlib import Path

from bench.backup.data import ADMIN, DATABASE, OWNER
from bench.backup.place import Place
from blueprint.outputs import EnvironmentOutputs


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
                "pools": {},
                "pool_port": None,
                "ca_certificate": server.certificate.read_text(),
            },
            "buckets": {},
            "registry": {"name": "bench", "endpoint": "registry.example.org/bench"},
            "services": {},
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
