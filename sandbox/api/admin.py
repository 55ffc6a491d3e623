"""`/_sandbox/…`: what a real cloud has not. For the sandbox's own command and for tests; all but health need the token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.api.desired import summary, world
from sandbox.api.faults import Rule
from sandbox.store import Store

if TYPE_CHECKING:
    from sandbox.api.app import Api

Endpoint = Callable[[Request], Awaitable[Response]]

# Kind in the store → the field that names an object to people.
_LEFT_OVER = {
    "ssh_key": "name",
    "vpc": "name",
    "droplet": "name",
    "firewall": "name",
    "reserved_ip": "ip",
    "tag": "name",
    "domain": "name",
    "database": "name",
    "spaces_key": "name",
    "cdn": "endpoint",
    "certificate": "name",
    "registry": "name",
    "project": "name",
    "alert": "description",
    "check": "name",
    "volume": "name",
    "snapshot": "name",
}


def left_over(store: Store) -> list[str]:
    """Name every object that someone made in the account and nobody removed."""
    return [
        f"{kind} {record[name]}"
        for kind, name in _LEFT_OVER.items()
        for record in store.list(kind)
        if not record.get("default") and not record.get("is_default")
    ]


def authorized(request: Request, token: str) -> bool:
    """Say whether the request carries the sandbox's token."""
    given = request.headers.get("authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


def admin_routes(api: Api) -> list[Route]:
    """Return the routes under `/_sandbox`."""
    cloud, faults = api.cloud, api.faults

    async def health(_: Request) -> Response:
        state = {"status": api.state, "problems": cloud.jobs.problems}
        return JSONResponse(state, 200 if api.state == "ready" else 503)

    async def journal(request: Request) -> Response:
        since = int(request.query_params.get("since", "0"))
        return JSONResponse({"calls": await run_in_threadpool(api.journal.read, since)})

    async def list_faults(_: Request) -> Response:
        return JSONResponse({"faults": [fault.describe() for fault in faults.faults.values()]})

    async def add_fault(request: Request) -> Response:
        try:
            rule = Rule.model_validate(await request.json())
        except ValidationError as error:
            return JSONResponse({"message": str(error)}, 422)
        return JSONResponse({"fault": faults.add(rule).describe()}, 201)

    async def remove_faults(request: Request) -> Response:
        return JSONResponse({"removed": faults.remove(request.path_params.get("ident"))})

    async def leaks(_: Request) -> Response:
        def look() -> dict[str, Any]:
            with cloud.store.transaction():
                wanted, objects = world(cloud), left_over(cloud.store)
            return {"parts": cloud.parts.leaks(wanted), "objects": objects}

        return JSONResponse(await run_in_threadpool(look))

    async def show_world(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(summary, cloud))

    async def bootstrap(_: Request) -> Response:
        kept = cloud.store.get_meta("bootstrap")
        return JSONResponse(
            {
                "account": cloud.store.get_meta("account")["uuid"],
                "spaces": {"access_key": kept["access_key"], "secret_key": kept["secret_key"]},
                "registry": {"username": kept["registry_username"], "password": kept["registry_password"]},
            }
        )

    async def plant(request: Request) -> Response:
        """Set the next generated database password (of `user`, or of anyone)."""
        body = await request.json()
        if not isinstance(body.get("database_password"), str):
            return JSONResponse({"message": "database_password is required"}, 422)
        with cloud.change():
            planted = cloud.store.get_meta("next_passwords", [])
            planted.append({"user": body.get("user"), "password": body["database_password"]})
            cloud.store.set_meta("next_passwords", planted)
        return JSONResponse({}, 201)

    def guarded(endpoint: Endpoint) -> Endpoint:
        async def check(request: Request) -> Response:
            if not authorized(request, cloud.token):
                return JSONResponse({"id": "unauthorized", "message": "This needs the sandbox's own token."}, 401)
            return await endpoint(request)

        return check

    table: list[tuple[str, str, Endpoint]] = [
        ("/journal", "GET", journal),
        ("/faults", "GET", list_faults),
        ("/faults", "POST", add_fault),
        ("/faults", "DELETE", remove_faults),
        ("/faults/{ident:int}", "DELETE", remove_faults),
        ("/leaks", "GET", leaks),
        ("/world", "GET", show_world),
        ("/bootstrap", "GET", bootstrap),
        ("/next", "POST", plant),
    ]
    return [
        Route("/health", health, methods=["GET"]),
        *(Route(path, guarded(endpoint), methods=[method]) for path, method, endpoint in table),
    ]
