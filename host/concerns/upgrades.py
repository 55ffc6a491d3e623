"""Install security updates every day; the droplet never restarts itself, and Docker is updated by hand."""

from __future__ import annotations

from host.steps import File, Gone, Place, Step
from host.templates import render

PACKAGES = ("unattended-upgrades",)
_PATH = "/etc/apt/apt.conf.d/60ancla"


def ensure() -> list[Step]:
    """Switch them on. apt reads its settings at every run: there is no service to start again."""
    return [Place(name="upgrades: security, daily", items=(File(path=_PATH, content=render("apt-upgrades.conf")),))]


def absent() -> list[Step]:
    """Leave it to the distribution's own settings."""
    return [Place(name="upgrades: as the distribution has them", items=(Gone(_PATH),))]
