"""Who may log in, and how: keys only, the deploy user only, the one host key that is pinned."""

from __future__ import annotations

from blueprint.machine import SshSettings
from host.services import Service
from host.steps import File, Step
from host.templates import render

CONFIGURATION = "/etc/ssh/sshd_config.d/10-ancla.conf"


def build_authorized_keys(settings: SshSettings) -> str:
    """Return the complete authorized_keys: the deploy key first, then people's by name. Other keys are removed."""
    people = [(key, name) for name, key in sorted(settings.keys.items())]
    lines = [f"{' '.join(key.split()[:2])} {name}" for key, name in [(settings.deploy_key, "ancla-deploy"), *people]]
    return "\n".join(lines) + "\n"


def ensure(settings: SshSettings) -> list[Step]:
    """Harden sshd. A login that works is not put at risk: the files are tested before sshd reads them.

    Ubuntu 24.04 lets `ssh.socket` listen and start sshd. That socket is lost by upgrades of systemd or of itself, weeks
    later, and then nobody can log in: sshd listens by itself here.
    """
    user = settings.user
    keys = File(
        path=f"/home/{user}/.ssh/authorized_keys",
        content=build_authorized_keys(settings),
        mode="600",
        owner=f"{user}:{user}",
    )
    return [
        Service(
            name="ssh: who may log in, and how",
            key="ssh",
            units=("ssh.service",),
            items=(keys, File(path=CONFIGURATION, content=render("sshd.conf", user=user))),
            action="reload",
            # sshd wants the folder for its test too, and a socket-activated sshd that does not run has none.
            check="mkdir -p /run/sshd && /usr/sbin/sshd -t",
            instead_of=("ssh.socket",),
            guards_login=True,
        )
    ]
