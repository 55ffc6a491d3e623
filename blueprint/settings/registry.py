"""Where the environment's images are."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from blueprint.fields import OneOf, RegistryRegion, Written
from blueprint.model import Settings
from blueprint.sizes import REGISTRY_TIERS


class RegistrySettings(Settings):
    """The container registry that the app's images are pulled from."""

    name: Annotated[
        str,
        Written(
            r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
            "is not the name of a registry: use 3 to 63 lower-case letters, digits and -, "
            "with a letter or digit at both ends",
        ),
    ] = Field(
        description="Name of the registry, which no other account may have; a change makes a new one, without images."
    )
    tier: Annotated[str, OneOf(tuple(REGISTRY_TIERS), "registry tier")] = Field(
        default="basic",
        description="Subscription, which is the account's: below professional it has one registry; default: basic; "
        "changes in place, and of a shared registry not at all.",
    )
    region: RegistryRegion | None = Field(
        default=None,
        description="Where the registry is made; default: the environment's region, or DigitalOcean's choice where "
        "no registries are; a change replaces the registry with its images, and a shared one not at all.",
    )
    shared: bool = Field(
        default=False,
        description="True: the account's registry, made where it is missing, which other stacks use and no "
        "`pulumi destroy` removes; default: false, this stack's own; a change to true makes it the account's after "
        "`pulumi state delete`.",
    )
