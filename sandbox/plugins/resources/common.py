"""Small things that many rows need."""

from __future__ import annotations

import re
import secrets
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, Unpack
from urllib.parse import quote

from sandbox.plugins.errors import ProviderError
from sandbox.plugins.fields import Field, filled, one_of, ordered, set_of, snake, string
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.rest import RestError
from sandbox.plugins.schema import Says, how
from sandbox.plugins.values import Values

T = TypeVar("T")
ACTION_TIMEOUT = 3600.0


def name(**more: Unpack[Says]) -> Says:
    """Describe a name that is made up when it is not given."""
    return {"autoname": True, "check": filled, **more}


def region(**more: Unpack[Says]) -> Says:
    """Describe a region; the API knows it in lower case only."""
    return {"stored": str.lower, **more}


def tags(**more: Unpack[Says]) -> Says:
    """Describe the tags of a resource: a set in which case does not count."""
    return {"unordered": True, "fold_case": True, "item": how(check=_tag), **more}


def _tag(value: str) -> str | None:
    fine = 0 < len(value) <= 255 and all(c.isascii() and (c.isalnum() or c in ":-_") for c in value)
    return None if fine else "a tag has letters, digits, colons, dashes and underscores, at most 255"


def segment(value: Any) -> str:
    """Write a value as one part of a path."""
    return quote(str(value), safe="")


def snaked(*keys: str) -> dict[str, str]:
    """Return the API's names of these properties."""
    return {key: snake(key) for key in keys}


def shown(answer: Values, *keys: str) -> Values:
    """Return these properties out of an answer of the API."""
    return {key: answer[wire] for key, wire in snaked(*keys).items()}


def camelled(answer: Any) -> Any:
    """Return an answer of the API with the properties' names; what is no property of a resource is not kept of it."""
    if isinstance(answer, list):
        return [camelled(item) for item in answer]
    if not isinstance(answer, dict):
        return answer
    return {re.sub("_(.)", lambda at: at[1].upper(), key): camelled(value) for key, value in answer.items()}


def sent(new: Values, *keys: str) -> Values:
    """Return these properties as the API is sent them."""
    return {wire: new[key] for key, wire in snaked(*keys).items()}


def two_parts(what: str, needs: str, id_: str, *, numbered: bool = False) -> tuple[str, str]:
    """Split the id of an import at its comma.

    Raises:
        ProviderError: it has none, or what comes after it is to be a number and is not.
    """
    first, comma, second = id_.partition(",")
    if not comma or (numbered and not second.isdigit()):
        raise ProviderError(f"{what}{id_}: import needs {needs}")
    return first, second


@dataclass(frozen=True)
class Endpoint:
    """Where a plain resource lives: POST to `path`, and GET, PUT and DELETE below it by the id.

    `path` may name properties: `/v2/domains/{domain}/records`. `word` is what an answer wraps the resource in, `body`
    turns properties into what is sent, `state` turns what is answered into properties, and `id` is the field that names
    it.
    """

    path: str
    word: str
    body: Callable[[Values], Values] = dict
    state: Callable[[Values], Values] = camelled
    id: str = "id"

    def at(self, known: Values, id_: str = "") -> str:
        """Return the path of one resource, or of all without an id."""
        path = self.path.format_map({key: segment(value) for key, value in known.items()})
        return f"{path}/{segment(id_)}" if id_ else path

    def resource(self, name: str, properties: Mapping[str, Says], **members: Any) -> Resource:
        """Return the resource that lives here, with the calls below unless `members` has another one."""
        calls: Values = {"create": self.create, "read": self.read, "update": self.update, "delete": self.delete}
        return Resource(name=name, properties=properties, **(calls | members))

    def create(self, cloud: Cloud, new: Values) -> Made:  # noqa: D102 - the four calls of a `Resource`
        return Made(str(cloud.rest.post(self.at(new), self.body(new))[self.word][self.id]))

    def read(self, cloud: Cloud, id_: str, known: Values) -> Values | None:  # noqa: D102
        answer = cloud.rest.find(self.at(known, id_), self.word)
        return None if answer is None else self.state(answer)

    def update(self, cloud: Cloud, change: Change) -> None:  # noqa: D102
        cloud.rest.put(self.at(change.new, change.id), self.body(change.new))

    def delete(self, cloud: Cloud, id_: str, known: Values) -> None:  # noqa: D102
        cloud.rest.delete(self.at(known, id_))


