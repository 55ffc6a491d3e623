"""Which packages a distribution needs. Pure: the tests walk through every distribution of the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from host.errors import ConvergeError

_EVERYWHERE = (
    "ca-certificates",
    "curl",
    "docker.io",
    "fail2ban",
    "iptables",
    "logrotate",
    "nginx",
    "openssl",
    "python3-systemd",  # fail2ban reads the journal by it, and only recommends it
    "ufw",
    "unattended-upgrades",
    "zstd",
)


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Packages of a distribution: compose v2 (None: there is none), Python, and PostgreSQL's major version."""

    compose: str | None
    python: str
    postgresql: str


DISTRIBUTIONS: dict[tuple[str, str], Distribution] = {
    # 22.04's own Python is 3.10, older than ops needs; 3.11 is in its universe
    ("ubuntu", "22.04"): Distribution(compose="docker-compose-v2", python="python3.11", postgresql="14"),
    ("ubuntu", "24.04"): Distribution(compose="docker-compose-v2", python="python3", postgresql="16"),
    ("ubuntu", "26.04"): Distribution(compose="docker-compose-v2", python="python3", postgresql="18"),
    ("debian", "12"): Distribution(compose=None, python="python3", postgresql="15"),
    ("debian", "13"): Distribution(compose="docker-compose", python="python3", postgresql="17"),
}


def distribution(name: str, version: str) -> Distribution:
    """Return what is known of a distribution.

    Raises:
        ConvergeError: nothing is.
    """
    found = DISTRIBUTIONS.get((name, version))
    if found is None:
        known = ", ".join(" ".join(key) for key in DISTRIBUTIONS)
        raise ConvergeError(f"the droplet runs {name} {version}; Ancla supports {known}: choose another droplet.image")
    return found


def servers(outputs: Mapping[str, Any]) -> list[str]:
    """Return the major of every PostgreSQL server that the droplet dumps: the cluster's, and those of the sources."""
    database = outputs.get("database")
    found = {str(database["version"])} if database else set[str]()
    sources = outputs.get("backup", {}).get("sources", ())
    return sorted(found | {str(source["version"]) for source in sources if source["kind"] == "postgresql"})


def build_packages(kind: Distribution, postgresql: Sequence[str]) -> list[str]:
    """Return every package of a droplet that dumps servers of these majors of PostgreSQL."""
    names = [*_EVERYWHERE, f"{kind.python}-venv", *([kind.compose] if kind.compose else [])]
    return sorted([*names, *(f"postgresql-client-{major}" for major in postgresql)])


def needs_pgdg(kind: Distribution, postgresql: Sequence[str]) -> bool:
    """Return True if the client of one of these majors has to come from the PostgreSQL project's own repository.

    A dump is made by the server's own major: an older pg_dump refuses, a newer one may write what it cannot read.
    """
    return any(major != kind.postgresql for major in postgresql)
