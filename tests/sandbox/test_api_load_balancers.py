"""Load balancers: what is refused, whom they send to, and who may remove what they use."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.parts.authority import Authority
from sandbox.parts.base import PartError
from sandbox.parts.load_balancers import LoadBalancerSpec
from tests.sandbox.conftest import Sandbox

HTTP = {"entry_protocol": "http", "entry_port": 80, "target_protocol": "http", "target_port": 8080}
TLS = {"entry_protocol": "https", "entry_port": 443, "target_protocol": "http", "target_port": 8080}
PASSED = {"entry_protocol": "https", "entry_port": 443, "target_protocol": "https", "target_port": 443}
COOKIES = {"type": "cookies", "cookie_name": "LB", "cookie_ttl_seconds": 60}
PATH = "/v2/load_balancers"


def make(sandbox: Sandbox, **more: Any) -> Any:
    body = {"name": "front", "region": "nyc3", "forwarding_rules": [HTTP], **more}
    return sandbox.post(PATH, body)["load_balancer"]


def behind(sandbox: Sandbox, balancer: Any) -> LoadBalancerSpec:
    spec = sandbox.parts.service_specs[balancer["id"]]
    assert isinstance(spec, LoadBalancerSpec)
    return spec


def certificate(sandbox: Sandbox, tmp_path: Any) -> Any:
    chain, key = Authority(tmp_path / "authority").issue(("www.example.org",))
    body = {"name": "www", "type": "custom", "private_key": key, "leaf_certificate": chain}
    return sandbox.post("/v2/certificates", body)["certificate"]


def test_a_new_one_becomes_active_with_the_documented_defaults(sandbox: Sandbox):
    droplet = sandbox.droplet()
    made = make(sandbox, droplet_ids=[droplet["id"]])
    assert made["status"] == "new"
    shown = sandbox.get(f"{PATH}/{made['id']}")["load_balancer"]
    assert shown["status"] == "active"
    assert shown["health_check"] == {
        "protocol": "http",
        "port": 80,
        "path": "/",
        "check_interval_seconds": 10,
        "response_timeout_seconds": 5,
        "healthy_threshold": 5,
        "unhealthy_threshold": 3,
    }
    assert (shown["sticky_sessions"], shown["size_unit"], shown["tag"]) == ({"type": "none"}, 1, "")
    assert shown["droplet_ids"] == [droplet["id"]]
    assert shown["vpc_uuid"] == droplet["vpc_uuid"]
    spec = behind(sandbox, made)
    assert spec.public_ip == shown["ip"]
    private = next(net["ip_address"] for net in droplet["networks"]["v4"] if net["type"] == "private")
    assert spec.droplets == ((droplet["id"], private),)


def test_it_follows_its_tag_and_the_end_of_droplets(sandbox: Sandbox):
    sandbox.post("/v2/tags", {"name": "web"})
    balancer = make(sandbox, tag="web")
    first, second = sandbox.droplet("a", tags=["web"]), sandbox.droplet("b")
    sandbox.until(lambda: [number for number, _ in behind(sandbox, balancer).droplets] == [first["id"]])
    resources = {"resources": [{"resource_type": "droplet", "resource_id": str(second["id"])}]}
    sandbox.send("POST", "/v2/tags/web/resources", resources)
    # The answer comes when the balancer sends there.
    assert [number for number, _ in behind(sandbox, balancer).droplets] == [first["id"], second["id"]]
    assert sandbox.get(f"{PATH}/{balancer['id']}")["load_balancer"]["droplet_ids"] == [first["id"], second["id"]]
    sandbox.delete(f"/v2/droplets/{first['id']}")
    sandbox.until(lambda: [number for number, _ in behind(sandbox, balancer).droplets] == [second["id"]])
    assert sandbox.refused("POST", f"{PATH}/{balancer['id']}/droplets", {"droplet_ids": [second["id"]]})[0] == 422


def test_droplets_and_rules_are_added_and_removed(sandbox: Sandbox):
    droplet = sandbox.droplet()
    balancer = make(sandbox)
    path = f"{PATH}/{balancer['id']}"
    sandbox.send("POST", f"{path}/droplets", {"droplet_ids": [droplet["id"]]})
    assert [number for number, _ in behind(sandbox, balancer).droplets] == [droplet["id"]]
    sandbox.delete(f"{path}/droplets", {"droplet_ids": [droplet["id"]]})
    assert behind(sandbox, balancer).droplets == ()
    rule = {"entry_protocol": "tcp", "entry_port": 5432, "target_protocol": "tcp", "target_port": 5432}
    sandbox.send("POST", f"{path}/forwarding_rules", {"forwarding_rules": [rule]})
    assert [rule.entry_port for rule in behind(sandbox, balancer).rules] == [80, 5432]
    sandbox.delete(f"{path}/forwarding_rules", {"forwarding_rules": [HTTP]})
    assert [rule.entry_port for rule in behind(sandbox, balancer).rules] == [5432]
    assert sandbox.refused("DELETE", f"{path}/forwarding_rules", {"forwarding_rules": [rule]})[0] == 422


def test_a_change_is_whole_and_what_is_not_given_has_its_default_again(sandbox: Sandbox):
    balancer = make(sandbox, size_unit=3, sticky_sessions=COOKIES, redirect_http_to_https=True)
    path = f"{PATH}/{balancer['id']}"
    assert behind(sandbox, balancer).cookie == ("LB", 60)
    body = {"name": "renamed", "region": "nyc3", "forwarding_rules": [{**HTTP, "target_port": 81}]}
    changed = sandbox.put(path, body)["load_balancer"]
    assert (changed["name"], changed["size_unit"], changed["size"]) == ("renamed", 1, "lb-small")
    assert (changed["ip"], changed["id"], changed["status"]) == (balancer["ip"], balancer["id"], "active")
    assert behind(sandbox, balancer).cookie is None
    assert behind(sandbox, balancer).rules[0].target_port == 81
    assert sandbox.refused("PUT", path, {**body, "region": "fra1"})[0] == 422


def test_what_its_part_cannot_do_is_refused_and_changes_nothing(sandbox: Sandbox):
    sandbox.parts.fail["load_balancers.apply"] = PartError("no disk")
    body = {"name": "front", "region": "nyc3", "forwarding_rules": [HTTP]}
    assert sandbox.refused("POST", PATH, body) == (503, "no disk")
    assert sandbox.get(PATH)["load_balancers"] == []
    del sandbox.parts.fail["load_balancers.apply"]
    balancer = make(sandbox)
    sandbox.parts.fail["load_balancers.apply"] = PartError("no disk")
    assert sandbox.refused("PUT", f"{PATH}/{balancer['id']}", {**body, "size_unit": 2})[0] == 503
    assert sandbox.get(f"{PATH}/{balancer['id']}")["load_balancer"]["size_unit"] == 1


@pytest.mark.parametrize(
    ("wrong", "status", "reason"),
    [
        ({"region": "mars1"}, 422, "region"),
        ({"name": ""}, 422, "name"),
        ({"forwarding_rules": []}, 422, "at least one"),
        ({"forwarding_rules": [HTTP, HTTP]}, 422, "different entry ports"),
        ({"forwarding_rules": [{**HTTP, "entry_port": 50054}]}, 422, "reserved"),
        ({"forwarding_rules": [{**HTTP, "target_protocol": "tcp"}]}, 422, "tcp"),
        ({"forwarding_rules": [TLS]}, 422, "certificate_id or tls_passthrough"),
        ({"forwarding_rules": [{**TLS, "certificate_id": "none"}]}, 422, "certificate none not found"),
        ({"forwarding_rules": [{**TLS, "tls_passthrough": True}]}, 422, "both sides"),
        ({"forwarding_rules": [{**HTTP, "entry_protocol": "udp"}]}, 501, "UDP"),
        ({"droplet_ids": [7]}, 422, "droplet 7 not found"),
        ({"tag": "none"}, 422, "tag none not found"),
        ({"droplet_ids": [7], "tag": "x"}, 422, "mutually exclusive"),
        ({"health_check": {"check_interval_seconds": 2}}, 422, "between 3 and 300"),
        ({"health_check": {"protocol": "tcp", "path": "/"}}, 422, "path"),
        ({"health_check": {"path": "/a b"}}, 422, "path"),
        ({"sticky_sessions": {"type": "cookies"}}, 422, "cookie_name"),
        ({"firewall": {"allow": ["host:a"]}}, 422, "host:a"),
        ({"project_id": "none"}, 422, "project"),
        ({"type": "GLOBAL"}, 501, "GLOBAL"),
        ({"network": "INTERNAL"}, 501, "INTERNAL"),
        ({"network_stack": "DUALSTACK"}, 501, "DUALSTACK"),
    ],
)
def test_a_wrong_one_is_refused(shared: Sandbox, wrong: Any, status: int, reason: str):
    body = {"name": "front", "region": "nyc3", "forwarding_rules": [HTTP], **wrong}
    found = shared.refused("POST", PATH, body)
    assert found[0] == status
    assert reason in found[1]


def test_a_droplet_of_another_vpc_is_refused(sandbox: Sandbox):
    sandbox.droplet("a")
    vpc = sandbox.post("/v2/vpcs", {"name": "apart", "region": "nyc3"})["vpc"]
    there = sandbox.droplet("b", vpc_uuid=vpc["id"])
    body = {"name": "front", "region": "nyc3", "forwarding_rules": [HTTP], "droplet_ids": [there["id"]]}
    assert "VPC" in sandbox.refused("POST", PATH, body)[1]
    assert make(sandbox, droplet_ids=[there["id"]], vpc_uuid=vpc["id"])["vpc_uuid"] == vpc["id"]


def test_tls_ends_with_a_certificate_which_stays_while_it_is_used(sandbox: Sandbox, tmp_path: Any):
    made = certificate(sandbox, tmp_path)
    balancer = make(sandbox, forwarding_rules=[{**TLS, "certificate_id": made["id"]}])
    pem = behind(sandbox, balancer).rules[0].certificate
    assert pem
    assert "PRIVATE KEY" in pem
    assert sandbox.refused("DELETE", f"/v2/certificates/{made['id']}")[0] == 403
    sandbox.put(
        f"{PATH}/{balancer['id']}",
        {"name": "front", "region": "nyc3", "forwarding_rules": [{**PASSED, "tls_passthrough": True}]},
    )
    assert behind(sandbox, balancer).rules[0].passthrough
    sandbox.delete(f"/v2/certificates/{made['id']}")


def test_a_firewall_takes_it_as_a_source_until_it_goes(sandbox: Sandbox):
    droplet = sandbox.droplet()
    balancer = make(sandbox, droplet_ids=[droplet["id"]])
    rule = {"protocol": "tcp", "ports": "8080", "sources": {"load_balancer_uids": [balancer["id"]]}}
    body = {"name": "fw", "droplet_ids": [droplet["id"]], "inbound_rules": [rule]}
    firewall = sandbox.post("/v2/firewalls", body)["firewall"]
    assert firewall["inbound_rules"][0]["sources"] == {"load_balancer_uids": [balancer["id"]]}
    let_in = sandbox.parts.firewalls[droplet["id"]]
    assert let_in
    spec = behind(sandbox, balancer)
    assert let_in.inbound[0].addresses == (f"{spec.private_ip}/32", f"{spec.public_ip}/32")
    sandbox.delete(f"{PATH}/{balancer['id']}")
    assert sandbox.parts.service_specs == {}
    closed = sandbox.parts.firewalls[droplet["id"]]
    assert closed
    assert closed.inbound[0].addresses == ()
    assert sandbox.refused("POST", "/v2/firewalls", {**body, "name": "again"})[0] == 422


def test_it_is_in_the_project_that_it_is_made_for(sandbox: Sandbox):
    project = sandbox.post("/v2/projects", {"name": "shop", "purpose": "IoT"})["project"]
    balancer = make(sandbox, project_id=project["id"])
    assert balancer["project_id"] == project["id"]
    held = sandbox.get(f"/v2/projects/{project['id']}/resources")["resources"]
    assert [entry["urn"] for entry in held] == [f"do:loadbalancer:{balancer['id']}"]
