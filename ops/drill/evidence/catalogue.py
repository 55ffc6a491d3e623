"""Translate messages and the texts of the page, from `locale/LANGUAGE.po`. English needs no catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import cast

from babel.messages.pofile import read_po

from ops.core.messages import Message, Value

LOCALE = Path(__file__).parent / "locale"


class Language(StrEnum):
    """A language of the page. The documents are in English always."""

    EN = "en"
    ES = "es"


class _Decimal(float):
    """A number that is written with a decimal comma."""

    __slots__ = ()

    def __format__(self, spec: str, /) -> str:
        return super().__format__(spec).replace(".", ",")


@cache
def catalogue(language: Language) -> Mapping[str, str]:
    """Read the translations of a language, by their English text."""
    if language is Language.EN:
        return {}
    with (LOCALE / f"{language}.po").open("rb") as file:
        return {cast("str", entry.id): cast("str", entry.string) for entry in read_po(file) if entry.id}


def translate(language: Language, text: str) -> str:
    """Return a text in a language; what has no translation (names, the words of programs) stays as it is."""
    if language is Language.EN:
        return text
    known = catalogue(language)
    if not isinstance(text, Message):
        return known.get(text, text)

    def local(value: Value) -> Value:
        if isinstance(value, str):
            return translate(language, value) if isinstance(value, Message) else value
        return _Decimal(value) if isinstance(value, float) else value

    template = known.get(text.code, text.code)
    return template.format(**{name: local(value) for name, value in text.values.items()})
