"""Make a container registry of the account where it is missing; one that is there is left as it is.

A program of its own, which the engine runs from its text: `python3 -c TEXT '{"endpoint": …, "name": …, …}'`. So it
needs Python's own library alone, and no folder. The token comes by the environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any

_SUCCESS = range(200, 300)
_NOT_FOUND, _CONFLICT, _TOO_MANY, _SERVER_ERROR = 404, 409, 429, 500
_TRIES = 5


def ensure(wanted: dict[str, Any]) -> str:
    """Make the registry if the account has none of that name; return what was found or done.

    Raises:
        SystemExit: the API refused; the message says what and why.
    """
    name = wanted["name"]
    status, said = _ask(wanted["endpoint"], "GET", f"/v2/registries/{name}")
    if status == _NOT_FOUND:
        body = {"name": name, "subscription_tier_slug": wanted["tier"]}
        body |= {"region": wanted["region"]} if wanted.get("region") else {}
        status, said = _ask(wanted["endpoint"], "POST", "/v2/registries", body)
        if status in _SUCCESS:
            return f"registry {name}: made; it is the account's, and stays when this stack goes"
        if status == _CONFLICT and _ask(wanted["endpoint"], "GET", f"/v2/registries/{name}")[0] in _SUCCESS:
            return f"registry {name}: another stack has just made it"
    if status not in _SUCCESS:
        raise SystemExit(f"registry {name}: DigitalOcean answers {status}: {said}; see registry in the stack file")
    return f"registry {name}: is there"


def _ask(endpoint: str, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    token = os.environ.get("DIGITALOCEAN_TOKEN") or os.environ.get("DIGITALOCEAN_ACCESS_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(  # noqa: S310 - the endpoint is the one that the guard has accepted
        f"{endpoint}{path}", method=method, headers=headers, data=json.dumps(body).encode() if body else None
    )
    for left in reversed(range(_TRIES)):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
                return answer.status, ""
        except urllib.error.HTTPError as error:
            if not left or (error.code != _TOO_MANY and error.code < _SERVER_ERROR):
                return error.code, _message(error)
        except OSError as error:
            if not left:
                raise SystemExit(f"{endpoint} does not answer ({error})") from None
        time.sleep(2)
    raise AssertionError("the last try returns")


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["message"])
    except (ValueError, KeyError, TypeError):
        return error.reason


if __name__ == "__main__":
    document = json.loads(sys.argv[1])
    if document.get("stays"):
        print(  # noqa: T201 - the engine shows it
            f"registry {document['name']}: stays, because it is the account's and other stacks may use it; "
            f"`doctl registries delete {document['name']}` removes it with its images"
        )
    else:
        print(ensure(document))  # noqa: T201 - as above
