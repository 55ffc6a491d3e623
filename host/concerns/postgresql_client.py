"""The client programs of PostgreSQL, of the same majors as the servers that the droplet dumps.

A dump is made by the server's own major: an older pg_dump refuses, a newer one may write what the server cannot read.
"""

from __future__ import annotations

from blueprint.machine import PostgresqlClientSettings
from host.bases import Base
from host.steps import File, Gone, Place, Step
from host.templates import render

_KEY, _SOURCES = "/usr/share/keyrings/ancla-pgdg.asc", "/etc/apt/sources.list.d/ancla-pgdg.sources"


def packages(settings: PostgresqlClientSettings) -> list[str]:
    """Return the packages."""
    return [f"postgresql-client-{major}" for major in sorted(settings.majors)]


def repository(settings: PostgresqlClientSettings, base: Base) -> list[Step]:
    """Return the steps for PostgreSQL's own repository: on where a major is not the base's own, else off."""
    if all(major == base.postgresql for major in settings.majors):
        return absent()
    return [
        Place(
            name="packages: PostgreSQL's own repository",
            items=(
                File(path=_KEY, content=render("pgdg.asc")),
                File(path=_SOURCES, content=render("pgdg.sources", base=base, key=_KEY)),
            ),
        )
    ]


def absent() -> list[Step]:
    """Remove the repository. Packages that came from it stay."""
    return [Place(name="packages: no repository of PostgreSQL's own", items=(Gone(_SOURCES),))]
