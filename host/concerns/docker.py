"""Docker and compose v2, with log limits, and containers that keep running while the daemon restarts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from blueprint.machine import DockerSettings
from host.bases import Base
from host.errors import ConvergeError
from host.services import BeforePackage, Off, Service
from host.steps import File, Step, Upload
from host.templates import render

PLUGIN = "/usr/local/lib/docker/cli-plugins/docker-compose"
_PLUGIN_FOLDERS = ("~/.docker/cli-plugins", "/usr/local/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins")


def packages(base: Base) -> list[str]:
    """Return the packages."""
    return [*base.docker, *([base.compose] if base.compose else [])]


def _daemon(settings: DockerSettings) -> Service:
    return Service(
        name="docker: the daemon",
        key="docker",
        units=("docker.service",),
        items=(File(path="/etc/docker/daemon.json", content=render("daemon.json", docker=settings)),),
    )


def before_packages(settings: DockerSettings) -> list[Step]:
    """Place daemon.json before the package is there, so that the daemon starts with it."""
    return [BeforePackage(name="docker: settings of the first start", service=_daemon(settings))]


def ensure(settings: DockerSettings, base: Base) -> list[Step]:
    """Let the daemon run, and have `docker compose`, from the base's package or this workstation's binary."""
    steps: list[Step] = [_daemon(settings)]
    if base.compose is None:
        steps.append(Upload(name="docker: compose", source=local_compose(), path=PLUGIN))
    return steps


def absent() -> list[Step]:
    """Switch Docker off, and with it every container."""
    keeps = "and its images, containers and volumes stay in /var/lib/docker"
    return [Off(name="docker: off", key="docker", units=("docker.socket", "docker.service"), keeps=keeps)]


def local_compose() -> Path:
    """Find the compose v2 binary for a droplet without a package of it.

    Raises:
        ConvergeError: there is none on this workstation.
    """
    found = os.environ.get("ANCLA_COMPOSE") or shutil.which("docker-compose")
    candidates = [Path(found)] if found else [Path(f).expanduser() / "docker-compose" for f in _PLUGIN_FOLDERS]
    for path in candidates:
        if path.is_file():
            return path
    raise ConvergeError(
        "the droplet's distribution has no package of docker compose v2, and this workstation has no binary to copy: "
        f"set ANCLA_COMPOSE to a docker-compose v2 binary (looked for {', '.join(map(str, candidates))})"
    )
