"""The application: from a request to its operation, its handler, its journal line and its answer."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pkgutil
import re
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, wait
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from sandbox.api import __path__ as api_families
from sandbox.api.admin import Admin, authorized
from sandbox.api.context import (
    ERROR_IDS,
    HANDLERS,
    ApiError,
    Body,
    Call,
    Cloud,
    Operation,
    Outcome,
    ShownError,
    Unanswered,
    load_operations,
    new_uuid,
    not_built,
    not_found,
    random_text,
)
from sandbox.api.desired import world
from sandbox.api.faults import Fault, Faults, wait_for_release
from sandbox.api.kinds import resume
from sandbox.api.projects import ensure_default_project
from sandbox.api.scopes import must_be_allowed, narrow_token, without_passwords
from sandbox.api.spaces import new_key_pair
from sandbox.journal import HARMLESS, Journal, redact
from sandbox.parts.base import PartError
from sandbox.parts.services import Parts
from sandbox.store import Store

log = logging.getLogger(__name__)

# Importing a family registers its kinds, handlers and jobs.
for _family in pkgutil.iter_modules(api_families):
    import_module(f"sandbox.api.{_family.name}")

OnResponse = Callable[[Operation, int, Any], None]
Found = tuple[Operation, dict[str, str]]

_RATE_LIMIT = (
    5000  # calls an hour, as DigitalOcean's headers say; announced and never enforced (faults do that on request)
)
_PART_PATIENCE = 120.0  # seconds an answer waits for its part at most
_REFUSED = (
    "Unable to authenticate you. This is a sandbox: it takes its own token only (`python -m sandbox env`), and the"
    " token of a real account was refused without being looked at or kept."
)


class Router:
    """Finds the operation of a method and path."""

    def __init__(self, operations: list[Operation]) -> None:
        self._by_length: dict[int, list[tuple[Operation, list[str]]]] = {}
        # Fixed segments win over parameters: /v2/projects/default before /v2/projects/{project_id}.
        for operation in sorted(operations, key=lambda op: op.path.replace("{", "~")):
            segments = operation.path.split("/")
            self._by_length.setdefault(len(segments), []).append((operation, segments))

    def find(self, method: str, path: str) -> Found | None:
        """Return the operation and its path parameters, or None."""
        given = path.rstrip("/").split("/")
        for operation, segments in self._by_length.get(len(given), []):
            if operation.method == method and all(
                part[:1] == "{" or part == unquote(other) for part, other in zip(segments, given, strict=True)
            ):
                pairs = zip(segments, given, strict=True)
                return operation, {part[1:-1]: unquote(other) for part, other in pairs if part[:1] == "{"}
        return None


class Api:
    """The ASGI application under `/`."""

    def __init__(self, cloud: Cloud, journal: Journal, on_response: OnResponse | None) -> None:
        self.cloud = cloud
        self.journal = journal
        self.faults = Faults()
        self.state = "starting"
        self._router = Router(load_operations())
        self._on_response = on_response
        self._calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            raw = await request.body()
        except ClientDisconnect:
            return None
        request_id = new_uuid()
        path = unquote(request.url.path)
        refused = self._refuse(request)
        found = None if refused else self._router.find(request.method, _raw_path(scope))
        fault = None if refused else self.faults.find(request.method, path, "before")
        if fault and (response := await self._suffer(fault, request_id, receive)):
            self._note(request, found, raw, fault=fault.rule.do)
            return await self._send(response, request_id, scope, receive, send)
        if refused:
            response = _error(refused, request_id)
        else:
            response = await run_in_threadpool(self._answer, request, found, raw, request_id)
            fault = self.faults.find(request.method, path, "after_commit")
            response = (await self._suffer(fault, request_id, receive) if fault else None) or response
        return await self._send(response, request_id, scope, receive, send)

    def _refuse(self, request: Request) -> ApiError | None:
        if not authorized(request, self.cloud.token) and not self._narrow(request):
            return ApiError(401, _REFUSED)
        if self.state != "ready":
            return ApiError(503, f"The sandbox is not ready: {self.state}.")
        return None

    def _narrow(self, request: Request) -> bool:
        return authorized(request, narrow_token(self.cloud.token))

    def _answer(self, request: Request, found: Found | None, raw: bytes, request_id: str) -> Response:
        """Run the handler in one transaction, wait for the jobs it scheduled, and note the call.

        A job that fails undoes the change, and its reason is the answer: no client takes for made what was not.
        """
        try:
            operation, body, outcome = self._execute(request, found, raw)
            try:
                _wait_for(outcome)
            except Exception:
                self.cloud.undo(outcome)
                raise
        except (ApiError, PartError) as error:
            refusal = error if isinstance(error, ApiError) else ApiError(503, str(error))
            self._note(request, found, raw, status=refusal.status)
            return _error(refusal, request_id)
        except Exception:
            log.exception("%s %s: request %s", request.method, request.url.path, request_id)
            self._note(request, found, raw, status=500)
            defect = f"Internal error in the sandbox: look for request {request_id} in serve.log in its home."
            return _error(ApiError(500, defect), request_id)
        self._note(request, found, raw, status=operation.status, committed=request.method != "GET")
        if self._on_response:
            self._on_response(operation, operation.status, body)
        return Response(status_code=operation.status) if body is None else JSONResponse(body, operation.status)

    def _execute(self, request: Request, found: Found | None, raw: bytes) -> tuple[Operation, Body | None, Outcome]:
        if found is None:
            raise not_found()
        operation, params = found
        if self._narrow(request):
            must_be_allowed(operation)
        handler = HANDLERS.get(operation.id)
        if handler is None:
            raise not_built(f"{operation.id} ({operation.method} {operation.path})")
        call = Call(
            cloud=self.cloud,
            operation=operation,
            path=unquote(request.url.path),
            params=params,
            query=dict(request.query_params),
            body={},
        )
        try:
            while True:
                call.body = _parse(raw)  # a handler may change it, and starts again with what was sent
                try:
                    with self.cloud.change() as outcome:
                        body = handler(call)
                except Unanswered as open_question:
                    call.answers[open_question.key] = _answer(open_question.question)
                else:
                    return operation, without_passwords(body) if self._narrow(request) else body, outcome
        finally:
            for key in call.checked_after:
                self.cloud.jobs.submit(key)

    def _note(self, request: Request, found: Found | None, raw: bytes, **outcome: Any) -> None:
        operation = found[0].id if found else None
        # Nobody here knows the fields of an operation that is not simulated: those of an app hold its secrets.
        harmless = HARMLESS if operation in HANDLERS else ()
        try:
            body = redact(json.loads(raw), harmless=harmless) if raw else None
        except ValueError:
            body = "[not JSON]"
        self.journal.write(
            method=request.method,
            path=unquote(request.url.path),
            query=redact(dict(request.query_params), harmless=harmless),
            template=found[0].path if found else None,
            operation=operation,
            **{"status": None, "committed": False, **outcome},
            body=body,
        )

    async def _suffer(self, fault: Fault, request_id: str, receive: Receive) -> Response | None:
        """Let a fault happen; return its answer, or None when the call goes on."""
        rule = fault.rule
        match rule.do:
            case "hang":
                # Nobody waits any more: what was not done yet is not done behind their back.
                return None if await wait_for_release(fault, receive) else _Dropped()
            case "delay":
                await asyncio.sleep(rule.seconds)
                return None
            case "drop":
                return _Dropped()
            case "status":
                headers = {} if rule.retry_after is None else {"retry-after": str(rule.retry_after)}
                if rule.body is not None:
                    return JSONResponse(rule.body, rule.status, headers)
                response = _error(ApiError(rule.status, "A fault was asked for."), request_id)
                response.headers.update(headers)
                return response

    async def _send(self, response: Response, request_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._calls += 1
        response.headers["x-request-id"] = request_id
        response.headers["ratelimit-limit"] = str(_RATE_LIMIT)
        response.headers["ratelimit-remaining"] = str(_RATE_LIMIT - self._calls % _RATE_LIMIT)
        response.headers["ratelimit-reset"] = str(int(time.time()) + 3600)
        await response(scope, receive, send)


class _Dropped(Response):
    """No answer: the connection is cut."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - Starlette's signature
        """Cut the connection under uvicorn; elsewhere fail, which is what a client there can see."""
        transport = getattr(getattr(receive, "__self__", None), "transport", None)
        if transport is None:
            raise ConnectionResetError("the connection was dropped, as asked for")
        transport.abort()


