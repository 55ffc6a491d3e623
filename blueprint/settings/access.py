"""Who may log in, and from where."""

from __future__ import annotations

from pydantic import Field

from blueprint.fields import Cidr, Slug, SshPublicKey
from blueprint.model import Settings


class AccessSettings(Settings):
    """Who may log in, from where. The deploy key is Ancla's own; these are people's."""

    ssh_keys: dict[Slug, SshPublicKey] = Field(default_factory=dict)
    ssh_sources: tuple[Cidr, ...] = Field(default=("0.0.0.0/0", "::/0"), min_length=1)
