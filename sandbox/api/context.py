"""What every handler works with: the cloud, the call, errors, pages, and the tables of operations and jobs."""

from __future__ import annotations

import json
import re
import secrets
import string
import threading
import uuid
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from sandbox.api.jobs import Jobs
from sandbox.parts.services import Parts
from sandbox.store import Changes, Record, Store

Body = dict[str, Any]
T = TypeVar("T")
S = TypeVar("S")

ERROR_IDS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    412: "precondition_failed",
    422: "unprocessable_entity",
    429: "too_many_requests",
    500: "server_error",
    501: "not_implemented",
    503: "service_unavailable",
}


class ApiError(Exception):
    """An error answer: status and DigitalOcean's error body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Unanswered(Exception):  # noqa: N818 - no failure: the handler starts again with the answer
    """A handler needs to hear from a part first, which is asked while nobody holds the account."""

    def __init__(self, key: Hashable, question: Callable[[], Any]) -> None:
        super().__init__(key)
        self.key = key
        self.question = question


class ShownError(Exception):
    """A job failed, and the object that asked for it shows that in its own status: calls succeed nevertheless."""


def not_found(message: str = "The resource you were accessing could not be found.") -> ApiError:
    """Return the error for something that is not there."""
    return ApiError(404, message)


def invalid(message: str) -> ApiError:
    """Return the error for a body that cannot be accepted."""
    return ApiError(422, message)


def not_built(what: str) -> ApiError:
    """Return the error for what DigitalOcean has and the sandbox has not."""
    return ApiError(501, f"The sandbox does not simulate {what}.")


def one_of(
    given: Mapping[str, Any], name: str, allowed: Iterable[Any], message: str | None = None, default: Any = None
) -> Any:
    """Return a field of an object that must be one of these values.

    Raises:
        ApiError: 422, it is not.
    """
    value = given.get(name, default)
    options = list(allowed)
    if value not in options:
        raise invalid(message or f"{name} must be one of: {', '.join(map(str, options))}")
    return value


def whole(given: Mapping[str, Any], name: str, least: int, most: int, message: str | None = None) -> int:
    """Return a field of an object that must be a whole number in these bounds.

    Raises:
        ApiError: 422, it is not.
    """
    value = given.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise invalid(message or f"{name} must be between {least} and {most}")
    return value


def list_of(kind: type[T], value: Any, name: str) -> list[T]:
    """Return a list of the body whose items must be of one kind; None is empty.

    Raises:
        ApiError: 422, it is something else.
    """
    items = [] if value is None else value
    if not isinstance(items, list) or not all(isinstance(item, kind) for item in items):
        raise invalid(f"{name} must be a list of {'strings' if kind is str else f'{kind.__name__} values'}")
    return items


def pick(record: Record, *names: str) -> Body:
    """Return these fields of an object."""
    return {name: record[name] for name in names}


@dataclass(frozen=True)
class Operation:
    """One line of operations.json: the API description's operation id, method, path template and success status."""

    id: str
    method: str
    path: str
    status: int


def load_operations() -> list[Operation]:
    """Read every operation that DigitalOcean's API description (version 2.0) knows under the simulated prefixes."""
    rows = json.loads((Path(__file__).parent / "operations.json").read_text())
    return [Operation(*row) for row in rows]


