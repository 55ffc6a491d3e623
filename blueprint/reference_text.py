"""Text of a stack file with references in it: `${group.field}` stands for a value, `$$` for a dollar sign."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

VALUE_PREFIX = "ancla_"
"""What names in `.env` begin with whose values are referred to."""

_TOKEN = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<path>[^${}]*)\})?")


@dataclass(frozen=True)
class Path:
    """What stands between `${` and `}`."""

    text: str

    @property
    def variable(self) -> str:
        """The name of its value in `.env`, from which compose takes it; in small letters, unlike the app's own."""
        return VALUE_PREFIX + re.sub(r"[^a-z0-9]", "_", self.text.lower())


def parts(text: str) -> Iterator[str | Path]:
    """Yield the literal parts and the references of a text, in order.

    Raises:
        ValueError: a dollar sign is neither doubled nor the begin of a reference.
    """
    done = 0
    for found in _TOKEN.finditer(text):
        if found.start() > done:
            yield text[done : found.start()]
        done = found.end()
        if found["dollar"]:
            yield "$"
        elif found["path"] is None:
            raise ValueError("has a $ by itself: write $$ for a dollar sign, ${group.field} for a reference")
        else:
            yield Path(found["path"])
    if done < len(text):
        yield text[done:]


def references(text: str) -> list[Path]:
    """Return the references of a text."""
    return [part for part in parts(text) if isinstance(part, Path)]


def render(text: str, resolve: Callable[[Path], str], literal: Callable[[str], str] = str) -> str:
    """Return the text with each reference as `resolve` gives it, and what is between as `literal` does."""
    return "".join(resolve(part) if isinstance(part, Path) else literal(part) for part in parts(text))


def _text(value: str) -> str:
    list(parts(value))
    return value


Text = Annotated[str, AfterValidator(_text)]
"""Text of a stack file in which references may stand."""
