"""Plan a release as one value: everything the droplet needs, decided on the workstation, printable beforehand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, SecretStr

from blueprint.outputs import EnvironmentOutputs, OutputSecrets
from blueprint.settings.services import ServiceSettings
from ops.core.errors import ReleaseError
from ops.release.compose import build_compose, containers_of
from ops.release.routes import build_routes, build_upstreams, owner_of
from ops.release.variables import build_dotenv, build_environment


class StaticFiles(BaseModel):
    """Files of a static service: `folder` of its image is copied to `root` (a name), below each of `paths`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str
    root: str
    paths: tuple[str, ...]


class PlannedService(BaseModel):
    """A service of the release. `image` is pinned by digest; `public_path` is probed through Nginx (None: private).

    It works if `health_path` answers on `port`; without one if the port takes a connection; without a port if Docker
    finds it running, and healthy. `user` is the one that the stack file names, None: the image's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    image: str
    instances: int
    static: StaticFiles | None
    user: str | None
    port: int | None
    health_path: str | None
    public_path: str | None
    public_is_health: bool

    @property
    def containers(self) -> list[tuple[str, str]]:
        """Return the names of its containers in compose.yaml, and the loopback address of each."""
        return containers_of(self.name, self.instances)


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
        digests: `sha256:…` by service name, of those whose image has none.
        registry_login: a Docker config.json with permission to pull.

    Raises:
        ReleaseError: a secret or the registry is missing, or a service refers to what the environment has not.
    """
    if not outputs.services:
        raise ReleaseError(f"{outputs.environment}: the stack has no services; add ancla:services and run `pulumi up`")
    environment = build_environment(outputs, secrets)
    images = {name: _pinned(outputs, name, digests) for name in outputs.services}
    ca_certificate = outputs.database.ca_certificate if outputs.database else None
    services = tuple(
        _planned(name, service, images[name], outputs.services) for name, service in outputs.services.items()
    )
    return ReleasePlan(
        environment=outputs.environment,
        domain=outputs.domain,
        services=services,
        compose=build_compose(outputs.services, images, environment.services, ca_certificate),
        upstreams=build_upstreams(outputs.services),
        routes=build_routes(outputs.services, {one.name: one.static.root for one in services if one.static}),
        ca_certificate=ca_certificate,
        variables=tuple(environment.dotenv),
        dotenv=SecretStr(build_dotenv(environment.dotenv)),
        secret_values=_secret_values(environment.dotenv, secrets),
        registry=outputs.registry.endpoint if outputs.registry else "",
        registry_login=SecretStr(registry_login),
    )


def _pinned(outputs: EnvironmentOutputs, name: str, digests: Mapping[str, str]) -> str:
    image = outputs.services[name].reference
    place = image.host or (outputs.registry.endpoint if outputs.registry else None)
    if place is None:
        raise ReleaseError(
            f"services.{name}.image: {image.repository}: the stack has no registry; write ancla:registry"
        )
    return f"{place}/{image.repository}@{image.digest or digests[name]}"


def _planned(
    name: str, service: ServiceSettings, image: str, services: Mapping[str, ServiceSettings]
) -> PlannedService:
    proof = service.proof
    public_is_health = proof.path is not None and owner_of(proof.path, services) == name
    first = service.routes[0] if service.routes else None
    return PlannedService(
        name=name,
        version=service.reference.version,
        image=image,
        instances=service.containers,
        static=_static(service, image),
        user=service.user,
        port=service.port if proof.path or proof.tcp else None,
        health_path=proof.path,
        public_path=proof.path if public_is_health else first and first.path,
        # A file that answers for what is not there answers always.
        public_is_health=public_is_health or bool(first and first.fallback),
    )


def _static(service: ServiceSettings, image: str) -> StaticFiles | None:
    if service.from_folder is None:
        return None
    paths = tuple(route.path for route in service.routes)
    root = hashlib.sha256("\n".join((image, service.from_folder, *paths)).encode()).hexdigest()[:16]
    return StaticFiles(folder=service.from_folder, root=root, paths=paths)


def _secret_values(dotenv: Mapping[str, str], secrets: OutputSecrets) -> tuple[SecretStr, ...]:
    hidden = set(dotenv.values())
    if secrets.database_password is not None:
        password = secrets.database_password.get_secret_value()
        hidden |= {password, quote(password, safe="")}
    # redacting an empty or tiny value would remove harmless text
    return tuple(SecretStr(value) for value in sorted(hidden) if len(value) >= 4)
