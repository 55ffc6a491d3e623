"""What stands beside the app, from the catalogue: each entry that is known, and its options."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from blueprint.fields import Duration, PostgresName, Size, Slug, Written
from blueprint.host_names import check_domain
from blueprint.model import Settings

_HOW = "a change replaces its container"
_PATH = re.compile(r"/[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*")


def _place(value: str) -> str:
    if not value.startswith("/"):
        return check_domain(value)
    if not _PATH.fullmatch(value):
        raise ValueError(
            "is not a path: it begins with /, does not end with one, and has letters, digits, -, _, . and ~"
        )
    return value


Place = Annotated[str, AfterValidator(_place)]


class Extra(Settings):
    """The options that every entry has."""

    at: Place | None = Field(
        default=None,
        description=(
            "Host of the environment's zone or path, such as pg.example.org or /rest (default: not public, reached by "
            "a tunnel); changed in place."
        ),
    )
    login: Slug | None = Field(
        default=None,
        description="Name of access.logins whose password opens it (default: its own login alone); changed in place.",
    )
    memory: Size | None = Field(
        default=None, description=f"Most memory it may take (default: the catalogue's); {_HOW}."
    )
    volume: Slug | None = Field(
        default=None, description="Volume that holds its data (default: the only one); a change replaces its data."
    )


class PrometheusExtra(Extra):
    """Measurements of the machine, the databases, the cache and Nginx."""

    every: Duration = Field(default=Duration("60s"), description=f"How often it measures (default: 60s); {_HOW}.")
    retention: Duration = Field(
        default=Duration("15d"), description=f"How long measurements stay (default: 15d); {_HOW}."
    )
    containers: bool = Field(default=False, description=f"Whether each container is measured (default: false); {_HOW}.")


class PostgrestExtra(Extra):
    """A REST interface to one schema of the database."""

    schema_: PostgresName = Field(
        default="public", alias="schema", description=f"Schema that is shown (default: public); {_HOW}."
    )
    role: PostgresName = Field(
        default="web_anon", description=f"Role of who is not logged in (default: web_anon); {_HOW}."
    )


class DirectusExtra(Extra):
    """A content management over the database."""

    files: (
        Annotated[
            str,
            Written(r"(extras\.s3|buckets\.[a-z][a-z0-9-]*)", "is no store of files: write extras.s3 or buckets.NAME"),
        ]
        | None
    ) = Field(
        default=None,
        description=f"Store of its files, extras.s3 or buckets.NAME (default: its own folder on the volume); {_HOW}.",
    )


class LogsExtra(Extra):
    """Ships logs away from the droplet."""

    to: Annotated[
        str,
        Written(r"(axiom|buckets\.[a-z][a-z0-9-]*)", "is no place for logs: write axiom or buckets.NAME"),
    ] = Field(description=f"Where logs go, axiom or buckets.NAME; {_HOW}.")
    dataset: str | None = Field(default=None, description=f"Dataset at Axiom (default: the project's name); {_HOW}.")


class GlitchtipExtra(Extra):
    """Collects errors, as Sentry does; services that use it get GLITCHTIP_DSN."""

    mail_from: Annotated[
        str | None, Written(r"[^@\s]+@[^@\s]+\.[^@\s]+", "is not an e-mail address, such as noreply@example.org")
    ] = Field(default=None, description=f"Sender of its mail (default: it sends none); {_HOW}.")
    retention: Duration = Field(default=Duration("90d"), description=f"How long errors stay (default: 90d); {_HOW}.")


class ExtrasSettings(Settings):
    """The catalogue. An entry that is written, if only as `{}`, is on; one that is removed leaves its data."""

    pgadmin: Extra | None = Field(default=None, description="pgAdmin: the databases in a browser (default: off).")
    redis_commander: Extra | None = Field(
        default=None, alias="redis-commander", description="Redis Commander: the cache in a browser (default: off)."
    )
    postgrest: PostgrestExtra | None = Field(
        default=None, description="PostgREST: a REST interface to the database (default: off)."
    )
    directus: DirectusExtra | None = Field(
        default=None, description="Directus: content management over the database (default: off)."
    )
    s3: Extra | None = Field(default=None, description="An S3 server of one's own on the volume (default: off).")
    prometheus: PrometheusExtra | None = Field(
        default=None, description="Prometheus and its exporters: measurements (default: off)."
    )
    grafana: Extra | None = Field(default=None, description="Grafana: charts of the measurements (default: off).")
    logs: LogsExtra | None = Field(default=None, description="Logs shipped away from the droplet (default: off).")
    panel: Extra | None = Field(
        default=None, description="A page with every entry, whether it is up, and its link (default: off)."
    )
    glitchtip: GlitchtipExtra | None = Field(default=None, description="GlitchTip: errors of the app (default: off).")

    @property
    def on(self) -> dict[str, Extra]:
        """The entries that are on, by the names that the stack file has for them."""
        fields = type(self).model_fields
        found = ((field.alias or name, getattr(self, name)) for name, field in fields.items())
        return {name: extra for name, extra in found if extra is not None}


EXTRAS = tuple(field.alias or name for name, field in ExtrasSettings.model_fields.items())
"""The names of the entries."""


def login_problems(extras: ExtrasSettings, logins: Collection[str]) -> Iterator[str]:
    """Yield a line for each entry that is opened by a login which is not in `access.logins`."""
    for name, extra in extras.on.items():
        if extra.login is not None and extra.login not in logins:
            known = ", ".join(logins) or "none"
            yield f"extras.{name}.login: {extra.login} is not in access.logins; there are: {known}"
