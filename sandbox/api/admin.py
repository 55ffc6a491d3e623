"""`/_sandbox/…`: what a real cloud has not, for the sandbox's own command and tests. All but health need the token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.api.context import Cloud
from sandbox.api.desired import problems, summary, world
from sandbox.api.faults import Faults, Rule
from sandbox.api.kinds import leftovers
from sandbox.api.switches import change_switches, switches_of
from sandbox.journal import Journal

Endpoint = Callable[[Request], Awaitable[Response]]

_PATIENCE = 30.0  # seconds


def authorized(request: Request, token: str) -> bool:
    """Return True if the request carries the sandbox's token."""
    given = request.headers.get("authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


class Running(Protocol):
    """What of the application is looked at here."""

    cloud: Cloud
    journal: Journal
    faults: Faults
    state: str


class Admin:
    """The endpoints under `/_sandbox`."""

    def __init__(self, api: Running) -> None:
        self._api = api

    def routes(self) -> list[Route]:
        """Return the routes, relative to `/_sandbox`."""
        table: list[tuple[str, str, Endpoint]] = [
            ("/journal", "GET", self._journal),
            ("/faults", "GET", self._list_faults),
            ("/faults", "POST", self._add_fault),
            ("/faults", "DELETE", self._remove_faults),
            ("/faults/{ident:int}", "DELETE", self._remove_faults),
            ("/leaks", "GET", self._leaks),
            ("/world", "GET", self._world),
            ("/bootstrap", "GET", self._bootstrap),
            ("/next", "POST", self._plant),
            ("/switches", "GET", self._switches),
            ("/switches", "PATCH", self._switches),
        ]
        guarded = [Route(path, self._guarded(endpoint), methods=[method]) for path, method, endpoint in table]
        return [Route("/health", self._health, methods=["GET"]), *guarded]

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        async def check(request: Request) -> Response:
            if not authorized(request, self._api.cloud.token):
                return JSONResponse({"id": "unauthorized", "message": "This needs the sandbox's own token."}, 401)
            return await endpoint(request)

        return check

    async def _health(self, _: Request) -> Response:
        """200 once the parts are what the store says, 503 before; `problems` are what failed, with the reasons."""
        state = {"status": self._api.state, "problems": await run_in_threadpool(problems, self._api.cloud)}
        return JSONResponse(state, 200 if self._api.state == "ready" else 503)

    async def _journal(self, request: Request) -> Response:
        since = int(request.query_params.get("since", "0"))
        return JSONResponse({"calls": await run_in_threadpool(self._api.journal.read, since)})

    async def _list_faults(self, _: Request) -> Response:
        return JSONResponse({"faults": [fault.describe() for fault in self._api.faults.faults.values()]})

    async def _add_fault(self, request: Request) -> Response:
        try:
            rule = Rule.model_validate(await request.json())
        except ValidationError as error:
            return JSONResponse({"message": str(error)}, 422)
        return JSONResponse({"fault": self._api.faults.add(rule).describe()}, 201)

    async def _remove_faults(self, request: Request) -> Response:
        return JSONResponse({"removed": self._api.faults.remove(request.path_params.get("ident"))})

    async def _leaks(self, _: Request) -> Response:
        """Name what lives in the parts and nothing explains, and what is left in the account."""
        cloud = self._api.cloud

        def look() -> dict[str, Any]:
            # What was just deleted may still be going.
            cloud.jobs.settle(_PATIENCE)
            with cloud.store.transaction():
                wanted, objects = world(cloud), leftovers(cloud.store)
            return {"parts": cloud.parts.leaks(wanted), "objects": objects}

        return JSONResponse(await run_in_threadpool(look))

    async def _world(self, _: Request) -> Response:
        return JSONResponse(await run_in_threadpool(summary, self._api.cloud))

    async def _bootstrap(self, _: Request) -> Response:
        """Return the account and the credentials that exist before anything is made."""
        store = self._api.cloud.store
        kept = store.get_meta("bootstrap")
        return JSONResponse(
            {
                "account": store.get_meta("team"),
                "spaces": {"access_key": kept["access_key"], "secret_key": kept["secret_key"]},
                "registry": {"username": kept["registry_username"], "password": kept["registry_password"]},
            }
        )

    async def _plant(self, request: Request) -> Response:
        """Set the next generated database password (of `user`, or of anyone)."""
        body = await request.json()
        if not isinstance(body.get("database_password"), str):
            return JSONResponse({"message": "database_password is required"}, 422)
        cloud = self._api.cloud
        with cloud.change():
            planted = cloud.store.get_meta("next_passwords", [])
            planted.append({"user": body.get("user"), "password": body["database_password"]})
            cloud.store.set_meta("next_passwords", planted)
        return JSONResponse({}, 201)

    async def _switches(self, request: Request) -> Response:
        """Return the switches, after those of the body were changed."""
        cloud = self._api.cloud
        if request.method == "GET":
            return JSONResponse(switches_of(cloud.store).model_dump(mode="json"))
        try:
            made = await run_in_threadpool(change_switches, cloud, await request.json())
        except (ValueError, TypeError) as error:
            return JSONResponse({"message": str(error)}, 422)
        await run_in_threadpool(cloud.jobs.settle, _PATIENCE)
        return JSONResponse(made.model_dump(mode="json"))
