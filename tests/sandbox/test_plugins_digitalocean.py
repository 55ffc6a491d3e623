"""The provider over the sandbox's API: checks, differences, refresh, import, and what it does when a call fails."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sandbox.parts.base import PartError
from sandbox.plugins.digitalocean import DigitalOcean
from sandbox.plugins.errors import IncompleteError, ProviderError
from sandbox.plugins.provider import DEFAULTS, Asked
from sandbox.plugins.resources import resources
from sandbox.plugins.rest import Rest, RestError
from sandbox.plugins.values import UNKNOWN, Secret, Values, reveal
from tests.sandbox.conftest import PUBLIC_KEY, TOKEN, Sandbox

TOKENS = {row.name: row.token for row in resources()}


def urn(kind: str, name: str = "thing") -> str:
    return f"urn:pulumi:dev::test::parent:Type${TOKENS.get(kind, kind)}::{name}"


class Driver:
    """Drives the provider as the engine does."""

    def __init__(self, url: str) -> None:
        self.provider = DigitalOcean()
        self.provider.configure({"apiEndpoint": url, "token": TOKEN, "httpRetryWaitMin": 0.01}, {})

    def check(self, kind: str, old: Values | None = None, **inputs: Any) -> Values:
        asked = Asked(urn=urn(kind), old=old or {}, inputs=inputs)
        done = self.provider.check(asked, lambda digits: "thing-" + "a" * digits)
        assert done.failures == []
        return done.inputs

    def failures(self, kind: str, **inputs: Any) -> dict[str, str]:
        return dict(self.provider.check(Asked(urn=urn(kind), inputs=inputs), lambda _: "made-up").failures)

    def create(self, kind: str, **inputs: Any) -> tuple[str, Values, Values]:
        """Returns id, state and checked inputs."""
        checked = self.check(kind, **inputs)
        return *self.provider.create(Asked(urn=urn(kind), inputs=checked)), checked

    def diff(self, kind: str, state: Values, **inputs: Any) -> dict[str, tuple[str, bool]]:
        return self.provider.diff(Asked(urn=urn(kind), state=state, inputs=self.check(kind, **inputs))).changes

    def update(self, kind: str, id_: str, state: Values, **inputs: Any) -> Values:
        return self.provider.update(Asked(urn=urn(kind), id=id_, state=state, inputs=self.check(kind, **inputs)))

    def read(self, kind: str, id_: str, state: Values | None = None, inputs: Values | None = None) -> Any:
        return self.provider.read(Asked(urn=urn(kind), id=id_, state=state or {}, inputs=inputs or {}))

    def delete(self, kind: str, id_: str, state: Values) -> None:
        self.provider.delete(Asked(urn=urn(kind), id=id_, state=state))


@pytest.fixture
def driver(sandbox: Sandbox) -> Driver:
    return Driver(sandbox.url)


# checks: no call is made


@pytest.fixture
def offline() -> Driver:
    return Driver("http://127.0.0.1:1")


def test_a_name_is_made_up_once_and_kept(offline: Driver) -> None:
    first = offline.check("Vpc", region="nyc3")
    assert first == {"name": "thing-aaaaaaa", "region": "nyc3", DEFAULTS: ["name"]}
    assert offline.check("Vpc", old=first | {"name": "thing-bbbbbbb"}, region="nyc3")["name"] == "thing-bbbbbbb"


def test_a_name_that_was_given_is_not_kept_when_it_is_taken_away(offline: Driver) -> None:
    old = {"name": "mine", "region": "nyc3", DEFAULTS: []}
    assert offline.check("Vpc", old=old, region="nyc3")["name"] == "thing-aaaaaaa"


def test_a_domain_has_no_made_up_name(offline: Driver) -> None:
    assert offline.failures("Domain") == {"name": "is required"}


def test_only_a_default_that_says_something_is_among_the_inputs(offline: Driver) -> None:
    inputs = offline.check("Droplet", image="x", size="s-1vcpu-1gb")
    assert inputs[DEFAULTS] == ["name", "resizeDisk"]
    assert "backups" not in inputs


@pytest.mark.parametrize(
    ("kind", "inputs", "where", "why"),
    [
        ("Droplet", {"image": "x", "size": "s", "sshKeys": "one"}, "sshKeys", "expected a list"),
        ("Droplet", {"image": "x", "size": "s", "colour": "red"}, "colour", "is not a property"),
        ("Droplet", {"image": "x", "size": "s", "ipv4Address": "1.2.3.4"}, "ipv4Address", "is not a property"),
        ("Droplet", {"image": "x"}, "size", "is required"),
        ("Droplet", {"image": "x", "size": "s", "backupPolicy": {"plan": "no"}}, "backupPolicy.plan", "daily, weekly"),
        ("Vpc", {"region": "nyc3", "ipRange": "10.0.0.0"}, "ipRange", "CIDR"),
        ("Firewall", {}, "inboundRules", "at least one rule"),
        ("Firewall", {"inboundRules": [{"protocol": "tcp"}]}, "inboundRules[0].portRange", "is required"),
        ("DnsRecord", {"domain": "a.org", "type": "MX", "value": "x."}, "priority", "is required when the type is MX"),
        ("DatabaseCluster", {"engine": "pg", "nodeCount": 1, "region": "nyc3", "size": "x"}, "version", "is required"),
        ("UptimeAlert", {"checkId": "x", "type": "slow", "notifications": [{}]}, "type", "latency"),
        ("SpacesBucket", {"region": "mars1"}, "region", "ams3"),
        ("Certificate", {}, "privateKey", "is required when the type is custom"),
    ],
)
def test_what_is_wrong_is_named(offline: Driver, kind: str, inputs: Values, where: str, why: str) -> None:
    assert why in offline.failures(kind, **inputs)[where]


def test_what_is_not_known_yet_is_not_judged(offline: Driver) -> None:
    assert offline.failures("Droplet", image=UNKNOWN, size=UNKNOWN, sshKeys=UNKNOWN, tags=[UNKNOWN]) == {}


def test_a_preview_knows_the_inputs_and_waits_for_the_rest(offline: Driver) -> None:
    inputs = offline.check("DatabaseUser", clusterId="x")
    state = offline.provider.preview_create(Asked(urn=urn("DatabaseUser"), inputs=inputs))
    assert state["clusterId"] == "x"
    assert state["password"] == Secret(UNKNOWN)


def test_an_unknown_type_and_function_are_refused_by_name(offline: Driver) -> None:
    with pytest.raises(ProviderError, match="index/kubernetesCluster:KubernetesCluster"):
        offline.check("digitalocean:index/kubernetesCluster:KubernetesCluster")
    with pytest.raises(ProviderError, match="getDroplets"):
        offline.provider.invoke("digitalocean:index/getDroplets:getDroplets", {})


# differences


STATE = {
    "name": "web-1",
    "image": "x",
    "size": "s",
    "region": "nyc3",
    "tags": ["a", "b"],
    "vpcUuid": "v",
    "ipv6": True,
    "resizeDisk": True,
}


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({}, {}),
        ({"tags": ["b", "a"]}, {}),
        ({"tags": ["a", "b", "c"]}, {"tags[2]": ("+", False)}),
        ({"tags": ["a"]}, {"tags[1]": ("-", False)}),
        ({"size": "t"}, {"size": ("~", False)}),
        ({"image": "y"}, {"image": ("~", True)}),
        ({"region": "NYC3"}, {}),
        ({"vpcUuid": None}, {}),
        ({"vpcUuid": UNKNOWN}, {"vpcUuid": ("~", True)}),
        ({"ipv6": False}, {"ipv6": ("~", True)}),
        ({"sshKeys": ["1"]}, {"sshKeys": ("+", True)}),
        ({"name": "web-2"}, {"name": ("~", False)}),
    ],
)
def test_what_an_update_would_do(offline: Driver, inputs: Values, expected: dict[str, tuple[str, bool]]) -> None:
    given = {key: value for key, value in {**STATE, **inputs}.items() if value is not None}
    assert offline.diff("Droplet", STATE, **given) == expected


def test_a_path_that_is_ignored_is_no_change(offline: Driver) -> None:
    inputs = offline.check("Droplet", **STATE | {"image": "y", "size": "t"})
    asked = Asked(urn=urn("Droplet"), state=STATE, inputs=inputs, ignored=("image",))
    assert offline.provider.diff(asked).changes == {"size": ("~", False)}


def test_a_chosen_name_goes_before_it_comes_back(offline: Driver) -> None:
    """Two things cannot have one name: DigitalOcean refuses the second domain, bucket or tag."""
    chosen = offline.check("Tag", name="web")
    assert offline.provider.diff(Asked(urn=urn("Tag"), state={"name": "old"}, inputs=chosen)).delete_first
    made_up = offline.check("Tag")
    assert not offline.provider.diff(Asked(urn=urn("Tag"), state={"name": "old"}, inputs=made_up)).delete_first


# against the API


def test_user_data_is_kept_as_a_digest(driver: Driver) -> None:
    given = {"image": "ubuntu-24-04-x64", "size": "s-1vcpu-1gb", "region": "nyc3", "userData": "canary"}
    id_, state, inputs = driver.create("Droplet", **given)
    assert "canary" not in str(state)
    assert driver.diff("Droplet", state, **given, name=inputs["name"]) == {}
    changed = given | {"userData": "other"}
    assert driver.diff("Droplet", state, **changed, name=inputs["name"]) == {"userData": ("~", True)}
    driver.delete("Droplet", id_, state)


def test_a_droplet_that_cannot_be_made_ends_the_wait_with_the_reason(driver: Driver, sandbox: Sandbox) -> None:
    sandbox.parts.fail["droplets.create"] = PartError("no space left")
    with pytest.raises(IncompleteError, match="no space left"):
        driver.create("Droplet", image="ubuntu-24-04-x64", size="s-1vcpu-1gb", region="nyc3")
    sandbox.parts.fail.clear()


def test_a_droplet_that_does_not_power_off_is_not_waited_for(driver: Driver, sandbox: Sandbox) -> None:
    inputs = {"image": "ubuntu-24-04-x64", "region": "nyc3", "name": "stays"}
    id_, state, _ = driver.create("Droplet", size="s-1vcpu-1gb", **inputs)
    sandbox.parts.fail["droplets.power"] = PartError("the container does not stop")
    with pytest.raises(ProviderError, match=r"\(power_off\) ended in an error"):
        driver.update("Droplet", id_, state, size="s-1vcpu-2gb", **inputs)
    sandbox.parts.fail.clear()
    driver.delete("Droplet", id_, state)


def test_a_cluster_that_cannot_be_made_ends_the_wait_with_the_reason(driver: Driver, sandbox: Sandbox, monkeypatch):
    monkeypatch.setattr("sandbox.api.jobs._FIRST_RETRY", 0.01)
    sandbox.parts.fail["databases.apply"] = PartError("no disk")
    with pytest.raises(RestError, match="cluster lost is creating and fails: no disk"):
        driver.create(
            "DatabaseCluster", name="lost", engine="pg", version="15", size="db-s-1vcpu-1gb", region="nyc3", nodeCount=1
        )
    sandbox.parts.fail.clear()
    (made,) = [database for database in sandbox.get("/v2/databases")["databases"] if database["name"] == "lost"]
    sandbox.delete(f"/v2/databases/{made['id']}")


def test_what_is_gone_is_gone(driver: Driver, sandbox: Sandbox) -> None:
    id_, state, inputs = driver.create("SshKey", publicKey=PUBLIC_KEY)
    sandbox.delete(f"/v2/account/keys/{id_}")
    assert driver.read("SshKey", id_, state, inputs) is None


def test_a_refresh_shows_what_drifted_and_nothing_else(driver: Driver, sandbox: Sandbox) -> None:
    id_, state, inputs = driver.create("Vpc", region="nyc3", description="ours")
    same = driver.read("Vpc", id_, state, inputs)
    assert same.inputs == inputs
    assert same.state == state
    sandbox.put(f"/v2/vpcs/{id_}", {"name": inputs["name"], "description": "theirs"})
    drifted = driver.read("Vpc", id_, state, inputs)
    assert drifted.inputs == inputs | {"description": "theirs"}


def test_an_import_tells_the_inputs(driver: Driver) -> None:
    domain, *_ = driver.create("Domain", name="example.org")
    id_, *_ = driver.create("DnsRecord", domain=domain, type="A", name="www", value="203.0.113.1", ttl=300)
    found = driver.read("DnsRecord", f"{domain},{id_}")
    assert found.id == id_
    expected = {"domain": domain, "type": "A", "name": "www", "value": "203.0.113.1", "ttl": 300}
    assert expected.items() <= found.inputs.items()
    assert driver.diff("DnsRecord", found.state, **expected) == {}


def test_an_import_needs_the_right_id(driver: Driver) -> None:
    with pytest.raises(ProviderError, match="needs <domain>,<record id>"):
        driver.read("DnsRecord", "17")


def test_a_secret_is_told_once_and_kept(driver: Driver) -> None:
    id_, state, inputs = driver.create("SpacesKey", grants=[{"bucket": "", "permission": "fullaccess"}])
    assert isinstance(state["secretKey"], Secret)
    assert "secretKey" not in inputs
    again = driver.read("SpacesKey", id_, reveal(state), inputs)
    assert reveal(again.state["secretKey"]) == reveal(state["secretKey"])


def test_an_empty_update_changes_nothing(driver: Driver, sandbox: Sandbox) -> None:
    id_, state, _ = driver.create("MonitorAlert", **ALERT)
    assert "uuid" not in state, "the official provider leaves it empty"
    before = sandbox.get(f"/v2/monitoring/alerts/{id_}")
    driver.update("MonitorAlert", id_, state, **ALERT)
    assert sandbox.get(f"/v2/monitoring/alerts/{id_}") == before


ALERT = {
    "type": "v1/insights/droplet/cpu",
    "compare": "GreaterThan",
    "description": "busy",
    "value": 70,
    "window": "5m",
    "alerts": {"emails": ["sandbox@example.com"]},
    "tags": ["web"],
}


def test_a_refusal_names_the_call_the_status_and_the_reason(driver: Driver) -> None:
    with pytest.raises(RestError, match=r"POST http://\S+/v2/droplets: 422 .*size") as caught:
        driver.create("Droplet", image="ubuntu-24-04-x64", size="s-huge", region="nyc3")
    assert "\n" not in str(caught.value)


def test_a_wrong_token_is_said_at_the_first_call(sandbox: Sandbox) -> None:
    provider = DigitalOcean()
    provider.configure({"apiEndpoint": sandbox.url, "token": "wrong"}, {})
    with pytest.raises(RestError, match=r"401 .*Unable to authenticate"):
        provider.invoke("digitalocean:index/getAccount:getAccount", {})


def test_settings_come_from_the_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_API_URL", sandbox.url)
    monkeypatch.delenv("DIGITALOCEAN_TOKEN", raising=False)
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", TOKEN)
    provider = DigitalOcean()
    provider.configure({}, {})
    assert provider.invoke("digitalocean:index/getAccount:getAccount", {})["status"] == "active"


def test_without_spaces_keys_the_message_says_which(offline: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ACCESS_KEY_ID", raising=False)
    provider = DigitalOcean()
    provider.configure({}, {})
    inputs = offline.check("SpacesBucket")
    with pytest.raises(ProviderError, match="SPACES_ACCESS_KEY_ID"):
        provider.create(Asked(urn=urn("SpacesBucket"), inputs=inputs))


def test_the_id_of_a_spaces_key_may_be_an_input_while_its_secret_is_in_the_environment(
    offline: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**given: str) -> None:
        raise ProviderError(f"{given['access_key']}:{given['secret_key']}")

    monkeypatch.setattr("sandbox.plugins.spaces.Spaces", refuse)
    monkeypatch.setenv("SPACES_ACCESS_KEY_ID", "of-the-environment")
    monkeypatch.setenv("SPACES_SECRET_ACCESS_KEY", "secret")
    inputs = offline.check("SpacesBucket")
    for given, expected in (({}, "of-the-environment:secret"), ({"spacesAccessId": "pinned"}, "pinned:secret")):
        provider = DigitalOcean()
        provider.configure(given, {})
        with pytest.raises(ProviderError, match=f"^{expected}$"):
            provider.create(Asked(urn=urn("SpacesBucket"), inputs=inputs))


# a server that fails on purpose


class Flaky(ThreadingHTTPServer):
    """Answers what it was told to, one after the other; then with `{}`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answers: list[tuple[int, dict[str, str], Any]] = []
        self.calls: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Flaky

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.calls.append(f"{self.command} {self.path}")
        status, headers, body = self.server.answers.pop(0) if self.server.answers else (200, {}, {})
        text = json.dumps(body).encode()
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(text))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - http.server calls them so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def flaky() -> Iterator[Flaky]:
    server = Flaky()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def rest(flaky: Flaky, **how: Any) -> Rest:
    return Rest(url=flaky.url, token="t", wait_min=0.001, **how)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_passing_fault_is_tried_again(flaky: Flaky, status: int) -> None:
    flaky.answers = [(status, {}, {}), (status, {}, {}), (200, {}, {"ok": True})]
    assert rest(flaky).post("/v2/x", {}) == {"ok": True}
    assert len(flaky.calls) == 3


