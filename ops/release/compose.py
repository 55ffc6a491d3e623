"""Build the compose project of a release. It contains no secret: services list names; values are in `.env`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import yaml

from blueprint.reference_text import references
from blueprint.references import CA_IN_CONTAINER
from blueprint.settings.services import HealthSettings, ServiceSettings

PROJECT = "app"
"""Name of the compose project on the droplet."""
_TEMPORARY = "/tmp:mode=1777,size=256m"  # noqa: S108 -- of a container; its memory counts as the service's own


def build_compose(
    services: Mapping[str, ServiceSettings],
    images: Mapping[str, str],
    environments: Mapping[str, Mapping[str, str | None]],
    ca_certificate: str | None,
) -> str:
    """Build compose.yaml.

    Args:
        services: of the app, by name; static files need no container.
        images: by service name, as `host/repository@sha256:…`.
        environments: variables by service name, as `ops.release.variables` builds them.
        ca_certificate: of the database, mounted read-only where it is used; None if there is no database.
    """
    document = {
        "name": PROJECT,
        "services": {
            container: _container(service, address, images[name], environments[name], ca_certificate)
            for name, service in services.items()
            for container, address in containers_of(name, service.containers)
        },
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def containers_of(service: str, instances: int) -> list[tuple[str, str]]:
    """Return the service's containers, by their names in compose.yaml, and the loopback address each is published on.

    An address each lets instances keep one port, and lets a release ask every one of them. No service has a dot in its
    name, so that no two containers have one name.
    """
    return [(service if n == 1 else f"{service}.{n}", f"127.0.0.{n}") for n in range(1, instances + 1)]


def _container(
    service: ServiceSettings,
    address: str,
    image: str,
    environment: Mapping[str, str | None],
    ca_certificate: str | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "image": image,
        "restart": "unless-stopped",
        "init": True,
        "stop_grace_period": "30s",
        "security_opt": ["no-new-privileges:true"],
        "cap_drop": ["ALL"],
        "pids_limit": 1024,
        "environment": dict(environment),
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
        "cap_add": list(service.capabilities),
        "read_only": service.read_only,
        "tmpfs": [_TEMPORARY] if service.read_only else [],
        "command": _arguments(service.command or ()),
        "user": service.user,
        # loopback: the only way in is Nginx, whatever the firewalls allow
        "ports": [f"{address}:{service.port}:{service.port}"] if service.port is not None else [],
        "mem_limit": service.memory and int(service.memory),
        "cpus": service.cpus,
        "healthcheck": _health_check(service.proof),
        "depends_on": [use.removeprefix("services.") for use in service.uses if use.startswith("services.")],
    }
    if ca_certificate is not None and _reaches_database(service):
        found["volumes"] = [f"./ca.crt:{CA_IN_CONTAINER}:ro"]
        # A replaced file stays the old one inside a container: a new CA must recreate the containers.
        found["labels"] = {"ancla.database-ca": hashlib.sha256(ca_certificate.encode()).hexdigest()[:16]}
    return {key: value for key, value in found.items() if value}


def _health_check(proof: HealthSettings) -> dict[str, Any] | None:
    """Return the check that Docker makes; None keeps the image's own, beside what the release itself asks."""
    if proof.none:
        return {"disable": True}
    if proof.command is None:
        return None
    test = ["CMD", *_arguments(proof.command)]
    return {"test": test, "interval": "10s", "timeout": "5s", "retries": 3, "start_period": "60s"}


def _arguments(command: tuple[str, ...]) -> list[str]:
    return [argument.replace("$", "$$") for argument in command]


def _reaches_database(service: ServiceSettings) -> bool:
    referred = (path.text for text in service.environment.values() for path in references(text))
    return any(name.partition(".")[0] == "database" for name in (*service.uses, *referred))
