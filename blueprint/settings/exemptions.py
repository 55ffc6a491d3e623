"""Which rules of the policy an environment may break, and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from blueprint.fields import Slug
from blueprint.model import Settings


class Exemption(Settings):
    """Why one resource may break one rule, and until when."""

    reason: str = Field(min_length=1, description="Why it may; holds for the next preview.")
    until: date | None = Field(
        default=None,
        description='Last day it holds, in quotes, such as "2027-01-31" (default: no end); holds for the next preview.',
    )


def _of_reason(value: object) -> object:
    return {"reason": value} if isinstance(value, str) else value


ResourceName = Annotated[str, Field(min_length=1)]
Exemptions = Mapping[
    Slug,
    Mapping[ResourceName, Annotated[Exemption, BeforeValidator(_of_reason, json_schema_input_type=str | Exemption)]],
]
"""By the rule (`python -m policy --rules` lists them) and the resource's name, as a preview shows it."""


def exemptions_of(written: Any) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return rule, resource and exemption of each, as they stand in a stack file that was not validated."""
    return [
        (rule, resource, {"reason": given} if isinstance(given, str) else given)
        for rule, resources in (written.items() if isinstance(written, Mapping) else ())
        for resource, given in (resources.items() if isinstance(resources, Mapping) else ())
        if isinstance(given, str | Mapping)
    ]
