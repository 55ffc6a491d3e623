"""Never the real cloud by accident, and never a token where it does not belong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from pyrage import x25519

from blueprint.settings.backup import EXAMPLE_RECIPIENT
from components import guard
from components.guard import REAL_API, GuardError, account_of, check_token, is_real, pinned_provider
from tests.components.conftest import load
from tests.components.kit import run_program

MADE_UP = "sandbox-token"
REAL_SHAPE = "dop_v1_" + "0123456789abcdef" * 4  # made here: it is nobody's
UUID = "11111111-2222-4333-8444-555555555555"
OWN_KEY = {"recipients": [str(x25519.Identity.generate().to_public())]}


class Api(ThreadingHTTPServer):
    """A REST API that answers one thing."""

    status = 200
    vpcs: object = [{"name": "default-fra1", "region": "fra1"}, {"name": "default-nyc3", "region": "nyc3"}]
    body: object = {"account": {"uuid": "11111111-0000-4000-8000-000000000001", "team": {"uuid": UUID}}}
    tokens: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self.server.tokens.append(self.headers["Authorization"])
        vpcs = {"vpcs": self.server.vpcs}
        body = json.dumps(vpcs if self.path.startswith("/v2/vpcs") else self.server.body).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api(("127.0.0.1", 0), Handler)
    server.tokens = []
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def environ(api: Api, token: str = MADE_UP) -> dict[str, str]:
    return {"DIGITALOCEAN_API_URL": f"http://127.0.0.1:{api.server_port}/", "DIGITALOCEAN_TOKEN": token}


def test_the_sandbox_is_used_whatever_account_the_stack_has_recorded(api: Api):
    settings = load("prod", {"account": "99999999-2222-4333-8444-555555555555"})

    assert account_of(settings, environ(api)).uuid == UUID
    assert set(api.tokens) == {f"Bearer {MADE_UP}"}


def test_the_endpoint_has_no_slash_at_its_end(api: Api):
    assert account_of(load("prod"), environ(api)).endpoint == f"http://127.0.0.1:{api.server_port}"


def test_a_real_token_is_not_sent_to_another_api(api: Api):
    with pytest.raises(GuardError, match="looks like a real DigitalOcean token") as caught:
        account_of(load("prod"), environ(api, REAL_SHAPE))

    assert not api.tokens, "it was refused before anything was sent"
    assert REAL_SHAPE not in str(caught.value)


def test_a_made_up_token_is_refused_at_the_real_api():
    with pytest.raises(GuardError, match="is no DigitalOcean token"):
        check_token(REAL_API, MADE_UP)


@pytest.mark.parametrize("endpoint", [REAL_API, "https://api.digitalocean.com:443", "https://x.digitalocean.com"])
def test_digitalocean_is_recognised(endpoint: str):
    assert is_real(endpoint)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8470", "https://digitalocean.com.example.org", "localhost"])
def test_what_is_not_digitalocean_is_recognised(endpoint: str):
    assert not is_real(endpoint)


def test_the_real_api_needs_a_recorded_account(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "_ask", lambda *_: pytest.fail("asked before the check"))

    with pytest.raises(GuardError, match="no account recorded; `ops stack init` records it"):
        account_of(load("prod"), {"DIGITALOCEAN_TOKEN": REAL_SHAPE})


def test_the_real_api_needs_that_accounts_token(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "_ask", lambda *_: UUID)
    monkeypatch.setattr(guard, "_check_networks", lambda *_: None)
    other = load("prod", {"account": "99999999-2222-4333-8444-555555555555", "backup": OWN_KEY})

    with pytest.raises(GuardError, match=f"the token is of account {UUID}"):
        account_of(other, {"DIGITALOCEAN_TOKEN": REAL_SHAPE})
    assert (
        account_of(load("prod", {"account": UUID, "backup": OWN_KEY}), {"DIGITALOCEAN_TOKEN": REAL_SHAPE}).endpoint
        == REAL_API
    )


def test_no_token_is_one_clear_line():
    with pytest.raises(GuardError, match="DIGITALOCEAN_TOKEN is not set"):
        account_of(load("staging"), {})


def test_a_sandboxs_stack_holds_the_id_of_its_spaces_key_and_no_secret(api: Api):
    keys = {"SPACES_ACCESS_KEY_ID": "of-the-sandbox", "SPACES_SECRET_ACCESS_KEY": "canary"}
    account = account_of(load("staging"), environ(api) | keys)

    def program() -> dict[str, Any]:
        pinned_provider("pinned", account)
        return {}

    inputs = run_program(program).one("digitalocean").inputs
    assert inputs["spacesAccessId"] == "of-the-sandbox"
    assert "canary" not in str(inputs)


def test_backups_that_nobody_could_decrypt_are_not_begun(api: Api):
    """The committed file has an example's recipient, of which nobody has the identity."""
    settings = load("prod", {"account": UUID})
    assert EXAMPLE_RECIPIENT in settings.backup.recipients

    with pytest.raises(GuardError, match="ops backup keygen"):
        account_of(settings, {"DIGITALOCEAN_TOKEN": REAL_SHAPE})
    assert account_of(settings, environ(api)).uuid == UUID, "the sandbox may have it"


