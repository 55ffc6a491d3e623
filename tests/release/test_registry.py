from __future__ import annotations

import base64
import json

import httpx
import pytest
from pydantic import SecretStr

from ops.core.errors import RegistryError
from ops.release.registry import Registry, pull_login
from ops.stack.cloud import Cloud

AUTH = base64.b64encode(b"user:CANARY").decode()
LOGIN = SecretStr(json.dumps({"auths": {"registry.digitalocean.com": {"auth": AUTH}}}))
DIGEST = "sha256:" + "a" * 64
PATH = "/v2/acme/web/manifests/1.0.0"


def registry(handler: object, endpoint: str = "registry.digitalocean.com/acme") -> Registry:
    return Registry(endpoint, LOGIN, transport=httpx.MockTransport(handler))  # type: ignore[arg-type] # a handler


def test_a_tag_becomes_the_digest_the_registry_names():
    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("HEAD", PATH)
        assert request.headers["authorization"] == f"Basic {AUTH}"
        assert "application/vnd.oci.image.index.v1+json" in request.headers["accept"]
        return httpx.Response(200, headers={"Docker-Content-Digest": DIGEST})

    assert registry(answer).digest("web", "1.0.0") == DIGEST


def test_a_token_is_fetched_when_the_registry_asks_for_one():
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "api.digitalocean.com":
            assert request.url.params["scope"] == "repository:acme/web:pull"
            return httpx.Response(200, json={"token": "T"})
        if request.headers["authorization"] == "Bearer T":
            return httpx.Response(200, headers={"Docker-Content-Digest": DIGEST})
        realm = "https://api.digitalocean.com/v2/registry/auth"
        challenge = f'Bearer realm="{realm}",service="registry.digitalocean.com",scope="repository:acme/web:pull"'
        return httpx.Response(401, headers={"WWW-Authenticate": challenge})

    assert registry(answer).digest("web", "1.0.0") == DIGEST


@pytest.mark.parametrize(
    "realm",
    [
        "https://evil.example.org/auth",
        "https://evil.digitalocean.com/auth",
        "http://api.digitalocean.com/auth",
        "",
    ],
)
def test_the_login_is_not_sent_elsewhere(realm: str):
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "registry.digitalocean.com"
        return httpx.Response(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})

    with pytest.raises(RegistryError, match="not its own token server"):
        registry(answer).digest("web", "1.0.0")


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        (httpx.Response(404), "acme/web:1.0.0: there is no such image"),
        (httpx.Response(403), r"refuses \(403\)"),
        (httpx.Response(200), "returned no digest"),
        (httpx.Response(200, headers={"Docker-Content-Digest": "sha256:short"}), "returned no digest"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_without_the_login(response: httpx.Response, complaint: str):
    with pytest.raises(RegistryError, match=complaint) as found:
        registry(lambda _: response).digest("web", "1.0.0")
    assert AUTH not in str(found.value)


def test_a_registry_that_does_not_answer_is_said_so():
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(RegistryError, match="does not answer: refused"):
        registry(answer).digest("web", "1.0.0")


def test_a_login_for_another_registry_is_refused():
    with pytest.raises(RegistryError, match=r"the account's login is for registry\.digitalocean\.com"):
        registry(lambda _: httpx.Response(200), endpoint="registry.example.org/acme")


def test_the_login_can_pull_for_an_hour_and_not_push():
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v2/registries/acme/docker-credentials"
        assert dict(request.url.params) == {"expiry_seconds": "3600", "read_write": "false"}
        return httpx.Response(200, json={"auths": {"registry.digitalocean.com": {"auth": AUTH}}})

    login = pull_login(Cloud("token", transport=httpx.MockTransport(answer)), "acme")
    assert AUTH in login.get_secret_value()
    assert AUTH not in repr(login)


def test_an_account_without_a_registry_is_said_so():
    cloud = Cloud("token", transport=httpx.MockTransport(lambda _: httpx.Response(404)))
    with pytest.raises(RegistryError, match="no container registry"):
        pull_login(cloud, "acme")
