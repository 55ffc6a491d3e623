"""Call the DigitalOcean API. Token and address come from the environment, as for the provider."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ops.core.errors import CloudError

NOT_FOUND = 404
TOO_MANY_REQUESTS = 429
NOT_IMPLEMENTED = 501
REAL_API = "https://api.digitalocean.com"
PAGE_SIZE = 200
"""The most items that one page may have."""


class NoAnswerError(CloudError):
    """It is unknown whether the request was carried out."""


class RefusedError(CloudError):
    """The API refused the request; `status` is its answer's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _BusyError(Exception):
    """429 or a server error: a retry may help."""


class Cloud:
    """A client of the API. Only reads are retried, on 429 and 5xx."""

    def __init__(self, token: str, address: str = REAL_API, *, transport: httpx.BaseTransport | None = None) -> None:
        self.address = address.rstrip("/")
        self._client = httpx.Client(
            base_url=self.address,
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            transport=transport,
            trust_env=_goes_out(self.address),
        )

    @property
    def is_real(self) -> bool:
        """Return True if this is DigitalOcean itself and not a sandbox."""
        return (urlsplit(self.address).hostname or "").endswith("digitalocean.com")

    def get(self, path: str) -> dict[str, Any] | None:
        """Return the JSON object at a path, or None when there is none (404).

        Raises:
            CloudError: no answer, or another refusal.
        """
        try:
            response = self._get(path)
        except (httpx.HTTPError, _BusyError) as error:
            raise CloudError(f"{self.address}{path}: no answer: {error or type(error).__name__}") from None
        if response.status_code == NOT_FOUND:
            return None
        self._refuse(response, "GET", path)
        return response.json()

    def items(self, path: str, key: str) -> list[dict[str, Any]]:
        """Return every item of a collection, page by page; a missing collection is empty.

        Raises:
            CloudError: no answer, or a refusal.
        """
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            separator = "&" if "?" in path else "?"
            document = self.get(f"{path}{separator}page={page}&per_page={PAGE_SIZE}")
            if document is None:
                return found
            found += document.get(key) or []
            if "next" not in ((document.get("links") or {}).get("pages") or {}):
                return found
            page += 1

    def delete(self, path: str) -> None:
        """Delete the resource at a path; a missing one is no error.

        Raises:
            CloudError: no answer, or a refusal.
        """
        try:
            response = self._client.delete(path)
        except httpx.HTTPError as error:
            raise CloudError(f"{self.address}{path}: no answer: {error}") from None
        if response.status_code != NOT_FOUND:
            self._refuse(response, "DELETE", path)

    def send(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create or change the resource at a path, once; return the answer's object.

        Raises:
            NoAnswerError: no answer, or a server error.
            CloudError: a refusal.
        """
        try:
            response = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise NoAnswerError(f"{self.address}{path}: no answer: {error or type(error).__name__}") from None
        if response.is_server_error and response.status_code != NOT_IMPLEMENTED:
            raise NoAnswerError(f"{method} {self.address}{path}: {response.status_code}")
        self._refuse(response, method, path)
        return response.json() if response.content else {}

    def account(self) -> str:
        """Return the UUID of the account the token belongs to.

        Raises:
            CloudError: the token is refused, or there is no answer.
        """
        document = self.get("/v2/account") or {}
        account = document.get("account") or {}
        # `uuid` is the person's; resources belong to the team.
        return str((account.get("team") or account).get("uuid", ""))

    @retry(
        retry=retry_if_exception_type((_BusyError, httpx.TransportError)),
        stop=stop_after_attempt(4),
        wait=wait_random_exponential(multiplier=0.3, max=8),
        reraise=True,
    )
    def _get(self, path: str) -> httpx.Response:
        response = self._client.get(path)
        if response.status_code == TOO_MANY_REQUESTS or response.is_server_error:
            raise _BusyError(f"HTTP {response.status_code}")
        return response

    def _refuse(self, response: httpx.Response, method: str, path: str) -> None:
        if response.is_success:
            return
        try:
            message = str(response.json().get("message", ""))
        except ValueError:
            message = ""
        hint = "; check DIGITALOCEAN_TOKEN" if response.status_code in (401, 403) else ""
        raise RefusedError(
            f"{method} {self.address}{path}: {response.status_code} {message}{hint}", response.status_code
        )


def cloud_from_environment() -> Cloud:
    """Create a client from DIGITALOCEAN_TOKEN and DIGITALOCEAN_API_URL.

    Raises:
        CloudError: there is no token.
    """
    token = os.environ.get("DIGITALOCEAN_TOKEN") or os.environ.get("DIGITALOCEAN_ACCESS_TOKEN")
    if not token:
        raise CloudError("DIGITALOCEAN_TOKEN: not set; give a token of the account, or open `make shell`")
    return Cloud(token, os.environ.get("DIGITALOCEAN_API_URL") or REAL_API)


def _goes_out(address: str) -> bool:
    """Return True if proxy variables apply: they never do for this computer's own addresses."""
    return urlsplit(address).hostname not in ("127.0.0.1", "localhost", "::1")
