"""Docker and compose v2, with log limits, and containers that keep running while the daemon restarts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pyinfra.operations import files

from host.errors import ConvergeError
from host.operations import follow, place
from host.templates import render

PLUGIN = "/usr/local/lib/docker/cli-plugins/docker-compose"
_PLUGIN_FOLDERS = ("~/.docker/cli-plugins", "/usr/local/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins")


def docker_configuration() -> None:
    """Place daemon.json before the package, so that the daemon starts with it."""
    place(name="docker: log limits, loopback by default", dest="/etc/docker/daemon.json", content=render("daemon.json"))


def docker(*, compose_package: str | None) -> None:
    """Ensure that the daemon runs and `docker compose` exists, from `compose_package` or this workstation's binary."""
    follow(name="docker: the daemon", service="docker", configuration=[render("daemon.json")])
    if compose_package is None:
        files.put(name="docker: compose", src=str(local_compose()), dest=PLUGIN, mode="755", add_deploy_dir=False)


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
