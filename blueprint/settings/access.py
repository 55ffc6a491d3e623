"""Who may log in, and from where."""

from __future__ import annotations

from pydantic import Field

from blueprint.fields import Cidr, Slug, SshPublicKey
from blueprint.model import Settings


class AccessSettings(Settings):
    """Who may log in, from where. The deploy key is Ancla's own; these are people's."""

    people: dict[Slug, SshPublicKey] = Field(
        default_factory=dict,
        description=(
            "SSH public keys by the person's name, beside the deploy key (default: none); a change is applied to the "
            "running droplet, and who is removed can no longer log in."
        ),
    )
    ssh_from: tuple[Cidr, ...] = Field(
        default=("0.0.0.0/0", "::/0"),
        description=(
            "Networks in CIDR notation that reach SSH (default: anywhere; keys only, and fail2ban); a change is "
            "applied to the running firewalls."
        ),
    )
    logins: tuple[Slug, ...] = Field(
        default=(),
        description=(
            "Names of people who log in by password to protected pages, passwords in secrets.logins (default: none); "
            "a change is applied to the running environment."
        ),
    )
