"""What a row of the provider's table says, and what the row's calls have to work with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sandbox.plugins.errors import ProviderError
from sandbox.plugins.fields import Field
from sandbox.plugins.rest import Rest
from sandbox.plugins.schema import Says, how, properties
from sandbox.plugins.spaces import Spaces
from sandbox.plugins.values import Values


@dataclass(frozen=True)
class Cloud:
    """The clients of one provider, and the patience of one call (`timeout` in seconds, None is the resource's own)."""

    rest: Rest
    spaces: Callable[[str], Spaces]
    cancelled: threading.Event
    timeout: float | None = None
    locks: Mapping[str, threading.Lock] = field(default_factory=dict[str, threading.Lock])

    def wait(self, what: str, timeout: float, done: Callable[[], bool]) -> None:
        """Ask until `done`; the official provider asks every ten to fifteen seconds, a sandbox answers sooner.

        Raises:
            ProviderError: it took longer than `timeout` seconds, or the engine cancelled.
        """
        limit = self.timeout or timeout
        end = time.monotonic() + limit
        pause = 0.2
        while not done():
            if time.monotonic() >= end:
                raise ProviderError(f"{what}: not within {limit:.0f} s")
            if self.cancelled.wait(pause):
                raise ProviderError(f"{what}: cancelled")
            pause = min(pause * 1.5, 2.0)


@dataclass(frozen=True)
class Made:
    """A new resource: its id, and what only the answer to its creation tells."""

    id: str
    known: Values = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class Change:
    """An update: the state before, the whole state asked for, and the names of the properties that differ."""

    id: str
    old: Values
    new: Values
    names: frozenset[str]

    def of(self, *names: str) -> bool:
        """Tell whether one of these properties differs."""
        return not self.names.isdisjoint(names)


def _passed_through(_: Cloud, id_: str) -> tuple[str, Values]:
    return id_, {}


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One type of resource: what the SDK does not say of its properties (and of all `others`), and its calls.

    `read` gets the id and what is known, and returns what the API says now, or None when it is gone; it is not called
    after `create` when `created_is_read`. `check` names (property, reason) of inputs that do not fit together;
    `replaced_by` names properties whose change, from these old to these new values, needs a new resource.
    """

    name: str
    properties: Mapping[str, Says]
    create: Callable[[Cloud, Values], Made]
    read: Callable[[Cloud, str, Values], Values | None]
    delete: Callable[[Cloud, str, Values], object]
    update: Callable[[Cloud, Change], object] | None = None
    find: Callable[[Cloud, str], tuple[str, Values]] = _passed_through
    check: Callable[[Values], list[tuple[str, str]]] | None = None
    replaced_by: Callable[[Values, Values], set[str]] | None = None
    created_is_read: bool = False
    others: Says = field(default_factory=how)

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """All its properties, by name."""
        return properties(self.name, how(inner=self.properties, others=self.others))

    @property
    def token(self) -> str:
        """The type as the engine writes it."""
        return f"digitalocean:index/{self.name[0].lower()}{self.name[1:]}:{self.name}"


@dataclass(frozen=True, kw_only=True)
class Function:
    """One function of the provider (a data source)."""

    name: str
    fields: Mapping[str, Field]
    call: Callable[[Cloud, Values], Values]

    @property
    def token(self) -> str:
        """The function as the engine writes it."""
        return f"digitalocean:index/{self.name}:{self.name}"
