"""Define the base model of every stored document, and the parser of a part whose model depends on its `kind`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

ModelT = TypeVar("ModelT", bound=BaseModel)

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


def parse_kind(value: object, known: Mapping[str, type[ModelT]], base: type[ModelT], what: str) -> ModelT:
    """Parse a part of a document as the kind that it names.

    Args:
        value: the part: an instance, or what JSON gives.
        known: the models by their kind.
        base: the class that all of them have.
        what: what the part is of, for the message: `backup`, `drill`.

    Raises:
        PydanticCustomError: this Ancla does not know the kind, or a field is invalid.
    """
    if isinstance(value, base):
        return value
    document = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    model = known.get(str(document.get("kind")))
    if model is None:
        told = {"what": what, "known": ", ".join(known)}
        raise PydanticCustomError("kind", "unknown kind of {what}; known: {known}", told)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PydanticCustomError("record", "{where}: {what}", {"where": where, "what": first["msg"]}) from None
