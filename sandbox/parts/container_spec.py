"""A container as a value, and the one way to make it: as a draft that gets its name when it is complete.

A container whose spec has changed (another image, other options or files) is made again. Its data is in volumes, which
stay. So this is for all containers but droplets: the disk of a droplet is its container.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.parts.docker import AbsentError, Docker, File, label_options

DIGEST_LABEL = "ancla.sandbox.spec"
RENEW_LABEL = "ancla.sandbox.renew-after"
_DRAFT = "-draft"


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """Everything that a container is made of.

    `networks` are those beside the one in `options`, each with the address there (None: Docker chooses). Named
    `volumes` are made first. `limits` can be changed later (`docker update`) and `first_files` are only what it begins
    with: neither makes another container of it. After `renew_days` it is made again all the same: what is in it, such
    as a certificate, has an end.
    """

    name: str
    image: str
    labels: Mapping[str, str]
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    networks: tuple[tuple[str, str | None], ...] = ()
    volumes: tuple[str, ...] = ()
    files: tuple[File, ...] = field(default=(), repr=False)
    limits: tuple[str, ...] = ()
    first_files: Callable[[], list[File]] = field(default=list[File], repr=False)
    renew_days: int | None = None

    @property
    def draft(self) -> str:
        """Its name until it is complete. A draft was never started, so it holds no data."""
        return draft_of(self.name)

    @property
    def digest(self) -> str:
        """A hash of all that makes another container of it."""
        parts = (self.image, self.options, self.command, self.networks, self.volumes, self.files)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def draft_of(name: str) -> str:
    """Return the name of a container until it is complete."""
    return f"{name}{_DRAFT}"


def is_draft(name: str) -> bool:
    """Return True if a container of this name was interrupted while it was made."""
    return name.endswith(_DRAFT)


def today() -> dt.date:
    """Return the date that ends are compared with."""
    return dt.datetime.now(dt.UTC).date()


def is_current(spec: ContainerSpec, found: Mapping[str, Any] | None) -> bool:
    """Return True if an existing container (as Docker describes it) is the one of the spec."""
    if found is None or found["State"]["Status"] in {"dead", "removing"}:
        return False
    labels: Mapping[str, str] = found["Config"]["Labels"] or {}
    return labels.get(DIGEST_LABEL) == spec.digest and today().isoformat() <= labels.get(RENEW_LABEL, "9999")


def ensure(docker: Docker, spec: ContainerSpec) -> bool:
    """Make the container if it is not there or not of this spec, and start it; False when it ran already."""
    found = docker.inspect("container", spec.name)
    if is_current(spec, found):
        if found and found["State"]["Running"]:
            return False
    else:
        make(docker, spec)
    start(docker, spec)
    return True


def start(docker: Docker, spec: ContainerSpec) -> None:
    """Start the container. Where it hangs on a network that was removed and made again, it is made again too."""
    try:
        docker.start(spec.name)
    except AbsentError:
        make(docker, spec)
        docker.start(spec.name)


def make(docker: Docker, spec: ContainerSpec, *, fill: Callable[[], object] | None = None) -> None:
    """Make the container without starting it, in the place of one of the same name.

    Interrupted anywhere, it leaves a draft, which the next try throws away, and the volumes. `fill` brings the volumes
    their first data, before the container has its name.
    """
    for volume in spec.volumes:
        docker.ensure_volume(volume, spec.labels)
    docker.remove(spec.draft)
    labels = {**spec.labels, DIGEST_LABEL: spec.digest}
    if spec.renew_days is not None:
        labels[RENEW_LABEL] = (today() + dt.timedelta(days=spec.renew_days)).isoformat()
    options = (*label_options(labels), *spec.options, *spec.limits)
    docker.run("create", "--name", spec.draft, *options, spec.image, *spec.command)
    for network, address in spec.networks:
        docker.run("network", "connect", *(("--ip", address) if address else ()), network, spec.draft)
    if files := [*spec.files, *spec.first_files()]:
        docker.put(spec.draft, files)
    if fill is not None:
        fill()
    docker.stop(spec.name)
    docker.remove(spec.name)
    docker.run("rename", spec.draft, spec.name)
