"""Properties as the SDK that programs use has them: names, types, which can be given and which must be.

What the SDK does not say is said in the table: what needs a new resource, which lists have no order, defaults, secrets,
what is refused, and when two values are the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, Union, Unpack, get_args, get_origin

# What the SDK itself reads its annotations with; nothing public does.
from pulumi._types import input_type_py_to_pulumi_names, input_type_types

from sandbox.plugins.fields import Field, How, Kind, snake

_SCALARS: Final[dict[Any, Kind]] = {str: "string", int: "int", float: "float", bool: "bool"}


class Says(How, total=False):
    """What the table says of a property: how it behaves, and what is in it.

    A list is `unordered` where the provider keeps a set. `item` is how its items behave; `inner`, how some properties
    of an object (or of the objects in a list) do, and `others` the rest of them. A property that is `left_out` is newer
    than the table: whoever gives it is refused.
    """

    unordered: bool
    left_out: bool
    item: Says
    inner: Mapping[str, Says]
    others: Says


_ABOUT_INSIDE: Final = frozenset(Says.__annotations__) - frozenset(How.__annotations__)


def how(**says: Unpack[Says]) -> Says:
    """Say how a property behaves."""
    return says


def properties(resource: str, says: Says) -> dict[str, Field]:
    """Return the properties of a resource, such as `Droplet`, by name.

    Raises:
        TypeError: `says` names a property that the SDK does not have.
    """
    module = import_module(f"pulumi_digitalocean.{snake(resource).lstrip('_')}")
    return _properties(getattr(module, f"_{resource}State"), getattr(module, f"{resource}Args"), says)


def _properties(told: type, given: type, says: Says) -> dict[str, Field]:
    """Return the properties of a class of the SDK; those that another one, for what is given, lacks are read only."""
    types, names = input_type_types(told), input_type_py_to_pulumi_names(given)
    arguments = inspect.signature(given.__init__).parameters.items()
    needed = {names[name] for name, argument in arguments if name in names and argument.default is argument.empty}
    inner, others = says.get("inner", {}), says.get("others", {})
    if unknown := inner.keys() - types.keys():
        raise TypeError(f"{told.__name__} of the SDK has no {', '.join(sorted(unknown))}")
    found: dict[str, Field] = {}
    for name, kind in types.items():
        own = inner.get(name, others)
        if not own.get("left_out"):
            facts: How = {"required": name in needed, "output_only": name not in names.values()}
            found[name] = _field(kind, {**facts, **own})
    return found


def _field(kind: Any, says: Says) -> Field:
    if get_origin(kind) is Union:
        kind = get_args(kind)[0]  # the others say that it may be an enumeration's, absent, or not known yet
    # Members of two typed dictionaries apart: only a cast could tell the checker so.
    behaviour: Any = {key: value for key, value in says.items() if key not in _ABOUT_INSIDE}
    if kind in _SCALARS:
        return Field(kind=_SCALARS[kind], **behaviour)
    origin = get_origin(kind)
    if origin is None:
        return Field(kind="object", fields=_properties(kind, kind, says), **behaviour)
    if issubclass(origin, Mapping):
        return Field(kind="map", element=Field(), **behaviour)
    element = _field(get_args(kind)[0], {**says.get("item", {}), **_inside(says)})
    return Field(kind="set" if says.get("unordered") else "list", element=element, **behaviour)


def _inside(says: Says) -> Says:
    return {"inner": says.get("inner", {}), "others": says.get("others", {})}
