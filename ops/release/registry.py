"""Access the container registry: get a login that may pull for an hour, and the digest of a tag.

Endpoints: DigitalOcean's `GET /v2/registries/{name}/docker-credentials` (which answers with a Docker config.json), and
`HEAD /v2/<name>/manifests/<tag>` of the OCI distribution API, with Basic or Bearer authentication as the registry asks.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ops.core.errors import RegistryError
from ops.stack.cloud import Cloud

LOGIN_SECONDS = 3600
"""Seconds a login is valid: long enough for a deploy."""

NO_LOGIN = json.dumps({"auths": {}})
"""Config of Docker for images that everybody may pull."""

TOKEN_SERVERS = {"registry.digitalocean.com": "api.digitalocean.com"}
"""Hosts that issue a registry's tokens if it does not do so itself."""

_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def pull_login(cloud: Cloud, name: str) -> SecretStr:
    """Return a Docker config.json that may pull from the registry of this name for an hour.

    Raises:
        CloudError: the API refuses or does not answer.
        RegistryError: the account has no such registry.
    """
    # By name: `/v2/registry` is refused if an account has more than one.
    query = f"expiry_seconds={LOGIN_SECONDS}&read_write=false"
    document = cloud.get(f"/v2/registries/{name}/docker-credentials?{query}")
    if not document or not document.get("auths"):
        raise RegistryError(f"{cloud.address}: the account has no container registry {name}; run `pulumi up`")
    return SecretStr(json.dumps({"auths": document["auths"]}))


class Registry:
    """A registry by its endpoint (`host/name`), accessed with the login of `pull_login`."""

    def __init__(self, endpoint: str, login: SecretStr, *, transport: httpx.BaseTransport | None = None) -> None:
        self.host, _, self.name = endpoint.partition("/")
        auths: dict[str, Any] = json.loads(login.get_secret_value())["auths"]
        if self.host not in auths:
            raise RegistryError(
                f"{endpoint}: the account's login is for {', '.join(auths)}; `registry` names a different one"
            )
        self._basic = f"Basic {auths[self.host]['auth']}"
        self._client = httpx.Client(base_url=f"https://{self.host}", timeout=30, transport=transport)

    def digest(self, repository: str, tag: str) -> str:
        """Return the current digest of `repository:tag`.

        Raises:
            RegistryError: no such image, a refusal, or no answer.
        """
        image = f"{self.host}/{self.name}/{repository}:{tag}"
        path = f"/v2/{self.name}/{repository}/manifests/{tag}"
        try:
            response = self._head(path, self._basic)
            challenge = response.headers.get("www-authenticate", "")
            if response.status_code == 401 and challenge.lower().startswith("bearer "):
                response = self._head(path, f"Bearer {self._token(challenge)}")
        except httpx.HTTPError as error:
            raise RegistryError(f"{image}: the registry does not answer: {error or type(error).__name__}") from None
        if response.status_code == 404:
            raise RegistryError(
                f"{image}: there is no such image in the registry; push it, or correct the service's image"
            )
        if not response.is_success:
            raise RegistryError(f"{image}: the registry refuses ({response.status_code})")
        digest = response.headers.get("docker-content-digest", "")
        if not _DIGEST.fullmatch(digest):
            raise RegistryError(f"{image}: the registry returned no digest (found {digest!r})")
        return digest

    @retry(
        retry=retry_if_exception_type(httpx.TransportError),
        stop=stop_after_attempt(3),
        wait=wait_random_exponential(multiplier=0.3, max=4),
        reraise=True,
    )
    def _head(self, path: str, authorization: str) -> httpx.Response:
        return self._client.head(path, headers={"Accept": _MANIFESTS, "Authorization": authorization})

    def _token(self, challenge: str) -> str:
        """Exchange the login for a token, as the registry's challenge says (distribution's token authentication)."""
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = fields.pop("realm", "")
        host, asked = self.host.partition(":")[0], urlsplit(realm)
        # By exact name: the last labels do not show which domains belong to one company (shop.co.uk, evil.co.uk).
        if asked.scheme != "https" or asked.hostname not in {host, TOKEN_SERVERS.get(host)}:
            raise RegistryError(f"{self.host}: wants its login sent to {realm!r}, which is not its own token server")
        response = self._client.get(realm, params=fields, headers={"Authorization": self._basic})
        if not response.is_success:
            raise RegistryError(f"{self.host}: the login is refused ({response.status_code})")
        document = response.json()
        return str(document.get("token") or document.get("access_token") or "")
