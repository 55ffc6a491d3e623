"""Bound the journal. Containers' logs are bounded in Docker's daemon.json, Nginx's by its package's logrotate."""

from __future__ import annotations

from blueprint.machine import JournalSettings
from host.services import Service
from host.steps import File, Gone, Step
from host.templates import render

_PATH = "/etc/systemd/journald.conf.d/ancla.conf"


def _service(name: str, item: File | Gone) -> Service:
    return Service(name=name, key="systemd-journald", units=("systemd-journald.service",), items=(item,))


def ensure(settings: JournalSettings) -> list[Step]:
    """Keep the journal on disk, up to a size and an age."""
    return [_service("journal: bounded", File(path=_PATH, content=render("journald.conf", journal=settings)))]


def absent() -> list[Step]:
    """Leave the bounds to the distribution; the journal itself always runs, and stays in /var/log/journal."""
    return [_service("journal: as the distribution has it", Gone(_PATH))]
