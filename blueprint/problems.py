"""Describe problems of settings in lines a person can act on: the key's path, what was found, what is allowed.

A value under `secrets`, or one the engine keeps encrypted, is never shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from blueprint.names import did_you_mean
from blueprint.settings.environment import EnvironmentSettings
from blueprint.stack_file import NAMESPACE

_SHOWN = 60  # characters of a found value; the rest is not needed to recognise it
_TYPES = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def lines(error: ValidationError) -> list[str]:
    """Return one line for each problem, in the order of the keys.

    A list whose items are wrong is also reported as too short, because wrong items are not counted: that says nothing.
    """
    found = error.errors(include_url=False)
    parents = {details["loc"][:-1] for details in found}
    return [_line(details) for details in found if details["type"] != "too_short" or details["loc"] not in parents]


def _line(details: ErrorDetails) -> str:
    loc = details["loc"]
    if details["type"].startswith("union_tag_"):
        loc = (*loc, "kind")
    if not loc:
        return f"{NAMESPACE}:{_message(details)}"
    return f"{_path(loc)}: {_message(details)}"


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in _without_tags(loc):
        if isinstance(part, int):
            text += f"[{part}]"
        elif part != "[key]":  # pydantic's mark for "the key itself, not its value"
            text += f".{part}" if text else part
    return f"{NAMESPACE}:{text}"


def _without_tags(loc: tuple[int | str, ...]) -> Iterator[int | str]:
    """Leave out the names of union members that pydantic puts after `topology` and `database`."""
    for index, part in enumerate(loc):
        if index == 1 and part in _tags(str(loc[0])):
            continue
        yield part


def _tags(key: str) -> dict[str, type[BaseModel]]:
    """Return the members of the discriminated union at a top-level key, by their `kind`."""
    for name, field in EnvironmentSettings.model_fields.items():
        if key in (name, field.alias) and field.discriminator == "kind":
            members = [member for member in get_args(field.annotation) if issubclass(member, BaseModel)]
            return {get_args(member.model_fields["kind"].annotation)[0]: member for member in members}
    return {}


def _message(details: ErrorDetails) -> str:  # noqa: PLR0911 - one line for each kind of problem
    kind, loc, context = details["type"], details["loc"], details.get("ctx", {})
    found = _found(details)
    if kind == "missing":
        return "is missing, and it is required"
    if kind == "extra_forbidden":
        known = sorted(_known_keys(loc[:-1]))
        return f"unknown key{_suggestion(str(loc[-1]), known)}; allowed: {', '.join(known)}"
    if kind in ("literal_error", "enum"):
        allowed = re.findall(r"'([^']*)'|(\d+)", str(context["expected"]))
        return _not_allowed(details, [text or number for text, number in allowed])
    if kind == "union_tag_invalid":
        allowed = sorted(_tags(str(loc[0])))
        near = _suggestion(str(context["tag"]), allowed)
        return f"found {json.dumps(context['tag'])}{near}; allowed: {', '.join(allowed)}"
    if kind == "union_tag_not_found":
        return f"is missing; allowed: {', '.join(sorted(_tags(str(loc[0]))))}"
    if kind == "value_error":
        text = str(context["error"])
        known = re.search(r"allowed: ([^;]+)$", text)
        near = _suggestion(str(details["input"]), known[1].split(", ")) if known and found else ""
        return f"{found} {text}{near}" if found else text
    if kind in _WANTED:
        quotes = (
            ": put it in quotes" if kind == "string_type" and isinstance(details["input"], bool | int | float) else ""
        )
        shown = f"found {found} ({_type_name(details['input'])})" if found else f"found {_type_name(details['input'])}"
        return f"{shown}; it must be {_WANTED[kind]}{quotes}"
    return f"found {found}; {_rule(details['msg'])}" if found else _rule(details["msg"])


def _not_allowed(details: ErrorDetails, allowed: list[str]) -> str:
    value, found = details["input"], _found(details)
    near = _suggestion(str(value), allowed)
    quotes = (
        ": put it in quotes" if not isinstance(value, str) and str(value) in allowed and "'" in details["msg"] else ""
    )
    return f"found {found or 'another value'}{quotes or near}; allowed: {', '.join(allowed)}"


def _found(details: ErrorDetails) -> str:
    """Return the value as it was written, or nothing where it is secret or not one value."""
    value = details["input"]
    if details["loc"][:1] == ("secrets",) or isinstance(value, dict | list | tuple | BaseModel):
        return ""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = EnvironmentSettings
    names = False  # the next part is a name that a person chose, in a map
    for index, part in enumerate(loc):
        if isinstance(part, int) or names:
            names = False
            continue
        if index == 1 and part in (tags := _tags(str(loc[0]))):
            model = tags[str(part)]
            continue
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        inner = next(_models(field.annotation), None) if field else None
        if field is None or inner is None:
            return []
        names = _is_map(field.annotation)
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _is_map(annotation: Any) -> bool:
    return get_origin(annotation) is dict or any(get_origin(argument) is dict for argument in get_args(annotation))


def _suggestion(word: str, known: list[str]) -> str:
    near = did_you_mean(word, known)
    return f"; {near}" if near else ""


def _type_name(value: Any) -> str:
    return "nothing" if value is None else _TYPES.get(type(value), type(value).__name__)


def _rule(message: str) -> str:
    return f"it must {message.removeprefix('Input should ')}" if message.startswith("Input should ") else message
