"""What `${group.field}` in a stack file may refer to, and its value.

One table says what may be referred to, and one what a service is given for what it `uses`. Values come from the
stack's outputs, where a release or a droplet's files are rendered; those that are secret never are in plain outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from blueprint.names import did_you_mean
from blueprint.outputs import AppBucketOutput, BucketKey, DatabaseOutput, EnvironmentOutputs, OutputSecrets
from blueprint.reference_text import references

CA_IN_CONTAINER = "/run/ancla/database-ca.crt"
"""Path of the database's CA certificate in a container that uses the database, or refers to it."""


Value = Callable[[EnvironmentOutputs, OutputSecrets, str], str | None]
"""How a value is found: from the outputs, their secrets and the name in the path. None: there is none."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What may be referred to. `path` has `*` for a name, which `value` is given."""

    path: str
    meaning: str
    example: str
    value: Value
    secret: bool = False


def _of_database(value: Callable[[DatabaseOutput], str | None]) -> Value:
    return lambda outputs, _, __: value(outputs.database) if outputs.database else None


def _password(outputs: EnvironmentOutputs, secrets: OutputSecrets, _: str) -> str | None:
    if outputs.database is None or secrets.database_password is None:
        return None
    return secrets.database_password.get_secret_value()


def _database_url(*, pool: bool) -> Value:
    def build(outputs: EnvironmentOutputs, secrets: OutputSecrets, name: str) -> str | None:
        database, password = outputs.database, _password(outputs, secrets, name)
        if database is None or password is None:
            return None
        port, path = database.port, database.databases[0]
        if pool and database.app_pool is not None and database.pool_port is not None:
            port, path = database.pool_port, database.app_pool.name
        login = f"{quote(database.user, safe='')}:{quote(password, safe='')}"
        return (
            f"postgresql://{login}@{database.private_host}:{port}/{quote(path, safe='')}"
            f"?sslmode=verify-full&sslrootcert={CA_IN_CONTAINER}"
        )

    return build


def _of_bucket(value: Callable[[AppBucketOutput], str]) -> Value:
    return lambda outputs, _, name: value(outputs.buckets[name]) if name in outputs.buckets else None


def _of_key(value: Callable[[BucketKey], str]) -> Value:
    def build(outputs: EnvironmentOutputs, secrets: OutputSecrets, name: str) -> str | None:
        key = secrets.bucket_keys.get(name) if name in outputs.buckets else None
        return value(key) if key else None

    return build


def _origin(bucket: AppBucketOutput) -> str:
    url = urlsplit(bucket.url)
    return f"{url.scheme}://{url.netloc}"


def _service_url(outputs: EnvironmentOutputs, _: OutputSecrets, name: str) -> str | None:
    service = outputs.services.get(name)
    return f"http://{name}:{service.port}" if service and service.port else None


_URL = "postgresql://app:PASSWORD@HOST:PORT/NAME?sslmode=verify-full&sslrootcert=" + CA_IN_CONTAINER

