"""Ban addresses that guess logins."""

from __future__ import annotations

from blueprint.machine import Fail2banSettings
from host.services import Off, Service
from host.steps import File, Step
from host.templates import render

PACKAGES = (
    "fail2ban",
    "python3-systemd",  # fail2ban reads the journal by it, and only recommends it
)
ANYWHERE = frozenset({"0.0.0.0/0", "::/0"})


def ensure(settings: Fail2banSettings) -> list[Step]:
    """Run fail2ban. Sources that are named are never banned: a ban would lock a deploy out."""
    config = render("fail2ban.conf", trusted=sorted(set(settings.trusted) - ANYWHERE))
    return [
        Service(
            name="fail2ban: the service",
            key="fail2ban",
            units=("fail2ban.service",),
            items=(File(path="/etc/fail2ban/jail.d/ancla.conf", content=config),),
        )
    ]


def absent() -> list[Step]:
    """Switch fail2ban off."""
    keeps = "and its list of bans stays in /var/lib/fail2ban"
    return [Off(name="fail2ban: off", key="fail2ban", units=("fail2ban.service",), keeps=keeps)]