def _answer(question: Callable[[], Any]) -> Future[Any]:
    """Ask a part; the future holds what it said, or that it could not."""
    answer: Future[Any] = Future()
    try:
        answer.set_result(question())
    except PartError as error:
        answer.set_exception(error)
    return answer


def _wait_for(outcome: Outcome) -> None:
    """Wait for the jobs of a change.

    Raises:
        PartError: one has no end; and whatever one of them raised.
    """
    done, going_on = wait(outcome.waits.values(), timeout=_PART_PATIENCE)
    for future in done:
        if not isinstance(future.exception(), ShownError):
            future.result()
    if going_on:
        keys = ", ".join(key for key, future in outcome.waits.items() if future in going_on)
        raise PartError(f"{keys}: no end after {_PART_PATIENCE:g} s")


def _raw_path(scope: Scope) -> str:
    # A repository's name may hold an encoded slash, which the decoded path has lost.
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode().partition("?")[0]


def _parse(raw: bytes) -> dict[str, Any]:
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw)
    except ValueError:
        raise ApiError(400, "The request body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The request body must be a JSON object.")
    return body


def _error(error: ApiError, request_id: str) -> Response:
    body = {"id": ERROR_IDS.get(error.status, "server_error"), "message": error.message, "request_id": request_id}
    return JSONResponse(body, error.status, {"retry-after": "1"} if error.status == 503 else {})


