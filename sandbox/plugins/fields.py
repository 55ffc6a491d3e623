"""What one property of a resource is: its type, whether it can be given, changed in place, or is read back only."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypedDict, Unpack

from sandbox.plugins.values import UNKNOWN, Values, contains_unknown

Kind = Literal["string", "int", "float", "bool", "list", "set", "object", "map"]


@dataclass(frozen=True, kw_only=True)
class Field:
    """One property.

    `output_only` is never given; `computed` is filled in when it is not given; `replace` means that a change needs a
    new resource. `stored` turns what was given into what the state keeps (a hash, lower case); `same` sees a difference
    that is none, as (old, new, all new inputs); `check` returns why a value cannot be, or None. `wire` is the name in
    the provider's own schema, which orders sets.
    """

    kind: Kind = "string"
    element: Field | None = None
    fields: Mapping[str, Field] = field(default_factory=dict[str, "Field"])
    required: bool = False
    output_only: bool = False
    computed: bool = False
    replace: bool = False
    secret: bool = False
    autoname: bool = False
    default: Any = None
    stored: Callable[[Any], Any] | None = None
    same: Callable[[Any, Any, Values], bool] | None = None
    check: Callable[[Any], str | None] | None = None
    fold_case: bool = False
    wire: str = ""

    @property
    def item(self) -> Field:
        """What a list or a set has in it."""
        if self.element is None:
            raise TypeError(f"a {self.kind} has no items")
        return self.element

    @property
    def partly_read(self) -> bool:
        """Whether something in it is told by the API alone."""
        inner = [*self.fields.values(), *([self.element] if self.element else [])]
        return any(part.filled_in or part.partly_read for part in inner)

    @property
    def filled_in(self) -> bool:
        """Whether the API says it when nobody else does."""
        return self.output_only or self.computed


class How(TypedDict, total=False):
    """What a builder below takes: the members of `Field` that say how a property behaves."""

    required: bool
    output_only: bool
    computed: bool
    replace: bool
    secret: bool
    autoname: bool
    default: Any
    stored: Callable[[Any], Any]
    same: Callable[[Any, Any, Values], bool]
    check: Callable[[Any], str | None]
    fold_case: bool
    wire: str


def string(**how: Unpack[How]) -> Field:
    """Describe a text; see `Field` for the rest."""
    return Field(**how)


def integer(**how: Unpack[How]) -> Field:
    """Describe a whole number."""
    return Field(kind="int", **how)


def number(**how: Unpack[How]) -> Field:
    """Describe a number."""
    return Field(kind="float", **how)


def boolean(**how: Unpack[How]) -> Field:
    """Describe a truth value."""
    return Field(kind="bool", **how)


def list_of(element: Field, **how: Unpack[How]) -> Field:
    """Describe a list whose order matters."""
    return Field(kind="list", element=element, **how)


def set_of(element: Field, **how: Unpack[How]) -> Field:
    """Describe a list whose order does not matter."""
    return Field(kind="set", element=element, **how)


def mapping(**how: Unpack[How]) -> Field:
    """Describe a map of texts."""
    return Field(kind="map", element=Field(), **how)


def one_of(*choices: str) -> Callable[[Any], str | None]:
    """Build a check that a text is one of these."""
    return lambda value: None if value in choices else f"expected one of {', '.join(choices)}, got {value!r}"


def between(low: float, high: float) -> Callable[[Any], str | None]:
    """Build a check that a number is in a range, ends included."""
    return lambda value: None if low <= value <= high else f"expected {low} to {high}, got {value}"


def filled(value: Any) -> str | None:
    """Check that something is there: not an empty text and not zero."""
    return None if value else "must not be empty"


def coerce(value: Any, like: Field) -> Any:
    """Bring a value to the type of its field, as the official provider does with "123" for a number.

    Raises:
        ValueError: it cannot be brought there; the message says what was expected.
    """
    if value is UNKNOWN or value is None:
        return value
    if like.kind == "string" and isinstance(value, bool):
        return "true" if value else "false"
    if like.kind == "string" and isinstance(value, int | float):
        return str(value)
    if like.kind == "bool" and value in ("true", "false"):
        return value == "true"
    if like.kind in ("int", "float") and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"expected a number, got {value!r}") from None
        value = int(value) if value.is_integer() else value
    wanted: dict[str, Any] = {
        "string": str,
        "int": int,
        "float": (int, float),
        "bool": bool,
        "list": list,
        "set": list,
        "object": dict,
        "map": dict,
    }
    if not isinstance(value, wanted[like.kind]) or (isinstance(value, bool) and like.kind != "bool"):
        names = {"int": "whole number", "float": "number", "bool": "true or false", "set": "list", "object": "object"}
        raise ValueError(f"expected a {names.get(like.kind, like.kind)}, got {_shape(value)}")
    return value


def _shape(value: Any) -> str:
    """Say what it is without saying it: it may be a secret."""
    return {dict: "an object", list: "a list", str: "a text", bool: "true or false"}.get(type(value), "a number")


def differs(old: Any, new: Any, like: Field, inputs: Values) -> bool:
    """Tell whether what is asked for is not what there is. An empty value and an absent one are the same."""
    if contains_unknown(new):
        return True
    if new is None and like.computed:
        return False
    if like.same is not None and old is not None and new is not None and like.same(old, new, inputs):
        return False
    if like.stored is not None and new is not None:
        new = like.stored(new)
    match like.kind:
        case "object":
            return any(
                differs((old or {}).get(name), (new or {}).get(name), part, inputs)
                for name, part in like.fields.items()
                if not part.output_only
            )
        case "list" | "set":
            return _lists_differ(list(old or []), list(new or []), like, inputs)
        case _:
            return (old or None) != (new or None)


def _lists_differ(old: list[Any], new: list[Any], like: Field, inputs: Values) -> bool:
    if len(old) != len(new):
        return True
    if like.kind == "list":
        return any(differs(a, b, like.item, inputs) for a, b in zip(old, new, strict=True))
    return unmatched(old, new, like, inputs) != ([], [])


def unmatched(old: list[Any], new: list[Any], like: Field, inputs: Values) -> tuple[list[int], list[int]]:
    """Say which items of a set (by position) went and which came."""
    left = list(range(len(old)))
    came: list[int] = []
    for position, item in enumerate(new):
        found = next((i for i in left if not _items_differ(old[i], item, like, inputs)), None)
        if found is None:
            came.append(position)
        else:
            left.remove(found)
    return left, came


def _items_differ(old: Any, new: Any, like: Field, inputs: Values) -> bool:
    if like.fold_case and isinstance(old, str) and isinstance(new, str):
        return old.casefold() != new.casefold()
    return differs(old, new, like.item, inputs)


_PLAIN: Final = set_of(string())


def ordered(items: list[Any], like: Field = _PLAIN) -> list[Any]:
    """Put a set in the official order, which is that of its items' checksums as text; doubles are dropped.

    By default it is one of texts or of numbers.
    """
    keyed: dict[str, Any] = {}
    for item in items:
        text = item.lower() if like.fold_case else _serialized(item, like.item)
        keyed.setdefault(str(zlib.crc32(text.encode())), item)
    return [keyed[key] for key in sorted(keyed)]


def _serialized(value: Any, like: Field) -> str:
    """Write a value the way the official provider's library does before it takes the checksum of a set's item."""
    if like.kind == "object":
        named = sorted(
            (part.wire or snake(name), name, part) for name, part in like.fields.items() if not part.output_only
        )
        return "".join(f"{wire}:{_serialized(_or_zero(value.get(name), part), part)}" for wire, name, part in named)
    if value is None:
        return ";"
    if like.kind in ("list", "set"):
        items = ordered(value, like) if like.kind == "set" else value
        inner = "".join(_member(item, like.item) for item in items)
        return f"{{{inner}}};" if like.kind == "set" else f"({inner});"
    if isinstance(value, bool):
        return "1;" if value else "0;"
    return f"{value};"


def _member(value: Any, like: Field) -> str:
    return f"<{_serialized(value, like)}>;" if like.kind == "object" else _serialized(value, like)


def _or_zero(value: Any, like: Field) -> Any:
    zeros: dict[str, Any] = {"string": "", "int": 0, "float": 0, "bool": False, "list": [], "set": [], "map": {}}
    return zeros.get(like.kind) if value is None else value


def snake(name: str) -> str:
    """Turn camelCase into snake_case."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
