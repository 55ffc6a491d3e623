"""What a plugin says when it cannot do what was asked.

ProviderError
├── IncompleteError
├── sandbox.plugins.rest.RestError
└── sandbox.plugins.spaces.RefusedError
    └── NotFoundError
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sandbox.plugins.values import Values


class ProviderError(Exception):
    """What was asked cannot be done; the message says which call, what came back and what to do."""


class IncompleteError(ProviderError):
    """The resource was made and then something failed: the state must remember it."""

    def __init__(self, message: str, id_: str, known: Values) -> None:
        super().__init__(message)
        self.id = id_
        self.known = known


@contextmanager
def unfinished(id_: str, **known: Any) -> Generator[None]:
    """Let the state remember a resource that was made, and what is `known` beyond its inputs, should the rest fail."""
    try:
        yield
    except ProviderError as error:
        raise IncompleteError(str(error), id_, known) from None