def _open_account(store: Store) -> None:
    """Make the account of a new home: its identity, its default project, and the keys that are there first."""
    with store.transaction():
        if store.get_meta("account") is None:
            number = int(random_text(8, "123456789"))
            store.set_meta("account", {"uuid": new_uuid(), "number": number, "email": "sandbox@example.com"})
            access, secret = new_key_pair()
            store.set_meta(
                "bootstrap",
                {
                    "access_key": access,
                    "secret_key": secret,
                    "registry_username": "sandbox",
                    "registry_password": random_text(40),
                },
            )
        if store.get_meta("team") is None:
            store.set_meta("team", new_uuid())
        ensure_default_project(store)


def _start(api: Api) -> None:
    """Bring the parts to the store's state, then go on with what was half-finished."""
    cloud = api.cloud
    try:
        with cloud.store.transaction():
            wanted = world(cloud)
        problems = cloud.parts.reconcile(wanted)
    except Exception as error:
        # The reason has to be seen by whoever waits for health, whatever a part raised.
        log.exception("reconcile")
        api.state = f"failed to start its parts: {error}"
        return
    cloud.jobs.problems |= problems
    up = {ident: rules for ident, rules in wanted.firewalls.items() if f"start of droplet {ident}" not in problems}
    cloud.applied |= {f"firewall:{ident}": rules for ident, rules in up.items()}
    specs: dict[str, Any] = {f"cluster:{spec.id}": spec for spec in wanted.clusters}
    specs |= {f"{spec.kind}:{spec.id}": spec for spec in wanted.services}
    cloud.applied |= {key: spec for key, spec in specs.items() if key not in problems}
    with cloud.change():
        resume(cloud)
        cloud.touch("firewalls")
        for key in problems:
            if key.startswith("vpc:"):
                cloud.touch(key)
    api.state = "ready"


def _recorder() -> OnResponse | None:
    """Write every answer, secrets included, to $ANCLA_SANDBOX_RECORD/responses.jsonl: for tests that validate them."""
    folder = os.environ.get("ANCLA_SANDBOX_RECORD")
    if not folder:
        return None
    path, lock = Path(folder) / "responses.jsonl", threading.Lock()
    path.parent.mkdir(parents=True, exist_ok=True)

    def record(operation: Operation, status: int, body: Any) -> None:
        with lock, path.open("a") as file:
            file.write(json.dumps({"operation": operation.id, "status": status, "body": body}) + "\n")

    return record


def create_app(
    *, home: Path, parts: Parts, base_url: str, token: str, on_response: OnResponse | None = None
) -> Starlette:
    """Return the sandbox's API over `home`/state.db and these parts.

    Args:
        home: folder of the state and the journal; made if absent.
        parts: what is behind the API.
        base_url: how clients reach it, such as http://127.0.0.1:8470; used in links.
        token: the only token it takes.
        on_response: called with each successful answer before it is sent (operation, status, body).
    """
    home.mkdir(parents=True, exist_ok=True)
    store = Store(home / "state.db")
    _open_account(store)
    cloud = Cloud(store=store, parts=parts, base_url=re.sub(r"/+$", "", base_url), token=token)
    api = Api(cloud, Journal(home / "journal.jsonl"), on_response or _recorder())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        threading.Thread(target=_start, args=(api,), name="sandbox-reconcile", daemon=True).start()
        yield
        api.faults.remove()
        await run_in_threadpool(cloud.jobs.close)
        api.journal.close()
        store.close()

    app = Starlette(routes=[Mount("/_sandbox", routes=Admin(api).routes()), Mount("/", app=api)], lifespan=lifespan)
    app.state.api = api
    return app
