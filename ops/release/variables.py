"""Define the environment of the app: every variable from Ancla, with its meaning and the source of its value.

One table is used for the `.env` on the droplet and the `.env.example` in the repository, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote

from blueprint.outputs import PRIVATE, PUBLIC_READ, AppBucketOutput, BucketKey, EnvironmentOutputs, OutputSecrets
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
)
"""In the order of `.env.example`. `VERSION` and `PORT`, and a service's own `environment`, are in compose.yaml."""


def bucket_variables(name: str) -> tuple[Variable, ...]:
    """Return the variables of one of the app's buckets, by its name in the stack file."""
    prefix = f"SPACES_{name.upper().replace('-', '_')}"

    def of_bucket(value: Callable[[AppBucketOutput], str]) -> Callable[[EnvironmentOutputs, OutputSecrets], str | None]:
        return lambda outputs, _: value(outputs.buckets[name]) if name in outputs.buckets else None

    def of_key(value: Callable[[BucketKey], str]) -> Callable[[EnvironmentOutputs, OutputSecrets], str | None]:
        return lambda _, secrets: value(secrets.bucket_keys[name]) if name in secrets.bucket_keys else None

    return (
        Variable(
            name=f"{prefix}_BUCKET",
            meaning=f"Name of the bucket {name} at Spaces.",
            example="BUCKET",
            value=of_bucket(lambda output: output.bucket.name),
        ),
        Variable(
            name=f"{prefix}_REGION",
            meaning="Region of that bucket.",
            example="nyc3",
            value=of_bucket(lambda output: output.bucket.region),
        ),
        Variable(
            name=f"{prefix}_ENDPOINT",
            meaning="S3 endpoint of that bucket, without the bucket's name.",
            example="https://nyc3.digitaloceanspaces.com",
            value=of_bucket(lambda output: output.bucket.endpoint),
        ),
        Variable(
            name=f"{prefix}_URL",
            meaning="Base URL of its objects (the CDN if there is one), without a trailing slash.",
            example="https://BUCKET.REGION.cdn.digitaloceanspaces.com",
            value=of_bucket(lambda output: output.url),
        ),
        Variable(
            name=f"{prefix}_ACL",
            meaning="ACL to upload an object with (`x-amz-acl`): public-read, and everybody reads it, or private.",
            example=PUBLIC_READ,
            value=of_bucket(lambda output: PUBLIC_READ if output.public else PRIVATE),
        ),
        Variable(
            name=f"{prefix}_KEY",
            meaning="Key that may read and write only that bucket.",
            example="KEY",
            value=of_key(lambda key: key.access_key),
            secret=True,
        ),
        Variable(
            name=f"{prefix}_SECRET",
            meaning="Secret half of that key.",
            example="SECRET",
            value=of_key(lambda key: key.secret_key.get_secret_value()),
            secret=True,
        ),
    )


def variables_of(buckets: Iterable[str]) -> tuple[Variable, ...]:
    """Return every variable of an app with these buckets."""
    return (*VARIABLES, *(variable for name in buckets for variable in bucket_variables(name)))


def build_environment(outputs: EnvironmentOutputs, secrets: OutputSecrets) -> dict[str, str]:
    """Return the variables shared by every service, and the app's own secrets, by name.

    Raises:
        ReleaseError: a service uses a secret that the stack lacks, or a name that compose itself reads.
    """
    known = variables_of(outputs.buckets)
    shared = {v.name: value for v in known if (value := v.value(outputs, secrets)) is not None}
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
