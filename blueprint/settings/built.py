"""What a stack file may ask for and Ancla does not build yet."""

from __future__ import annotations

from blueprint.settings.database import ManagedPostgresql
from blueprint.settings.environment import EnvironmentSettings


def not_built(settings: EnvironmentSettings) -> list[str]:
    """Name what the settings ask for that Ancla parses but does not build yet; empty when all of it is built."""
    found: list[str] = []
    if settings.topology.kind != "droplet":
        found.append(f"topology.kind: {settings.topology.kind}")
    if settings.database.kind not in ("managed-postgresql", "none"):
        found.append(f"database.kind: {settings.database.kind}")
    if isinstance(settings.database, ManagedPostgresql):
        if settings.database.read_replicas:
            found.append(f"database.readReplicas: {settings.database.read_replicas}")
        if settings.database.extensions:
            found.append(f"database.extensions: {', '.join(settings.database.extensions)}")
    if settings.cache is not None:
        found.append(f"cache.kind: {settings.cache.kind}")
    found += [f"extras: {name}" for name in settings.extras]
    found += [
        f"services[{index}].replicas: {service.replicas}"
        for index, service in enumerate(settings.services)
        if service.replicas > 1
    ]
    return found