REFERENCES: tuple[Reference, ...] = (
    Reference(
        path="edge.url",
        meaning="Public address of the app, without a trailing slash.",
        example="https://example.org",
        value=lambda outputs, _, __: f"https://{outputs.domain}",
    ),
    Reference(
        path="edge.host",
        meaning="Public name of the app.",
        example="example.org",
        value=lambda outputs, _, __: outputs.domain,
    ),
    Reference(
        path="database.url",
        meaning="PostgreSQL, through the connection pool if there is one. For queries.",
        example=_URL,
        value=_database_url(pool=True),
        secret=True,
    ),
    Reference(
        path="database.directUrl",
        meaning="PostgreSQL, bypassing the pool. For migrations and LISTEN.",
        example=_URL,
        value=_database_url(pool=False),
        secret=True,
    ),
    Reference(
        path="database.host",
        meaning="Host of PostgreSQL in the private network.",
        example="private-db.example.org",
        value=_of_database(lambda database: database.private_host),
    ),
    Reference(
        path="database.port",
        meaning="Port of PostgreSQL, bypassing the pool.",
        example="25060",
        value=_of_database(lambda database: str(database.port)),
    ),
    Reference(
        path="database.name",
        meaning="Name of the app's database.",
        example="app",
        value=_of_database(lambda database: database.databases[0]),
    ),
    Reference(
        path="database.user",
        meaning="User of the app's database.",
        example="app",
        value=_of_database(lambda database: database.user),
    ),
    Reference(
        path="database.password", meaning="Password of that user.", example="PASSWORD", value=_password, secret=True
    ),
    Reference(
        path="database.sslMode",
        meaning="libpq's sslmode that needs no file. `database.url` verifies the server, by `database.caFile`.",
        example="require",
        value=_of_database(lambda _: "require"),
    ),
    Reference(
        path="database.caFile",
        meaning="File in the container with the certificate that PostgreSQL's own is verified by.",
        example=CA_IN_CONTAINER,
        value=_of_database(lambda _: CA_IN_CONTAINER),
    ),
    Reference(
        path="buckets.*.bucket",
        meaning="Name of the bucket.",
        example="BUCKET",
        value=_of_bucket(lambda bucket: bucket.bucket.name),
    ),
    Reference(
        path="buckets.*.region",
        meaning="Region of the bucket.",
        example="nyc3",
        value=_of_bucket(lambda bucket: bucket.bucket.region),
    ),
    Reference(
        path="buckets.*.endpoint",
        meaning="S3 endpoint of the bucket, without the bucket's name.",
        example="https://nyc3.digitaloceanspaces.com",
        value=_of_bucket(lambda bucket: bucket.bucket.endpoint),
    ),
    Reference(
        path="buckets.*.key",
        meaning="Key that may read and write only that bucket.",
        example="KEY",
        value=_of_key(lambda key: key.access_key),
        secret=True,
    ),
    Reference(
        path="buckets.*.secret",
        meaning="Secret half of that key.",
        example="SECRET",
        value=_of_key(lambda key: key.secret_key.get_secret_value()),
        secret=True,
    ),
    Reference(
        path="buckets.*.url",
        meaning="Base URL of its objects (the CDN if there is one), without a trailing slash.",
        example="https://BUCKET.REGION.cdn.digitaloceanspaces.com",
        value=_of_bucket(lambda bucket: bucket.url),
    ),
    Reference(
        path="buckets.*.origin",
        meaning="Scheme and host of that URL, as a content security policy names it.",
        example="https://BUCKET.REGION.cdn.digitaloceanspaces.com",
        value=_of_bucket(_origin),
    ),
    Reference(
        path="buckets.*.acl",
        meaning="ACL to upload an object with (`x-amz-acl`): public-read, and everybody reads it, or private.",
        example="public-read",
        value=_of_bucket(lambda bucket: bucket.acl),
    ),
    Reference(
        path="services.*.url",
        meaning="Address of another service in the app's own network.",
        example="http://api:3001",
        value=_service_url,
    ),
)

USES: Mapping[str, Mapping[str, str]] = {
    "database": {"DATABASE_URL": "database.url", "DATABASE_DIRECT_URL": "database.directUrl"},
    "buckets.*": {
        f"SPACES_*_{field.upper()}": f"buckets.*.{field}"
        for field in ("bucket", "region", "endpoint", "key", "secret", "url", "acl")
    },
    "services.*": {"SERVICE_*_URL": "services.*.url"},
}
"""What a service is given for each thing that it uses: names of variables and what they refer to."""


def find(path: str) -> tuple[Reference, str] | None:
    """Return what a path refers to, and the name in it; None of a path that is in no row."""
    group, _, rest = path.partition(".")
    name, _, field = rest.rpartition(".")
    for reference in REFERENCES:
        if reference.path in (path, f"{group}.*.{field}" if name else ""):
            return reference, name
    return None


def variables_of(use: str) -> dict[str, str]:
    """Return the variables that a use gives, and the path that each refers to."""
    group, _, name = use.partition(".")
    spelled = name.upper().replace("-", "_")
    table = USES.get(use if not name else f"{group}.*", {})
    return {variable.replace("*", spelled): path.replace("*", name) for variable, path in table.items()}


def known(groups: Iterable[str]) -> list[str]:
    """Return every path that may be referred to in an environment of these groups, such as `buckets.assets`."""
    found: list[str] = []
    for group in ("edge", *groups):
        kind, _, name = group.partition(".")
        below = f"{kind}.*." if name else f"{kind}."
        found += [reference.path.replace("*", name) for reference in REFERENCES if reference.path.startswith(below)]
    return found


def nearest(word: str, known: Iterable[str]) -> str:
    """Return what to write instead of a name that is not there: the nearest one, or all."""
    names = list(known)
    return did_you_mean(word, names) or f"there are: {', '.join(names) or 'none'}"


def problem_of(text: str, paths: Iterable[str], *, secret: bool = True) -> str | None:
    """Return what is wrong with the references of a text: the first one to nothing, and what to write instead.

    Args:
        text: of the stack file.
        paths: what may be referred to.
        secret: whether the text may have secret values.
    """
    paths = list(paths)
    for reference in references(text):
        if reference.text not in paths:
            return f"${{{reference.text}}} refers to nothing; {nearest(reference.text, paths)}"
        row = find(reference.text)
        if not secret and row is not None and row[0].secret:
            return f"${{{reference.text}}} is secret, and everybody would read it here; remove it"
    return None