def unless_empty(**members: Any) -> Values:
    """Keep the members that say something, as Go's `omitempty` does."""
    return {key: value for key, value in members.items() if value not in (None, "", 0, False, [], {})}


def go_time(value: Any) -> str | None:
    """Write a timestamp the way Go prints one, which is what the official provider keeps of some of them."""
    if not value:
        return None
    moment = datetime.fromisoformat(str(value)).astimezone(UTC)
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


def in_32_bits(value: float) -> float:
    """Bring a number to 32 bits, which is how the official client keeps some; 0.2 comes back as 0.20000000298023224.

    A program that gives such a number sees a difference that never ends, here as with the official provider.
    """
    return struct.unpack("f", struct.pack("f", float(value)))[0]


def shortest_in_32_bits(value: float) -> float:
    """Write a number of 32 bits the way the official client sends it: as short as it can be."""
    exact = in_32_bits(value)
    return next(short for digits in range(1, 10) if in_32_bits(short := float(f"{exact:.{digits}g}")) == exact)


def unique_id(prefix: str) -> str:
    """Make up an id for what has none at DigitalOcean: prefix, UTC time, random digits (26 characters)."""
    now = datetime.now(UTC)
    return f"{prefix}{now:%Y%m%d%H%M%S}{now.microsecond // 100:04d}{secrets.token_hex(4)}"


def finish_action(cloud: Cloud, action: Values, what: str, path: str = "/v2/actions") -> None:
    """Wait until an action has ended well.

    Raises:
        ProviderError: it ended in an error, or took too long.
    """
    number = action["id"]

    def done() -> bool:
        now = cloud.rest.get(f"{path}/{number}")["action"]
        if now["status"] == "errored":
            raise ProviderError(f"{what}: action {number} ({now.get('type')}) ended in an error")
        return bool(now.get("completed_at")) or now["status"] == "completed"

    cloud.wait(f"{what}: action {number}", ACTION_TIMEOUT, done)


def retried(cloud: Cloud, seconds: float, what: str, call: Callable[[], T], *, again: Callable[[RestError], bool]) -> T:
    """Make a call until it succeeds or fails in another way than `again` (a predicate over `RestError`) accepts."""
    answer: list[T] = []
    end = time.monotonic() + (cloud.timeout or seconds)

    def done() -> bool:
        try:
            answer.append(call())
        except RestError as error:
            if again(error) and time.monotonic() < end:
                return False
            raise
        return True

    cloud.wait(what, seconds + 1, done)
    return answer[0]


TAGS: Final[Field] = set_of(string(), fold_case=True)


def tag_list(values: Values) -> list[str]:
    """Say the tags in the order in which the official provider sends them."""
    return ordered(values.get("tags") or [], TAGS)


def set_tags(cloud: Cloud, change: Change, kind: str) -> None:
    """Bring the tags of a thing (`kind` droplet, volume or database) to what is asked for."""
    old, new = set(change.old.get("tags") or []), set(change.new.get("tags") or [])
    resources = {"resources": [{"resource_id": change.id, "resource_type": kind}]}
    for tag in sorted(old - new):
        cloud.rest.delete(f"/v2/tags/{segment(tag)}/resources", resources)
    for tag in sorted(new - old):
        made = cloud.rest.post("/v2/tags", {"name": tag})["tag"]
        cloud.rest.post(f"/v2/tags/{segment(made['name'])}/resources", resources)


def _folded(old: Any, new: Any, _: Values) -> bool:
    return str(old).lower() == str(new).lower()


NOTIFICATIONS: Final[dict[str, Says]] = {
    "slacks": how(wire="slack", inner={"channel": how(same=_folded), "url": how(same=_folded)}),
    "emails": how(wire="email"),
}


def notification_body(value: Values) -> Values:
    """Say whom to tell, for the API; nobody is null, as the official client writes it."""
    slacks = [{"url": slack["url"], "channel": slack["channel"]} for slack in value.get("slacks") or []]
    return {"slack": slacks or None, "email": value.get("emails") or None}


def notification_state(value: Values) -> Values:
    """Say whom to tell, for the state."""
    return {"slacks": value.get("slack") or [], "emails": value.get("email") or []}


BACKUP_POLICY: Final = how(
    inner={
        "plan": how(check=one_of("daily", "weekly")),
        "weekday": how(check=one_of("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")),
    }
)
