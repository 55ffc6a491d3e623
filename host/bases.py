"""The distributions that a droplet can have, one row each: packages, and the versions that templates ask about.

In the sandbox Debian stands for Ubuntu where Ubuntu's images cannot be pulled: which one for which image is the
sandbox's own table. The rows of Ubuntu are of its package lists (2026-11) and are checked as rendered text alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from host.errors import ConvergeError


@dataclass(frozen=True, kw_only=True)
class Base:
    """One distribution.

    Args:
        name: `ID` of its os-release.
        version: `VERSION_ID` of its os-release, or `VERSION_CODENAME` where there is none.
        codename: of its package sources.
        image: slug of its DigitalOcean image; None for what runs in the sandbox alone.
        python: its interpreter for ops (3.11 or later).
        docker: its packages of Docker's daemon and command line.
        compose: its package of Docker Compose v2; None where there is none.
        postgresql: major of its own PostgreSQL.
        nginx: version of its Nginx.
    """

    name: str
    version: str
    codename: str
    image: str | None = None
    python: str = "python3"
    docker: tuple[str, ...] = ("docker.io",)
    compose: str | None
    postgresql: str
    nginx: tuple[int, int, int]

    @property
    def pgdg(self) -> str:
        """Return the distribution's name in PostgreSQL's own repository."""
        return f"{self.codename}-pgdg"


_V22, _V24, _V26 = "ubuntu-22-04-x64", "ubuntu-24-04-x64", "ubuntu-26-04-x64"
_COMPOSE = "docker-compose-v2"
_DOCKER_CLI_APART = ("docker.io", "docker-cli")  # recommended, not needed by the daemon: it has to be named

BASES = (
    # 22.04's own Python is 3.10, older than ops needs; 3.11 is in its universe.
    Base(name="ubuntu", version="22.04", codename="jammy", image=_V22, python="python3.11", compose=_COMPOSE,
         postgresql="14", nginx=(1, 18, 0)),
    Base(name="ubuntu", version="24.04", codename="noble", image=_V24, compose=_COMPOSE,
         postgresql="16", nginx=(1, 24, 0)),
    Base(name="ubuntu", version="26.04", codename="resolute", image=_V26, compose=_COMPOSE,
         postgresql="18", nginx=(1, 28, 0)),
    Base(name="debian", version="12", codename="bookworm", compose=None, postgresql="15", nginx=(1, 22, 1)),
    Base(name="debian", version="13", codename="trixie", docker=_DOCKER_CLI_APART,
         compose="docker-compose", postgresql="17", nginx=(1, 26, 3)),
    Base(name="debian", version="forky", codename="forky", docker=_DOCKER_CLI_APART,
         compose="docker-compose", postgresql="18", nginx=(1, 30, 0)),
)  # fmt: skip


def base_named(name: str, *versions: str) -> Base:
    """Return the row of a distribution, by the first of these versions that is known.

    Raises:
        ConvergeError: none is.
    """
    for version in versions:
        for base in BASES:
            if (base.name, base.version) == (name, version):
                return base
    known = ", ".join(f"{base.name} {base.version}" for base in BASES)
    found = next((version for version in versions if version), "of no version")
    raise ConvergeError(f"the droplet runs {name} {found}; Ancla supports {known}: choose another droplet.image")


def base_of_image(slug: str) -> Base:
    """Return the distribution of a DigitalOcean image.

    Raises:
        ConvergeError: the image is not known.
    """
    for base in BASES:
        if base.image == slug:
            return base
    raise ConvergeError(f"droplet.image: {slug} is not known; known are {_V22}, {_V24}, {_V26}")
