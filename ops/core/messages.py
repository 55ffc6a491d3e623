"""Texts that can be shown in another language: a template with named fields, and the fields' values.

A template is what gettext calls a msgid: it is its own English text, and the key of its translations.
"""

from __future__ import annotations

from typing import LiteralString, Self

Value = int | float | str
"""A message may be a value of another."""


class Message(str):
    """An English text, ready to print, that remembers its template (`code`) and `values`."""

    __slots__ = ("code", "values")

    code: str
    values: dict[str, Value]

    def __new__(cls, code: str, values: dict[str, Value]) -> Self:
        """Fill the template in."""
        made = super().__new__(cls, code.format(**values))
        made.code, made.values = code, values
        return made


def say(code: LiteralString, /, **values: Value) -> Message:
    """Build a message from a literal template, which the catalogues of `ops.drill.evidence.locale` must translate."""
    return Message(code, values)
