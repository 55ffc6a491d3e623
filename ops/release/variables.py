"""Define the environment of the app: every variable from Ancla, with its meaning and the source of its value.

One table is used for the `.env` on the droplet and the `.env.example` in the repository, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from blueprint.outputs import PUBLIC_READ, EnvironmentOutputs, OutputSecrets
from ops.core.errors import ReleaseError

CA_IN_CONTAINER = "/run/ancla/database-ca.crt"
"""Path of the database's CA certificate in a container."""

_RESERVED = ("COMPOSE_", "DOCKER_")


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A variable. `value` returns None if the environment has none; `example` is shown in .env.example."""

    name: str
    meaning: str
    example: str
    value: Callable[[EnvironmentOutputs, OutputSecrets], str | None]
    secret: bool = False


def _database_url(*, pool: bool) -> Callable[[EnvironmentOutputs, OutputSecrets], str | None]:
    def build(outputs: EnvironmentOutputs, secrets: OutputSecrets) -> str | None:
        database = outputs.database
        if database is None:
            return None
        if secrets.database_password is None:
            raise ReleaseError(
                f"{outputs.environment}: secrets.database_password is not in the outputs; run `pulumi up`"
            )
        port, name = database.port, database.databases[0]
        if pool and database.app_pool is not None and database.pool_port is not None:
            port, name = database.pool_port, database.app_pool.name
        password = quote(secrets.database_password.get_secret_value(), safe="")
        login = f"{quote(database.user, safe='')}:{password}"
        return (
            f"postgresql://{login}@{database.private_host}:{port}/{quote(name, safe='')}"
            f"?sslmode=verify-full&sslrootcert={CA_IN_CONTAINER}"
        )

    return build


_URL_EXAMPLE = "postgresql://app:PASSWORD@HOST:PORT/NAME?sslmode=verify-full&sslrootcert=" + CA_IN_CONTAINER

VARIABLES: tuple[Variable, ...] = (
    Variable(
        name="ENVIRONMENT",
        meaning="Name of the environment.",
        example="staging",
        value=lambda outputs, _: outputs.environment,
    ),
    Variable(
        name="APP_URL",
        meaning="Public address of the app, without a trailing slash.",
        example="https://example.org",
        value=lambda outputs, _: f"https://{outputs.domain}",
    ),
    Variable(
        name="DATABASE_URL",
        meaning="PostgreSQL, through the connection pool if there is one. For queries.",
        example=_URL_EXAMPLE,
        value=_database_url(pool=True),
        secret=True,
    ),
    Variable(
        name="DATABASE_DIRECT_URL",
        meaning="PostgreSQL, bypassing the pool. For migrations and LISTEN.",
        example=_URL_EXAMPLE,
        value=_database_url(pool=False),
        secret=True,
    ),
    Variable(
        name="ASSETS_URL",
        meaning="Base URL of public assets (the CDN if there is one), without a trailing slash.",
        example="https://BUCKET.REGION.cdn.digitaloceanspaces.com",
        value=lambda outputs, _: outputs.assets.url if outputs.assets else None,
    ),
    Variable(
        name="ASSETS_ACL",
        meaning="ACL to upload a public asset with (`x-amz-acl`). Without it only the key reads the object.",
        example=PUBLIC_READ,
        value=lambda outputs, _: PUBLIC_READ if outputs.assets else None,
    ),
    Variable(
        name="SPACES_BUCKET",
        meaning="Bucket of the public assets.",
        example="BUCKET",
        value=lambda outputs, _: outputs.assets.bucket.name if outputs.assets else None,
    ),
    Variable(
        name="SPACES_REGION",
        meaning="Region of that bucket.",
        example="nyc3",
        value=lambda outputs, _: outputs.assets.bucket.region if outputs.assets else None,
    ),
    Variable(
        name="SPACES_ENDPOINT",
        meaning="S3 endpoint of that bucket, without the bucket's name.",
        example="https://nyc3.digitaloceanspaces.com",
        value=lambda outputs, _: outputs.assets.bucket.endpoint if outputs.assets else None,
    ),
    Variable(
        name="SPACES_ACCESS_KEY_ID",
        meaning="Key that may read and write only that bucket.",
        example="KEY",
        value=lambda outputs, secrets: secrets.assets_key.access_key if outputs.assets and secrets.assets_key else None,
        secret=True,
    ),
    Variable(
        name="SPACES_SECRET_ACCESS_KEY",
        meaning="Secret half of that key.",
        example="SECRET",
        value=lambda outputs, secrets: (
            secrets.assets_key.secret_key.get_secret_value() if outputs.assets and secrets.assets_key else None
        ),
        secret=True,
    ),
)
"""In the order of `.env.example`. `VERSION` and `PORT`, and a service's own `environment`, are in compose.yaml."""


def build_environment(outputs: EnvironmentOutputs, secrets: OutputSecrets) -> dict[str, str]:
    """Return the variables shared by every service, and the app's own secrets, by name.

    Raises:
        ReleaseError: a service uses a secret that the stack lacks, or a name that compose itself reads.
    """
    shared = {v.name: value for v in VARIABLES if (value := v.value(outputs, secrets)) is not None}
    for service in outputs.services:
        for name in service.secrets:
            if name.startswith(_RESERVED):
                raise ReleaseError(
                    f"services.{service.name}.secrets: {name}: compose itself reads this name; choose another one"
                )
            if name not in secrets.app:
                raise ReleaseError(
                    f"services.{service.name}.secrets: {name} is not in secrets.app; "
                    f"`pulumi config set --secret --path 'ancla:secrets.app.{name}'`, then `pulumi up`"
                )
            shared[name] = secrets.app[name].get_secret_value()
    return dict(sorted(shared.items()))


def build_dotenv(values: dict[str, str]) -> str:
    """Build the text of `.env`: always double-quoted, which compose decodes correctly for every value except NUL."""
    lines = [f'{name}="{_escaped(value)}"' for name, value in values.items()]
    return "\n".join(["# Written by Ancla; changes here are undone by the next release.", *lines]) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
