"""Where the environment's images are."""

from __future__ import annotations

from typing import Annotated

from blueprint.fields import OneOf, RegistryRegion, Written
from blueprint.model import Settings
from blueprint.sizes import REGISTRY_TIERS


class RegistrySettings(Settings):
    """The account's container registry (one per account). `create: false` uses the one that is there.

    Without `region` it is where the environment is; where no registries are, DigitalOcean picks a region.
    """

    name: Annotated[
        str,
        Written(
            r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
            "is not the name of a registry: use 3 to 63 lower-case letters, digits and -, "
            "with a letter or digit at both ends",
        ),
    ]
    tier: Annotated[str, OneOf(tuple(REGISTRY_TIERS), "registry tier")] = "basic"
    region: RegistryRegion | None = None
    create: bool = True
