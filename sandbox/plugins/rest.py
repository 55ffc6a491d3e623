"""Calls to the REST API: the token, the retries and the messages of the official client."""

from __future__ import annotations

import os
import ssl
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from sandbox.plugins.errors import ProviderError


class RestError(ProviderError):
    """A call was refused or never answered; the message names the call, the status and what the API said."""

    def __init__(self, message: str, status: int = 0, said: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.said = said


@dataclass(frozen=True, kw_only=True)
class Rest:
    """A client of one API. `url` is the root, without /v2; waits in seconds.

    As godo does: up to `retries` more tries after a broken connection, 429, or 5xx but 501, each waiting twice as long
    as the one before, or as long as `Retry-After` says.
    """

    url: str
    token: str = field(repr=False)
    retries: int = 4
    wait_min: float = 1.0
    wait_max: float = 30.0
    cancelled: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        host = urlsplit(self.url).hostname or ""
        # Go's client never asks a proxy for this machine; httpx would.
        local = host == "localhost" or host.startswith("127.") or host == "::1"
        ca = os.environ.get("SSL_CERT_FILE")
        client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token}", "User-Agent": "ancla-sandbox-plugin"},
            timeout=httpx.Timeout(300, connect=10),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            trust_env=not local,
            verify=ssl.create_default_context(cafile=ca) if ca and self.url.startswith("https") else True,
        )
        object.__setattr__(self, "_client", client)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Read. Returns the parsed answer, as all of these do ({} when there is none)."""
        return self._call("GET", path, params=query or None)

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        """Create, or start an action."""
        return self._call("POST", path, json=body)

    def put(self, path: str, body: Any) -> dict[str, Any]:
        """Replace."""
        return self._call("PUT", path, json=body)

    def patch(self, path: str, body: Any) -> dict[str, Any]:
        """Change."""
        return self._call("PATCH", path, json=body)

    def delete(self, path: str, body: Any = None) -> dict[str, Any]:
        """Delete."""
        return self._call("DELETE", path, json=body)

    def remove(self, path: str) -> None:
        """Delete what may be gone already."""
        try:
            self.delete(path)
        except RestError as error:
            if error.status != 404:
                raise

    def find(self, path: str, word: str = "") -> dict[str, Any] | None:
        """Read, with None for what is not there; with a `word`, what the answer wraps in it."""
        try:
            answer = self.get(path)
            return answer[word] if word else answer
        except RestError as error:
            if error.status == 404:
                return None
            raise

    def pages(self, path: str, plural: str) -> list[Any]:
        """Read every page of a list."""
        found: list[Any] = []
        page = 1
        while True:
            answer = self.get(path, page=page, per_page=200)
            found += answer.get(plural) or []
            if not ((answer.get("links") or {}).get("pages") or {}).get("next"):
                return found
            page += 1

    def _call(self, method: str, path: str, *, params: Any = None, json: Any = None) -> dict[str, Any]:
        where = f"{method} {self.url.rstrip('/')}{path}"
        for attempt in range(self.retries + 1):
            wait = min(self.wait_min * 2**attempt, self.wait_max)
            last = attempt == self.retries
            try:
                answer: httpx.Response = self._client.request(  # type: ignore[attr-defined] # set in __post_init__: frozen
                    method, path, params=params, json=json
                )
            except httpx.TransportError as error:
                if last or self.cancelled.is_set():
                    raise RestError(
                        f"{where}: no answer from the DigitalOcean API ({error or type(error).__name__}); "
                        f"check DIGITALOCEAN_API_URL={self.url} and that something listens there"
                    ) from None
            else:
                retried = answer.status_code == 429 or (answer.status_code >= 500 and answer.status_code != 501)
                if last or not retried:
                    return _parsed(answer, where)
                after = answer.headers.get("Retry-After", "")
                if answer.status_code in (429, 503) and after.isdigit():
                    wait = float(after)
            if self.cancelled.wait(wait):
                raise RestError(f"{where}: cancelled")
        raise AssertionError("the last attempt returns or raises")


def _parsed(answer: httpx.Response, where: str) -> dict[str, Any]:
    try:
        body = answer.json() if answer.content else {}
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    if answer.is_success:
        return body
    said = str(body.get("message") or answer.reason_phrase)
    request = body.get("request_id") or answer.headers.get("x-request-id")
    raise RestError(
        f"{where}: {answer.status_code} {f'(request {request}) ' if request else ''}{said}", answer.status_code, said
    )
