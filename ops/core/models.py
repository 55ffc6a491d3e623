"""Define the base model of every stored document."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

_OF_LATER_VERSIONS = frozenset({"extra_forbidden", "literal_error", "union_tag_invalid", "enum"})


class Record(BaseModel):
    """Base model: unknown keys are errors, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def unknown_fields(error: ValidationError) -> list[str]:
    """List the fields, kinds and choices that this version does not know; a later version may have written them."""
    return [
        ".".join(str(part) for part in each["loc"])
        for each in error.errors(include_input=False, include_url=False)
        if each["type"] in _OF_LATER_VERSIONS
    ]
