"""Faults on request: calls that hang, fail, are dropped or are slow, before they do anything or after they did it."""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive


class Match(BaseModel):
    """Which calls: method, and a regular expression searched in the path; of these the `nth` (from 1), or by chance."""

    model_config = ConfigDict(extra="forbid")
    method: str | None = None
    path: re.Pattern[str] = re.compile("")
    nth: int | None = Field(default=None, ge=1)
    probability: float = Field(default=1.0, ge=0, le=1)
    seed: int = 0


class Rule(BaseModel):
    """What happens to them: `before` nothing was done, or `after_commit`, when only the answer can be lost.

    `hang` holds the connection until the client goes away or the fault is deleted (the call goes on), `drop` cuts it,
    `delay` waits `seconds`, `status` answers `status` with `body` and, if given, `Retry-After: retry_after` (seconds).
    """

    model_config = ConfigDict(extra="forbid")
    match: Match = Match()
    when: Literal["before", "after_commit"] = "before"
    do: Literal["hang", "status", "drop", "delay"]
    status: int = Field(default=503, ge=400, le=599)
    body: dict[str, Any] | None = None
    retry_after: int | None = None
    seconds: float = Field(default=1.0, ge=0)


@dataclass
class Fault:
    """A rule at work: how often it was looked at and applied."""

    id: int
    rule: Rule
    seen: int = 0
    applied: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.rule.match.seed)  # noqa: S311 - repeatable faults, not secrets

    def hits(self, method: str, path: str, when: str) -> bool:
        """Count the call, and return True if the fault happens to it."""
        match = self.rule.match
        if self.rule.when != when or match.method not in (None, method) or not match.path.search(path):
            return False
        self.seen += 1
        hit = self.seen == match.nth if match.nth else self.chance.random() < match.probability
        self.applied += hit
        return hit

    def describe(self) -> dict[str, Any]:
        """Return the fault as JSON."""
        return {"id": self.id, "seen": self.seen, "applied": self.applied, **self.rule.model_dump(mode="json")}


class Faults:
    """The faults in force. They do not outlive the process."""

    def __init__(self) -> None:
        self.faults: dict[int, Fault] = {}
        self._last = 0

    def add(self, rule: Rule) -> Fault:
        """Put a fault in force."""
        self._last += 1
        fault = self.faults[self._last] = Fault(self._last, rule)
        return fault

    def remove(self, ident: int | None = None) -> int:
        """Lift one fault or all; calls that hang on them go on. Return how many there were."""
        lifted = [fault for fault in self.faults.values() if ident in (None, fault.id)]
        for fault in lifted:
            fault.released.set()
            del self.faults[fault.id]
        return len(lifted)

    def find(self, method: str, path: str, when: str) -> Fault | None:
        """Return the first fault that happens to this call."""
        return next((fault for fault in list(self.faults.values()) if fault.hits(method, path, when)), None)


async def wait_for_release(fault: Fault, receive: Receive) -> bool:
    """Wait until the fault is lifted (True) or the client has gone (False)."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    left = asyncio.ensure_future(gone())
    lifted = asyncio.ensure_future(fault.released.wait())
    await asyncio.wait((left, lifted), return_when=asyncio.FIRST_COMPLETED)
    here = not left.done()
    left.cancel()
    lifted.cancel()
    return here
