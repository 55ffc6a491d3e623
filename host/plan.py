"""The plan of a droplet: `MachineSettings` and a base in, an ordered list of steps out. Pure: a plan can be printed.

There are two plans. The machine's is the same until its settings or the templates change; that of ops changes with
every commit of `ops/`, and touches nothing but ops.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from blueprint.machine import BackupTimerSettings, MachineSettings
from host.bases import Base, base_of_image
from host.concerns import docker, fail2ban, firewall, journal, nginx, ops, postgresql_client, ssh, timers, upgrades
from host.documents import PlanRequest
from host.look import Questions
from host.steps import Ensure, Packages, Step, command_of, text_digest

REVISION = 1
"""Raise it when the same plan must be applied again, because the way to it was wrong."""
COMMON_PACKAGES = ("ca-certificates", "curl", "logrotate", "zstd")


@dataclass(frozen=True)
class Plan:
    """Steps in the order in which they are taken."""

    steps: tuple[Step, ...]

    def questions(self) -> Questions:
        """Return all that has to be seen, for one look."""
        return reduce(or_, (step.questions() for step in self.steps), Questions())

    def text(self) -> str:
        """Return the wanted state as lines. Equal texts mean that nothing has to be done again."""
        lines = [f"{step.name}: {line}" for step in self.steps for line in step.describe()]
        return "".join(f"{line}\n" for line in lines)

    def digest(self) -> str:
        """Return the digest of the text."""
        return text_digest(str(REVISION), self.text())


def build_packages(settings: MachineSettings, base: Base) -> tuple[str, ...]:
    """Return every package that the concerns which are on need on this base."""
    names = [*COMMON_PACKAGES, *firewall.PACKAGES, f"{base.python}-venv"]
    if settings.upgrades:
        names += upgrades.PACKAGES
    if settings.docker:
        names += docker.packages(base)
    if settings.nginx:
        names += nginx.PACKAGES
    if settings.fail2ban:
        names += fail2ban.PACKAGES
    if settings.postgresql_client:
        names += postgresql_client.packages(settings.postgresql_client)
    return tuple(sorted(set(names)))


def build_plan(settings: MachineSettings, base: Base) -> Plan:
    """Return the plan of the machine.

    Package sources come before the one installation, and the firewall is closed before any of our services listens.
    """
    client = settings.postgresql_client
    parts: Sequence[Iterable[Step]] = (
        [_hostname(settings.hostname)],
        upgrades.ensure() if settings.upgrades else upgrades.absent(),
        docker.before_packages(settings.docker) if settings.docker else [],
        postgresql_client.repository(client, base) if client else postgresql_client.absent(),
        [Packages(name="packages", packages=build_packages(settings, base))],
        firewall.ensure(settings.firewall),
        ssh.ensure(settings.ssh),
        docker.ensure(settings.docker, base) if settings.docker else docker.absent(),
        nginx.ensure(settings.nginx, base) if settings.nginx else nginx.absent(),
        fail2ban.ensure(settings.fail2ban) if settings.fail2ban else fail2ban.absent(),
        journal.ensure(settings.journal) if settings.journal else journal.absent(),
    )
    return Plan(tuple(step for part in parts for step in part))


def build_ops_plan(
    base: Base, timer_settings: BackupTimerSettings | None, outputs: dict[str, Any], secrets: dict[str, Any]
) -> Plan:
    """Return the plan of ops: its code, its documents, and then the timers that run it."""
    scheduled = timers.ensure(timer_settings) if timer_settings else timers.absent()
    return Plan((*ops.ensure(base), *ops.ensure_documents(outputs, secrets), *scheduled))


def plan_digests(request: PlanRequest) -> dict[str, str]:
    """Return {"machine": …, "ops": …}: a droplet is converged again when its digest is another one."""
    base = base_of_image(request.image)
    return {
        "machine": build_plan(request.machine, base).digest(),
        "ops": build_ops_plan(base, request.timers, {}, {}).digest(),
    }


def _hostname(name: str) -> Step:
    return Ensure(
        name="hostname",
        question="uname -n",
        answer=(name,),
        difference=f"the host name is not {name}",
        commands=(command_of("hostnamectl set-hostname", name),),
    )
