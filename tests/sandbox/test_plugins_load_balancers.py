"""The stand-in's load balancers over the sandbox's API: made, changed, read, imported and deleted as officially."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.parts.authority import Authority
from sandbox.plugins.errors import IncompleteError
from sandbox.plugins.values import UNKNOWN, Values, reveal
from tests.sandbox.conftest import Sandbox
from tests.sandbox.test_plugins_digitalocean import Driver, Flaky, flaky, offline

__all__ = ["flaky", "offline"]  # fixtures
HTTP = {"entryProtocol": "http", "entryPort": 80, "targetProtocol": "http", "targetPort": 8080}
CHECK = {"protocol": "http", "port": 8080, "path": "/health", "checkIntervalSeconds": 5}


@pytest.fixture
def driver(sandbox: Sandbox) -> Driver:
    return Driver(sandbox.url)


def _given(**more: Any) -> Values:
    return {"name": "front", "region": "nyc3", "forwardingRules": [HTTP], "healthcheck": CHECK, **more}


def test_its_whole_life(sandbox: Sandbox, driver: Driver) -> None:
    droplet = sandbox.droplet()
    given = _given(dropletIds=[droplet["id"]])
    id_, state, _ = driver.create("LoadBalancer", **given)
    shown = sandbox.get(f"/v2/load_balancers/{id_}")["load_balancer"]
    assert (state["status"], state["ip"]) == ("active", shown["ip"])
    assert state["loadBalancerUrn"] == f"do:loadbalancer:{id_}"
    assert state["vpcUuid"] == droplet["vpc_uuid"]
    assert shown["health_check"]["unhealthy_threshold"] == 3
    assert driver.diff("LoadBalancer", state, **given) == {}
    found = driver.read("LoadBalancer", id_, state)
    assert driver.diff("LoadBalancer", found.state, **given) == {}
    more = given | {"stickySessions": {"type": "cookies", "cookieName": "LB", "cookieTtlSeconds": 60}, "sizeUnit": 2}
    assert driver.diff("LoadBalancer", state, **more).keys() >= {"sizeUnit", "stickySessions.type"}
    changed = driver.update("LoadBalancer", id_, state, **more)
    shown = sandbox.get(f"/v2/load_balancers/{id_}")["load_balancer"]
    assert (shown["size_unit"], shown["sticky_sessions"]["cookie_name"]) == (2, "LB")
    assert (shown["droplet_ids"], shown["ip"]) == ([droplet["id"]], state["ip"])
    assert driver.diff("LoadBalancer", changed, **more) == {}
    assert driver.diff("LoadBalancer", changed, **{**more, "region": "fra1"}) == {"region": ("~", True)}
    imported = driver.read("LoadBalancer", id_)
    assert driver.diff("LoadBalancer", imported.state, **more) == {}
    driver.delete("LoadBalancer", id_, changed)
    assert sandbox.call("GET", f"/v2/load_balancers/{id_}")[0] == 404
    assert driver.read("LoadBalancer", id_, changed) is None
    driver.delete("LoadBalancer", id_, changed)  # gone is fine


def test_a_tag_wins_over_the_droplets_that_it_stood_for(sandbox: Sandbox, driver: Driver) -> None:
    droplet = sandbox.droplet(tags=["web"])
    id_, state, _ = driver.create("LoadBalancer", **_given(dropletTag="web"))
    assert state["dropletIds"] == [droplet["id"]]
    driver.update("LoadBalancer", id_, state, **_given(dropletTag="web", redirectHttpToHttps=True))
    shown = sandbox.get(f"/v2/load_balancers/{id_}")["load_balancer"]
    assert (shown["tag"], shown["redirect_http_to_https"]) == ("web", True)


def test_a_certificate_is_named_and_its_id_is_sent(sandbox: Sandbox, driver: Driver, tmp_path: Any) -> None:
    chain, key = Authority(tmp_path).issue(("www.example.org",))
    _, certificate, _ = driver.create("Certificate", name="www", type="custom", privateKey=key, leafCertificate=chain)
    rule = {**HTTP, "entryProtocol": "https", "entryPort": 443, "certificateName": "www"}
    given = _given(forwardingRules=[HTTP, rule])
    id_, state, _ = driver.create("LoadBalancer", **given)
    sent = sandbox.get(f"/v2/load_balancers/{id_}")["load_balancer"]["forwarding_rules"]
    assert [item["certificate_id"] for item in sent if item["entry_port"] == 443] == [reveal(certificate["uuid"])]
    assert {item.get("certificateId") for item in state["forwardingRules"]} == {None, "www"}
    assert driver.diff("LoadBalancer", state, **given) == {}


@pytest.mark.parametrize(
    ("more", "where", "why"),
    [
        ({"healthcheck": {"protocol": "http", "port": 80}}, "healthcheck.path", "is required when the protocol"),
        ({"healthcheck": {"protocol": "tcp", "port": 80, "path": "/"}}, "healthcheck.path", "is not allowed"),
        ({"healthcheck": CHECK | {"checkIntervalSeconds": 1}}, "healthcheck.checkIntervalSeconds", "3 to 300"),
        ({"stickySessions": {"type": "cookies"}}, "stickySessions.cookieName", "is required"),
        ({"region": None}, "region", "is required"),
        ({"type": "global"}, "region", "must be empty"),
        ({"dropletTag": "web", "dropletIds": [1]}, "dropletTag", "conflicts"),
        ({"forwardingRules": [{**HTTP, "entryPort": 0}]}, "forwardingRules[0].entryPort", "1 to 65535"),
        ({"sizeUnit": 201}, "sizeUnit", "1 to 200"),
    ],
)
def test_what_is_wrong_is_named(offline: Driver, more: Values, where: str, why: str) -> None:
    assert why in offline.failures("LoadBalancer", **_given(**more))[where]


def test_what_is_not_known_yet_is_not_judged(offline: Driver) -> None:
    unknown = {"region": UNKNOWN, "healthcheck": {**CHECK, "path": UNKNOWN}, "dropletIds": UNKNOWN}
    assert offline.failures("LoadBalancer", **_given(**unknown)) == {}


def test_one_that_ends_in_an_error_is_remembered(flaky: Flaky) -> None:
    flaky.answers = [
        (202, {}, {"load_balancer": {"id": "lb"}}),
        (200, {}, {"load_balancer": {"id": "lb", "status": "errored"}}),
    ]
    with pytest.raises(IncompleteError, match="load balancer front: errored") as caught:
        Driver(flaky.url).create("LoadBalancer", **_given())
    assert caught.value.id == "lb"