def test_the_sandboxs_recipient_is_refused_at_the_real_digitalocean(api: Api):
    """Who can decrypt backups is in the stack file alone: a variable must not add somebody."""
    settings = load("prod", {"account": UUID, "backup": OWN_KEY})
    variable = {"ANCLA_SANDBOX_RECIPIENT": "age1sandbox"}

    with pytest.raises(GuardError, match="ANCLA_SANDBOX_RECIPIENT is set"):
        account_of(settings, {"DIGITALOCEAN_TOKEN": REAL_SHAPE} | variable)
    assert account_of(settings, environ(api) | variable).uuid == UUID


def test_a_real_stack_does_not_as_each_person_has_a_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "_ask", lambda *_: UUID)
    monkeypatch.setattr(guard, "_check_networks", lambda *_: None)
    variables = {"DIGITALOCEAN_TOKEN": REAL_SHAPE, "SPACES_ACCESS_KEY_ID": "of-a-person"}
    assert account_of(load("prod", {"account": UUID, "backup": OWN_KEY}), variables).spaces_access_id is None


def test_an_unreachable_sandbox_is_one_clear_line():
    gone = {"DIGITALOCEAN_API_URL": "http://127.0.0.1:1", "DIGITALOCEAN_TOKEN": MADE_UP}
    with pytest.raises(GuardError, match=r"127\.0\.0\.1:1 does not answer .*start the sandbox") as caught:
        account_of(load("staging"), gone)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("region", "ip_range", "message"),
    [
        ("nyc3", "10.20.0.0/20", None),
        ("nyc3", None, None),
        ("fra1", None, "ancla:region: found fra1, and nextgentech-staging is in nyc3; an environment cannot move"),
        (
            "nyc3",
            "10.30.0.0/20",
            "ancla:topology.ipRange: found 10.30.0.0/20, and the network of nextgentech-staging has 10.2",
        ),
    ],
)
def test_an_environment_that_is_there_does_not_move(api: Api, region: str, ip_range: str | None, message: str | None):
    """All of it would be made anew beside its data."""
    assert isinstance(api.vpcs, list)
    api.vpcs = [*api.vpcs, {"name": "nextgentech-staging", "region": "nyc3", "ip_range": "10.20.0.0/20"}]
    changes = {"region": region, **({"topology": {"ipRange": ip_range}} if ip_range else {})}

    if message is None:
        account_of(load("staging", changes), environ(api))
        return
    with pytest.raises(GuardError, match=re.escape(message)):
        account_of(load("staging", changes), environ(api))


@pytest.mark.parametrize("vpcs", [[], [{"name": "default-fra1", "region": "fra1"}]])
def test_the_first_vpc_of_a_region_is_not_the_environments(api: Api, vpcs: object):
    """It would be the region's default, and no `pulumi destroy` could end."""
    api.vpcs = vpcs

    with pytest.raises(GuardError, match=r"nyc3 has no VPC yet.*`ops stack init` makes default-nyc3"):
        account_of(load("staging"), environ(api))


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, {}, "refuses DIGITALOCEAN_TOKEN"),
        (500, {}, "answered 500"),
        (200, {"account": {}}, "names no account"),
        (200, [], "names no account"),
    ],
)
def test_an_odd_answer_is_one_clear_line(api: Api, status: int, body: object, message: str):
    api.status, api.body = status, body

    with pytest.raises(GuardError, match=message):
        account_of(load("staging"), environ(api))
