"""What a plugin says when it cannot do what was asked.

ProviderError
└── IncompleteError
"""

from __future__ import annotations

from sandbox.plugins.values import Values


class ProviderError(Exception):
    """What was asked cannot be done; the message says which call, what came back and what to do."""


class IncompleteError(ProviderError):
    """The resource was made and then something failed: the state must remember it."""

    def __init__(self, message: str, id_: str, known: Values) -> None:
        super().__init__(message)
        self.id = id_
        self.known = known
