"""Who may log in, and how: keys only, the deploy user only, the one host key that is pinned."""

from __future__ import annotations

from collections.abc import Mapping

import paramiko

from host.operations import follow, place
from host.templates import render

CONFIGURATION = "/etc/ssh/sshd_config.d/10-ancla.conf"


def build_authorized_keys(deploy_key: paramiko.PKey, people: Mapping[str, str]) -> str:
    """Return the complete authorized_keys: the deploy key first, then people's by name. Other keys are removed."""
    lines = [f"{deploy_key.get_name()} {deploy_key.get_base64()} ancla-deploy"]
    lines += [f"{' '.join(key.split()[:2])} {name}" for name, key in sorted(people.items())]
    return "\n".join(lines) + "\n"


def ssh(user: str, deploy_key: paramiko.PKey, people: Mapping[str, str]) -> None:
    """Harden sshd. A login that works is not put at risk: the file is tested before sshd reads it."""
    place(
        name="ssh: who may log in",
        dest=f"/home/{user}/.ssh/authorized_keys",
        content=build_authorized_keys(deploy_key, people),
        mode="600",
        owner=f"{user}:{user}",
    )
    config = render("sshd.conf", user=user)
    place(name="ssh: keys only, no root", dest=CONFIGURATION, content=config)
    follow(name="ssh: sshd", service="ssh", configuration=[config], action="reload", check="/usr/sbin/sshd -t")