def now() -> str:
    """Return the time as DigitalOcean writes it: UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_uuid() -> str:
    """Return a random UUID."""
    return str(uuid.uuid4())


def random_text(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """Return a random text from a cryptographic source."""
    return "".join(secrets.choice(alphabet) for _ in range(length))


@dataclass
class Call:
    """One request on its way through a handler."""

    cloud: Cloud
    operation: Operation
    path: str
    params: dict[str, str]
    query: dict[str, str]
    body: Body
    answers: dict[Hashable, Future[Any]] = field(default_factory=dict[Hashable, "Future[Any]"])
    checked_after: set[str] = field(default_factory=set[str])
    """Jobs that run after the call however it ends: it may have made something that its end does not keep."""

    @property
    def store(self) -> Store:
        """The cloud's store."""
        return self.cloud.store

    def ask(self, key: Hashable, question: Callable[[], T]) -> T:
        """Return what a part says. Handlers reach parts in this way alone: a part may hang, and the account must not.

        Where the answer is not known yet the handler ends here and its changes are undone; the part is asked without
        the account's lock, and the handler runs again from its beginning, on the account as it is by then.

        Args:
            key: names the question; another key is another question.
            question: asks the part.

        Raises:
            PartError: the part's own.
        """
        if key not in self.answers:
            raise Unanswered(key, question)
        return self.answers[key].result()

    def number(self, name: str) -> int:
        """Return a path parameter that must be a number; anything else names nothing."""
        try:
            return int(self.params[name])
        except ValueError:
            raise not_found() from None

    def text(self, name: str, *, pattern: str | None = None, message: str | None = None) -> str:
        """Return a field of the body that must be a non-empty text (of this pattern)."""
        value = self.body.get(name)
        if not isinstance(value, str) or not value:
            raise invalid(message or f"{name} is required")
        if pattern and not re.fullmatch(pattern, value):
            raise invalid(message or f"{name} is invalid")
        return value

    def one_of(self, name: str, allowed: Iterable[Any], message: str | None = None, default: Any = None) -> Any:
        """Return a field of the body that must be one of these values."""
        return one_of(self.body, name, allowed, message, default)

    def whole(self, name: str, least: int, most: int, message: str | None = None) -> int:
        """Return a field of the body that must be a whole number in these bounds."""
        return whole(self.body, name, least, most, message)

    def texts(self, name: str) -> list[str]:
        """Return a field of the body that must be a list of texts; absent or null is empty."""
        return list_of(str, self.body.get(name), name)

    def objects(self, name: str) -> list[Record]:
        """Return a field of the body that must be a list of objects; absent or null is empty."""
        return list_of(dict, self.body.get(name), name)

    def object(self, name: str) -> Record:
        """Return a field of the body that must be an object; absent or null is empty."""
        return list_of(dict, [self.body.get(name) or {}], name)[0]

    def page(self, key: str, items: Sequence[Any], render: Callable[[Any], Any] | None = None) -> Body:
        """Return one page of a list, with absolute links to its neighbours. 20 a page unless asked, at most 200."""
        per_page = min(self._query_number("per_page", 20), 200)
        number = self._query_number("page", 1)
        last = max(1, -(-len(items) // per_page))
        chosen = items[(number - 1) * per_page : number * per_page]

        def link(page: int) -> str:
            query = {**self.query, "page": page}
            return f"{self.cloud.base_url}{self.path}?{urlencode(query)}"

        pages: Body = {}
        if number > 1:
            pages |= {"first": link(1), "prev": link(number - 1)}
        if number < last:
            pages |= {"next": link(number + 1), "last": link(last)}
        return {
            key: [render(item) for item in chosen] if render else list(chosen),
            "links": {"pages": pages} if pages else {},
            "meta": {"total": len(items)},
        }

    def _query_number(self, name: str, default: int) -> int:
        text = self.query.get(name, "")
        return int(text) if text.isdigit() and int(text) > 0 else default


Handler = Callable[[Call], Body | None]
HANDLERS: dict[str, Handler] = {}
JOBS: dict[str, Callable[[Cloud, str], None]] = {}


def operation(*ids: str) -> Callable[[Handler], Handler]:
    """Register a handler for these operation ids."""

    def register(handler: Handler) -> Handler:
        for ident in ids:
            HANDLERS[ident] = handler
        return handler

    return register


def job(kind: str) -> Callable[[Callable[[Cloud, str], None]], Callable[[Cloud, str], None]]:
    """Register what brings parts to the store's state for keys `<kind>:<id>` (or `<kind>` alone)."""

    def register(run: Callable[[Cloud, str], None]) -> Callable[[Cloud, str], None]:
        JOBS[kind] = run
        return run

    return register


def converge(
    kind: str,
    wanted: Callable[[Cloud, str], S | None],
    apply: Callable[[Parts, S], None],
    remove: Callable[[Parts, str], None] | None = None,
) -> None:
    """Register the job of a kind whose part takes one value: what the store wants (None: nothing), unless it has it.

    Args:
        kind: the job's key, or what is before the colon of it.
        wanted: computes the value, inside a transaction.
        apply: gives it to the part.
        remove: takes away what is not wanted.
    """

    @job(kind)
    def run(cloud: Cloud, ident: str) -> None:
        key = f"{kind}:{ident}" if ident else kind
        with cloud.store.transaction():
            value = wanted(cloud, ident)
        if value is not None:
            cloud.apply(key, value, lambda: apply(cloud.parts, value))
            return
        cloud.applied.pop(key, None)
        if remove:
            remove(cloud.parts, ident)


@dataclass
class Outcome:
    """What a change left to be done: `waits` are the jobs an answer waits for, `changes` what was committed."""

    waits: dict[str, Future[None]] = field(default_factory=dict)
    changes: Changes = field(default_factory=dict)


@dataclass
class Cloud:
    """The simulated account and what is behind it."""

    store: Store
    parts: Parts
    base_url: str
    token: str = field(repr=False)

    def __post_init__(self) -> None:
        self.jobs = Jobs(self._run)
        self._local = threading.local()
        # The last spec that a part took, by job key.
        self.applied: dict[str, object] = {}

    def _run(self, key: str) -> None:
        kind, _, ident = key.partition(":")
        JOBS[kind](self, ident)

    def apply(self, key: str, spec: object, do: Callable[[], None]) -> None:
        """Let a part take a spec, unless it is the one that it took last."""
        if key in self.applied and self.applied[key] == spec:
            return
        self.applied.pop(key, None)
        do()
        self.applied[key] = spec

    @contextmanager
    def change(self) -> Generator[Outcome]:
        """Hold the account and change it.

        When the block ends it is committed and the jobs that were scheduled inside start. No part may be used inside.
        """
        outcome = Outcome()
        touched: dict[str, bool] = {}
        outer, self._local.touched = getattr(self._local, "touched", None), touched
        try:
            with self.store.transaction() as outcome.changes:
                yield outcome
        finally:
            self._local.touched = outer
        for key, wait in touched.items():
            future = self.jobs.submit(key)
            if wait:
                outcome.waits[key] = future

    def undo(self, outcome: Outcome) -> None:
        """Take a committed change back, because a part could not follow it; the parts follow the store back."""
        self.store.undo(outcome.changes)
        for key in outcome.waits:
            self.jobs.submit(key)

    def touch(self, key: str, *, wait: bool = True) -> None:
        """Schedule, inside `change`, the job `key` to run after the commit.

        With `wait` the answer waits for it; a failure of it (but `ShownError`) undoes the change and is the answer.
        """
        touched: dict[str, bool] = self._local.touched
        touched[key] = touched.get(key, False) or wait
