"""Maintain a droplet automatically: bans, security updates, and logs that do not fill the disk."""

from __future__ import annotations

from collections.abc import Iterable

from host.firewall import ANYWHERE
from host.operations import follow, place
from host.templates import render


def fail2ban(ssh_sources: Iterable[str]) -> None:
    """Ban addresses that guess logins. Sources that are named are never banned: a ban would lock a deploy out."""
    config = render("fail2ban.conf", trusted=sorted(set(ssh_sources) - set(ANYWHERE)))
    place(name="fail2ban: jails", dest="/etc/fail2ban/jail.d/ancla.conf", content=config)
    follow(name="fail2ban: the service", service="fail2ban", configuration=[config])


def upgrades() -> None:
    """Install security updates every day; the droplet never restarts itself, and Docker is updated by hand."""
    place(name="upgrades: security, daily", dest="/etc/apt/apt.conf.d/60ancla", content=render("apt-upgrades.conf"))


def logs() -> None:
    """Bound the journal. Containers' logs are bounded in Docker's daemon.json, Nginx's by its package's logrotate."""
    config = render("journald.conf")
    place(name="logs: bounded journal", dest="/etc/systemd/journald.conf.d/ancla.conf", content=config)
    follow(name="logs: the journal", service="systemd-journald", configuration=[config])