@pytest.mark.parametrize("status", [400, 404, 422, 501])
def test_a_lasting_fault_is_told_at_once(flaky: Flaky, status: int) -> None:
    flaky.answers = [(status, {}, {"message": "because"})]
    with pytest.raises(RestError, match=f"GET {flaky.url}/v2/x: {status} because"):
        rest(flaky).get("/v2/x")
    assert len(flaky.calls) == 1


def test_it_gives_up_after_four_more_tries(flaky: Flaky) -> None:
    flaky.answers = [(503, {}, {"message": "not now"})] * 9
    with pytest.raises(RestError, match="503 not now"):
        rest(flaky).get("/v2/x")
    assert len(flaky.calls) == 5


def test_it_waits_as_long_as_it_is_told(flaky: Flaky) -> None:
    cancelled = _Clock()
    flaky.answers = [(429, {"Retry-After": "7"}, {}), (500, {"Retry-After": "7"}, {})]
    rest(flaky, cancelled=cancelled).get("/v2/x")
    assert cancelled.waited == [7, 0.002]


class _Clock(threading.Event):
    """An event that nobody sets, which notes how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout)
        return False


def test_nothing_that_listens_is_one_line_that_names_the_variable() -> None:
    with pytest.raises(RestError, match=r"no answer.*DIGITALOCEAN_API_URL=http://127\.0\.0\.1:1") as caught:
        Rest(url="http://127.0.0.1:1", token="canary", retries=0).get("/v2/account")
    assert "\n" not in str(caught.value)
    assert "canary" not in str(caught.value)


def test_what_was_made_before_a_failure_is_remembered(flaky: Flaky) -> None:
    droplet = {"droplet": {"id": 17}}
    flaky.answers = [(202, {}, droplet), (400, {}, {"message": "broken"})]
    driver = Driver(flaky.url)
    with pytest.raises(IncompleteError, match="400 broken") as caught:
        driver.create("Droplet", image="x", size="s", region="nyc3", userData="canary")
    assert caught.value.id == "17"
    assert caught.value.known["image"] == "x"
    assert "canary" not in str(caught.value.known)


def test_a_wait_ends_when_the_engine_cancels(flaky: Flaky) -> None:
    never = (200, {}, {"droplet": {"id": 17, "locked": True, **_DROPLET}})
    flaky.answers = [(202, {}, {"droplet": {"id": 17}}), *([never] * 999)]
    driver = Driver(flaky.url)

    def cancel_while_it_waits() -> None:
        while not any(call.startswith("GET") for call in flaky.calls):
            time.sleep(0.01)
        driver.provider.cancel()

    threading.Thread(target=cancel_while_it_waits, daemon=True).start()
    with pytest.raises(IncompleteError, match="cancelled"):
        driver.create("Droplet", image="x", size="s", region="nyc3")


def test_a_droplet_that_is_not_there_is_not_waited_for(flaky: Flaky) -> None:
    flaky.answers = [(202, {}, {"droplet": {"id": 17}}), (404, {}, {"message": "not found"})]
    with pytest.raises(IncompleteError, match="droplet 17: not found, it was removed meanwhile"):
        Driver(flaky.url).create("Droplet", image="x", size="s", region="nyc3")


def test_a_cluster_that_was_shown_and_is_gone_is_not_waited_for(flaky: Flaky) -> None:
    shown = {"database": {"id": "c", "status": "creating"}}
    missing = (404, {}, {"message": "not found"})
    flaky.answers = [(201, {}, shown), missing, (200, {}, shown), missing]
    with pytest.raises(ProviderError, match="removed before it was online"):
        Driver(flaky.url).create("DatabaseCluster", engine="pg", size="s", region="nyc3", nodeCount=1, version="15")


_DROPLET: Values = {
    "name": "x",
    "status": "new",
    "region": {"slug": "nyc3"},
    "size_slug": "s",
    "disk": 1,
    "vcpus": 1,
    "memory": 1,
    "created_at": "2026-01-01T00:00:00Z",
}


def test_a_network_with_members_for_a_moment_more_is_tried_again(flaky: Flaky) -> None:
    flaky.answers = [(409, {}, {"message": "Can not delete VPC with members"}), (204, {}, {})]
    Driver(flaky.url).delete("Vpc", "v", {"name": "v"})
    assert flaky.calls == ["DELETE /v2/vpcs/v"] * 2
