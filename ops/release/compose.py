"""Build the compose project of a release. It contains no secret: services list names; values are in `.env`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from blueprint.settings.services import ServiceSettings
from ops.release.variables import CA_IN_CONTAINER

PROJECT = "app"
"""Name of the compose project on the droplet."""


def build_compose(
    services: Sequence[ServiceSettings],
    images: Mapping[str, str],
    shared: Sequence[str],
    ca_certificate: str | None,
) -> str:
    """Build compose.yaml.

    Args:
        services: of the app.
        images: by service name, as `host/repository@sha256:…`.
        shared: names of the variables that every service gets from `.env`.
        ca_certificate: of the database, mounted read-only; None if there is no database.
    """
    document = {
        "name": PROJECT,
        "services": {
            service.name: _service(service, images[service.name], shared, ca_certificate) for service in services
        },
    }
    head = "# Written by Ancla; changes here are undone by the next release.\n"
    return head + yaml.safe_dump(document, sort_keys=False, width=120)


def version_of(service: ServiceSettings) -> str:
    """Return the tag of the service's image."""
    repository, separator, tag = service.image.rpartition(":")
    return tag if separator and repository else "latest"


def _service(service: ServiceSettings, image: str, shared: Sequence[str], ca_certificate: str | None) -> dict[str, Any]:
    environment: dict[str, str | None] = dict.fromkeys([*shared, *service.secrets])
    environment |= {"PORT": str(service.port), "VERSION": version_of(service)}
    environment |= {name: value.replace("$", "$$") for name, value in service.environment.items()}
    found: dict[str, Any] = {
        "image": image,
        "restart": "unless-stopped",
        "init": True,
        "stop_grace_period": "30s",
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": 1024,
        # loopback: the only way in is Nginx, whatever the firewalls allow
        "ports": [f"127.0.0.1:{service.port}:{service.port}"],
        "environment": environment,
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
    }
    if ca_certificate is not None:
        found["volumes"] = [f"./ca.crt:{CA_IN_CONTAINER}:ro"]
        # A replaced file stays the old one inside a container: a new CA must recreate the containers.
        found["labels"] = {"ancla.database-ca": hashlib.sha256(ca_certificate.encode()).hexdigest()[:16]}
    return found
