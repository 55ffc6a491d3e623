"""Plan a release as one value: everything the droplet needs, decided on the workstation, printable beforehand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, SecretStr

from blueprint.outputs import EnvironmentOutputs, OutputSecrets
from ops.core.errors import ReleaseError
from ops.release.compose import build_compose, version_of
from ops.release.routes import build_routes, build_upstreams, owner_of
from ops.release.variables import build_dotenv, build_environment, variables_of


class PlannedService(BaseModel):
    """A service of the release. `image` is pinned by digest; `public_path` is probed through Nginx (None: private)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    image: str
    port: int
    health_path: str
    public_path: str | None
    public_is_health: bool


class ReleasePlan(BaseModel):
    """The document sent to the droplet. `dotenv` and `registry_login` (a Docker config.json) are secret.

    `secret_values` must not appear in a message or in quoted log lines.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    environment: str
    domain: str
    services: tuple[PlannedService, ...]
    compose: str
    upstreams: str
    routes: str
    ca_certificate: str | None
    variables: tuple[str, ...]
    dotenv: SecretStr
    secret_values: tuple[SecretStr, ...]
    registry: str
    registry_login: SecretStr

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the release; the login is not part of it, since each deploy has its own."""
        document = self.document()
        del document["registry_login"]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def document(self) -> dict[str, Any]:
        """Return the plan as JSON values with unencrypted secrets: only for the droplet's stdin."""
        return {
            **self.model_dump(mode="json"),
            "dotenv": self.dotenv.get_secret_value(),
            "secret_values": [value.get_secret_value() for value in self.secret_values],
            "registry_login": self.registry_login.get_secret_value(),
        }

    def described(self) -> str:
        """Format the plan for a person: files as they will be, variables by name only."""
        services = "\n".join(f"  {s.name} {s.version}  {s.image}" for s in self.services)
        return "\n".join(
            (
                f"Release of {self.environment} ({self.domain}), {self.digest[:12]}",
                services,
                "",
                "── compose.yaml",
                self.compose,
                "── .env (values hidden)",
                *(f"{name}=…" for name in self.variables),
                "",
                "── Nginx upstreams",
                self.upstreams,
                "── Nginx routes",
                self.routes,
            )
        )


def build_plan(
    outputs: EnvironmentOutputs, secrets: OutputSecrets, digests: Mapping[str, str], registry_login: str
) -> ReleasePlan:
    """Plan the release of a stack's services.

    Args:
        outputs: of the stack.
        secrets: of the stack.
        digests: `sha256:…` by service name.
        registry_login: a Docker config.json with permission to pull.

    Raises:
        ReleaseError: a secret is missing, or a service uses a setting that is not supported yet.
    """
    if not outputs.services:
        raise ReleaseError(f"{outputs.environment}: the stack has no services; add ancla:services and run `pulumi up`")
    for service in outputs.services:
        if service.replicas > 1:
            raise ReleaseError(
                f"services.{service.name}.replicas: {service.replicas} is valid, but not supported yet; set 1"
            )
    values = build_environment(outputs, secrets)
    app_secrets = {name for service in outputs.services for name in service.secrets}
    images = {
        s.name: f"{outputs.registry.endpoint}/{repository_of(s.image)}@{digests[s.name]}" for s in outputs.services
    }
    ca_certificate = outputs.database.ca_certificate if outputs.database else None
    services: list[PlannedService] = []
    for service in outputs.services:
        public_is_health = owner_of(service.health_path, outputs.services) == service
        services.append(
            PlannedService(
                name=service.name,
                version=version_of(service),
                image=images[service.name],
                port=service.port,
                health_path=service.health_path,
                public_path=service.health_path if public_is_health else service.route,
                public_is_health=public_is_health,
            )
        )
    return ReleasePlan(
        environment=outputs.environment,
        domain=outputs.domain,
        services=tuple(services),
        compose=build_compose(
            outputs.services, images, [name for name in values if name not in app_secrets], ca_certificate
        ),
        upstreams=build_upstreams(outputs.services),
        routes=build_routes(outputs.services),
        ca_certificate=ca_certificate,
        variables=tuple(values),
        dotenv=SecretStr(build_dotenv(values)),
        secret_values=_secret_values(values, app_secrets, outputs, secrets),
        registry=outputs.registry.endpoint,
        registry_login=SecretStr(registry_login),
    )


def _secret_values(
    values: Mapping[str, str], app: set[str], outputs: EnvironmentOutputs, secrets: OutputSecrets
) -> tuple[SecretStr, ...]:
    known = variables_of(outputs.buckets)
    hidden = {values[variable.name] for variable in known if variable.secret and variable.name in values}
    hidden |= {values[name] for name in app}
    if secrets.database_password is not None:
        password = secrets.database_password.get_secret_value()
        hidden |= {password, quote(password, safe="")}
    # redacting an empty or tiny value would remove harmless text
    return tuple(SecretStr(value) for value in sorted(hidden) if len(value) >= 4)


def repository_of(image: str) -> str:
    """Return the repository part of `repository:tag`."""
    repository, separator, _ = image.rpartition(":")
    return repository if separator else image
