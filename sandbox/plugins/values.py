"""What goes over the wire between the engine and a provider, as plain Python values.

Numbers without a fraction become `int`; what is not known yet is `UNKNOWN`; a secret is `Secret`. Source of the
markers: the engine's `sdk/go/common/resource` package, which the Python SDK repeats in `pulumi.runtime.rpc`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf import json_format, struct_pb2
from pulumi.runtime import rpc

Values = dict[str, Any]

_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a marker of the protocol


class Unknown:
    """A value that only a real run will tell."""

    def __repr__(self) -> str:
        return "<not known yet>"


UNKNOWN: Final = Unknown()


@dataclass(frozen=True)
class Secret:
    """A value the engine keeps encrypted in the state and out of its output."""

    value: Any = field(repr=False)


def decode(message: struct_pb2.Struct) -> Values:
    """Turn a message of the engine into plain values, secrets kept as `Secret`."""
    return {key: _decode(value) for key, value in json_format.MessageToDict(message).items()}


def _decode(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value == rpc.UNKNOWN:
        return UNKNOWN
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if isinstance(value, dict):
        if value.get(_SIGNATURE) == _SECRET:
            return Secret(_decode(value.get("value")))
        return {key: _decode(item) for key, item in value.items()}
    return value


def encode(values: Values) -> struct_pb2.Struct:
    """Turn plain values into a message for the engine; keys whose value is None are left out."""
    message = struct_pb2.Struct()
    json_format.ParseDict({key: _encode(value) for key, value in values.items() if value is not None}, message)
    return message


def _encode(value: Any) -> Any:
    if value is UNKNOWN:
        return rpc.UNKNOWN
    if isinstance(value, Secret):
        return {_SIGNATURE: _SECRET, "value": _encode(value.value)}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items() if item is not None}
    return value


def reveal(value: Any) -> Any:
    """Take the secrets' wrappers off, at every depth."""
    if isinstance(value, Secret):
        return reveal(value.value)
    if isinstance(value, list):
        return [reveal(item) for item in value]
    if isinstance(value, dict):
        return {key: reveal(item) for key, item in value.items()}
    return value


def contains_secret(value: Any) -> bool:
    """Tell whether there is a secret anywhere in it."""
    if isinstance(value, list):
        return any(contains_secret(item) for item in value)
    if isinstance(value, dict):
        return any(contains_secret(item) for item in value.values())
    return isinstance(value, Secret)


def contains_unknown(value: Any) -> bool:
    """Tell whether there is something not known yet anywhere in it."""
    if isinstance(value, list):
        return any(contains_unknown(item) for item in value)
    if isinstance(value, dict):
        return any(contains_unknown(item) for item in value.values())
    return contains_unknown(value.value) if isinstance(value, Secret) else value is UNKNOWN
