"""How much an environment is planned for, and how fast it must come back."""

from __future__ import annotations

from pydantic import Field

from blueprint.fields import Duration, Size
from blueprint.model import Settings


class GrowthSettings(Settings):
    """What the environment is planned for; crossing one of these is reported."""

    users: int | None = Field(
        default=None, ge=1, description="Users of the app (default: no limit); holds for the next report."
    )
    database: Size | None = Field(
        default=None, description="Size of the databases, such as 10G (default: no limit); holds for the next report."
    )
    requests: int | None = Field(
        default=None, ge=1, description="Requests a month (default: no limit); holds for the next report."
    )
    developers: int | None = Field(
        default=None, ge=1, description="People who work on it (default: no limit); holds for the next report."
    )


class RecoverySettings(Settings):
    """How fast a lost machine must be back."""

    within: Duration = Field(
        description="Time from the order to the first answer, such as 15m; holds for the next recovery or rehearsal."
    )
