"""What of the team's runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from blueprint.fields import EnvironmentVariable, Port, Slug, UrlPath, Written
from blueprint.model import Settings


class ServiceSettings(Settings):
    """One container of the app. `route` is its public path on the app's domain; none keeps it private."""

    name: Slug
    image: Annotated[
        str,
        Written(
            r"[a-z0-9][a-z0-9._/-]*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?",
            "is not an image: write its repository in the environment's registry, in lower case, and a tag, "
            "such as web:1.2.0",
        ),
    ] = Field(description="repository in the environment's registry and tag, such as web:1.2.0")
    port: Port
    health_path: UrlPath = "/health"
    route: (
        Annotated[
            str,
            Written(
                r"/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?",
                "is not a route: it begins with /, does not end with one, and has letters, digits, -, _, . and ~ "
                "between, such as /api/v1",
            ),
        ]
        | None
    ) = None
    environment: dict[EnvironmentVariable, str] = Field(default_factory=dict)
    secrets: tuple[EnvironmentVariable, ...] = Field(
        default=(), description="names of variables whose values are in secrets.app"
    )
    replicas: int = Field(default=1, ge=1, le=8)
