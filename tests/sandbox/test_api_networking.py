from __future__ import annotations

import threading

import pytest

from sandbox.parts.base import PartError, PortRule
from tests.sandbox.conftest import Sandbox

SSH = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["203.0.113.7"]}}
OUT = {"protocol": "tcp", "ports": "all", "destinations": {"addresses": ["0.0.0.0/0", "::/0"]}}


@pytest.fixture(scope="module")
def taken(shared: Sandbox) -> Sandbox:
    """A sandbox whose VPC and firewall called `taken` stand in the way."""
    shared.post("/v2/vpcs", {"name": "taken", "region": "nyc3", "ip_range": "10.9.0.0/16"})
    shared.post("/v2/firewalls", {"name": "taken", "inbound_rules": [SSH]})
    return shared


# --- VPCs ------------------------------------------------------------------------------------------------------------


def test_a_vpc_gets_a_free_range_and_is_made(sandbox: Sandbox):
    first = sandbox.post("/v2/vpcs", {"name": "one", "region": "nyc3"})["vpc"]
    second = sandbox.post("/v2/vpcs", {"name": "two", "region": "nyc3", "description": "d"})["vpc"]
    assert first["ip_range"] != second["ip_range"]
    assert first["ip_range"].endswith("/20")
    assert (second["default"], second["urn"]) == (False, f"do:vpc:{second['id']}")
    made = [spec.id for name, spec in sandbox.parts.calls if name == "networks.create_vpc"]
    assert list(dict.fromkeys(made)) == [first["id"], second["id"]]
    assert sandbox.put(f"/v2/vpcs/{first['id']}", {"name": "uno"})["vpc"]["name"] == "uno"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"name": "a b"}, "alphanumeric"),
        ({"name": "taken"}, "already exists"),
        ({"region": "mars1"}, "region"),
        ({"ip_range": "10.0.0.0/33"}, "CIDR"),
        ({"ip_range": "8.8.8.0/24"}, "RFC1918"),
        ({"ip_range": "10.0.0.0/8"}, "/16"),
        ({"ip_range": "10.9.1.0/24"}, "overlaps"),
    ],
)
def test_a_wrong_vpc_is_refused(taken: Sandbox, change, part):
    status, message = taken.refused("POST", "/v2/vpcs", {"name": "ok", "region": "nyc3"} | change)
    assert status == 422
    assert part in message


def test_a_range_that_another_network_has_taken_meanwhile_is_passed_for_the_next(sandbox: Sandbox):
    """Docker tells only when the network is made: "Pool overlaps with other one on this address space"."""
    sandbox.parts.taken_ranges = {"10.100.0.0/20", "10.100.16.0/20"}
    droplet = sandbox.droplet()
    (vpc,) = sandbox.get("/v2/vpcs")["vpcs"]
    assert (vpc["id"], vpc["ip_range"]) == (droplet["vpc_uuid"], "10.100.32.0/20")
    private = next(net for net in droplet["networks"]["v4"] if net["type"] == "private")
    assert private["ip_address"] == "10.100.32.2"
    asked = {"name": "asked", "region": "nyc3", "ip_range": "10.100.0.0/20"}
    status, message = sandbox.refused("POST", "/v2/vpcs", asked)
    assert (status, "Pool overlaps" in message) == (422, True)
    assert len(sandbox.get("/v2/vpcs")["vpcs"]) == 1


def test_a_network_made_for_a_call_that_fails_later_is_removed(sandbox: Sandbox, monkeypatch):
    def no_address(*_: object, **__: object) -> str:
        raise PartError("addresses: all are taken")

    monkeypatch.setattr(sandbox.parts, "free_public_ip", no_address)
    body = {"name": "web-1", "size": "s-1vcpu-1gb", "image": "ubuntu-24-04-x64", "region": "nyc3"}
    assert sandbox.refused("POST", "/v2/droplets", body) == (503, "addresses: all are taken")
    made = next(spec.id for name, spec in sandbox.parts.calls if name == "networks.create_vpc")
    sandbox.until(lambda: ("networks.delete_vpc", made) in sandbox.parts.calls)
    assert sandbox.get("/v2/vpcs")["vpcs"] == []


def test_a_vpc_with_members_stays_and_an_empty_one_goes(sandbox: Sandbox):
    sandbox.post("/v2/vpcs", {"name": "default-nyc3", "region": "nyc3"})
    vpc = sandbox.post("/v2/vpcs", {"name": "one", "region": "nyc3"})["vpc"]
    path = f"/v2/vpcs/{vpc['id']}"
    droplet = sandbox.droplet(vpc_uuid=vpc["id"])
    cluster = sandbox.cluster(private_network_uuid=vpc["id"])
    assert sandbox.refused("DELETE", path) == (409, "Can not delete VPC with members")
    urns = {member["urn"] for member in sandbox.get(f"{path}/members")["members"]}
    assert urns == {f"do:droplet:{droplet['id']}", f"do:dbaas:{cluster['id']}"}
    assert len(sandbox.get(f"{path}/members?resource_type=droplet")["members"]) == 1
    gate = sandbox.parts.gate["databases.delete"] = threading.Event()
    sandbox.delete(f"/v2/databases/{cluster['id']}")
    sandbox.delete(f"/v2/droplets/{droplet['id']}")
    sandbox.until_gone(f"/v2/droplets/{droplet['id']}")
    # The cluster cannot be seen any more, but its servers still hold an address.
    assert sandbox.refused("GET", f"/v2/databases/{cluster['id']}")[0] == 404
    assert sandbox.refused("DELETE", path)[0] == 409
    gate.set()
    sandbox.until(lambda: sandbox.call("DELETE", path)[0] == 204)
    assert ("networks.delete_vpc", vpc["id"]) in sandbox.parts.calls


def test_a_default_vpc_is_made_when_first_needed_and_cannot_be_deleted(sandbox: Sandbox):
    droplet = sandbox.droplet(region="fra1")
    (vpc,) = sandbox.get("/v2/vpcs")["vpcs"]
    assert (vpc["default"], vpc["region"], vpc["id"]) == (True, "fra1", droplet["vpc_uuid"])
    assert sandbox.refused("DELETE", f"/v2/vpcs/{vpc['id']}")[0] == 403
    assert sandbox.droplet("two", region="fra1")["vpc_uuid"] == vpc["id"]


def test_a_default_vpc_is_named_after_its_region_and_no_two_vpcs_have_one_name(sandbox: Sandbox):
    sandbox.post("/v2/vpcs", {"name": "default-fra1", "region": "ams3"})
    sandbox.droplet("one", region="nyc3")
    sandbox.droplet("two", region="fra1")
    vpcs = sandbox.get("/v2/vpcs")["vpcs"]
    assert {vpc["name"] for vpc in vpcs if vpc["region"] == "nyc3"} == {"default-nyc3"}
    assert len({vpc["name"] for vpc in vpcs}) == len(vpcs) == 3


# --- firewalls -------------------------------------------------------------------------------------------------------


def test_a_firewall_holds_droplets_by_tag_as_they_come_and_go(sandbox: Sandbox):
    sandbox.post("/v2/tags", {"name": "app"})
    first = sandbox.droplet("one")
    sandbox.post("/v2/firewalls", {"name": "fw", "tags": ["app"], "inbound_rules": [SSH], "outbound_rules": [OUT]})
    rules = sandbox.parts.firewalls
    assert rules[first["id"]] is None, "without the tag the droplet is open"
    second = sandbox.droplet("two", tags=["app"])
    held = rules[second["id"]]
    assert held is not None
    assert held.inbound == (PortRule(protocol="tcp", ports="22", addresses=("203.0.113.7/32",)),)
    assert held.outbound[0].ports == "0"
    resource = {"resources": [{"resource_id": str(first["id"]), "resource_type": "droplet"}]}
    sandbox.post("/v2/tags/app/resources", resource)
    assert rules[first["id"]] == held
    sandbox.delete("/v2/tags/app/resources", resource)
    assert rules[first["id"]] is None
    sandbox.delete("/v2/tags/app")
    assert rules[second["id"]] is None


def test_a_droplet_is_closed_before_it_boots(sandbox: Sandbox):
    sandbox.post("/v2/tags", {"name": "app"})
    sandbox.post("/v2/firewalls", {"name": "fw", "tags": ["app"], "inbound_rules": [SSH]})
    droplet = sandbox.droplet(tags=["app"])
    order = [
        name
        for name, what in sandbox.parts.calls
        if name in {"droplets.create", "droplets.set_firewall", "droplets.power"}
    ]
    assert order == ["droplets.create", "droplets.set_firewall", "droplets.power"]
    made = next(spec for name, spec in sandbox.parts.calls if name == "droplets.create")
    assert made.powered is False
    assert sandbox.parts.firewalls[droplet["id"]] is not None


def test_firewalls_add_up_and_sources_by_tag_become_addresses(sandbox: Sandbox):
    source = sandbox.droplet("one", tags=["jump"])
    target = sandbox.droplet("two", tags=["app"])
    by_tag = {"protocol": "tcp", "ports": "8000-9000", "sources": {"tags": ["jump"]}}
    first = sandbox.post("/v2/firewalls", {"name": "first", "droplet_ids": [target["id"]], "inbound_rules": [SSH]})
    sandbox.post("/v2/firewalls", {"name": "second", "tags": ["app"], "inbound_rules": [by_tag]})
    held = sandbox.parts.firewalls[target["id"]]
    assert held is not None
    assert [rule.ports for rule in held.inbound] == ["22", "8000-9000"]
    addresses = {f"{network['ip_address']}/32" for network in source["networks"]["v4"]}
    assert set(held.inbound[1].addresses) == addresses
    names = [firewall["name"] for firewall in sandbox.get(f"/v2/droplets/{target['id']}/firewalls")["firewalls"]]
    assert names == ["first", "second"]
    sandbox.delete(f"/v2/firewalls/{first['firewall']['id']}")
    held = sandbox.parts.firewalls[target["id"]]
    assert held is not None
    assert [rule.ports for rule in held.inbound] == ["8000-9000"]


def test_a_new_firewall_waits_for_its_droplets_and_then_succeeds(sandbox: Sandbox):
    droplet = sandbox.droplet()
    body = {"name": "fw", "droplet_ids": [droplet["id"]], "inbound_rules": [SSH]}
    made = sandbox.post("/v2/firewalls", body)["firewall"]
    assert made["status"] == "waiting"
    assert made["pending_changes"] == [{"droplet_id": droplet["id"], "removing": False, "status": "waiting"}]
    kept = sandbox.get(f"/v2/firewalls/{made['id']}")["firewall"]
    assert (kept["status"], kept["pending_changes"], kept["tags"]) == ("succeeded", [], [])


@pytest.mark.parametrize(
    ("change", "status", "part"),
    [
        ({"name": "a b"}, 422, "name"),
        ({"name": "taken"}, 409, "duplicate name"),
        ({"inbound_rules": []}, 422, "at least one rule"),
        ({"inbound_rules": [SSH | {"protocol": "gre"}]}, 422, "protocol"),
        ({"inbound_rules": [SSH | {"ports": "70000"}]}, 422, "port"),
        ({"inbound_rules": [SSH | {"ports": "90-80"}]}, 422, "port"),
        ({"inbound_rules": [SSH | {"sources": {}}]}, 422, "source"),
        ({"inbound_rules": [SSH | {"sources": {"addresses": ["10.0.0.0/40"]}}]}, 422, "10.0.0.0/40"),
        ({"inbound_rules": [SSH | {"sources": {"tags": ["none"]}}]}, 422, "none"),
        ({"inbound_rules": [SSH | {"sources": {"load_balancer_uids": ["x"]}}]}, 422, "load balancer x"),
        ({"inbound_rules": [SSH | {"sources": {"kubernetes_ids": ["x"]}}]}, 501, "kubernetes_ids"),
        ({"droplet_ids": [12]}, 422, "12"),
    ],
)
def test_a_wrong_firewall_is_refused(taken: Sandbox, change, status, part):
    found = taken.refused("POST", "/v2/firewalls", {"name": "ok", "inbound_rules": [SSH]} | change)
    assert found[0] == status
    assert part in found[1]


def test_icmp_rules_come_back_as_they_were_given_and_with_ports_0_without_any(sandbox: Sandbox):
    peers = {"addresses": ["192.0.2.1/32"]}
    body = {
        "name": "ping",
        "inbound_rules": [{"protocol": "icmp", "sources": peers}],
        "outbound_rules": [{"protocol": "icmp", "ports": "1-65535", "destinations": peers}],
    }
    made = sandbox.post("/v2/firewalls", body)["firewall"]
    for firewall in (made, sandbox.get(f"/v2/firewalls/{made['id']}")["firewall"]):
        assert firewall["inbound_rules"] == [{"protocol": "icmp", "ports": "0", "sources": peers}]
        assert firewall["outbound_rules"] == body["outbound_rules"]


def test_parts_of_a_firewall_can_be_changed(sandbox: Sandbox):
    droplet = sandbox.droplet(tags=["app"])
    path = "/v2/firewalls/" + sandbox.post("/v2/firewalls", {"name": "fw", "inbound_rules": [SSH]})["firewall"]["id"]
    sandbox.post(f"{path}/droplets", {"droplet_ids": [droplet["id"]]})
    sandbox.post(f"{path}/tags", {"tags": ["app"]})
    sandbox.post(f"{path}/rules", {"outbound_rules": [OUT]})
    kept = sandbox.get(path)["firewall"]
    assert (kept["droplet_ids"], kept["tags"], len(kept["outbound_rules"])) == ([droplet["id"]], ["app"], 1)
    sandbox.delete(f"{path}/droplets", {"droplet_ids": [droplet["id"]]})
    sandbox.delete(f"{path}/rules", {"outbound_rules": [OUT]})
    sandbox.delete(f"{path}/tags", {"tags": ["app"]})
    kept = sandbox.get(path)["firewall"]
    assert (kept["droplet_ids"], kept["tags"], kept["outbound_rules"]) == ([], [], [])
    assert sandbox.parts.firewalls[droplet["id"]] is None


# --- reserved IPs ----------------------------------------------------------------------------------------------------


def _reserve(sandbox: Sandbox) -> str:
    return sandbox.post("/v2/reserved_ips", {"region": "nyc3"})["reserved_ip"]["ip"]


def test_a_reserved_ip_moves_between_droplets(sandbox: Sandbox):
    first, second = sandbox.droplet("one"), sandbox.droplet("two")
    address = _reserve(sandbox)
    path = f"/v2/reserved_ips/{address}"
    assert sandbox.get(path)["reserved_ip"]["droplet"] is None
    for droplet in (first, second):
        action = sandbox.post(f"{path}/actions", {"type": "assign", "droplet_id": droplet["id"]})["action"]
        assert sandbox.finished(action) == "completed"
        assert sandbox.get(path)["reserved_ip"]["droplet"]["id"] == droplet["id"]
    assert sandbox.parts.droplet_specs[second["id"]].reserved_ips == (address,)
    assert sandbox.parts.droplet_specs[first["id"]].reserved_ips == ()
    action = sandbox.post(f"{path}/actions", {"type": "unassign"})["action"]
    sandbox.until(lambda: sandbox.get(f"{path}/actions/{action['id']}")["action"]["status"] == "completed")
    assert [action["type"] for action in sandbox.get(f"{path}/actions")["actions"]] == [
        "unassign_ip",
        "assign_ip",
        "assign_ip",
    ]
    assert sandbox.parts.droplet_specs[second["id"]].reserved_ips == ()
    assert sandbox.get(path)["reserved_ip"]["locked"] is False
    sandbox.delete(path)
    assert sandbox.refused("GET", path)[0] == 404


def test_an_assignment_takes_the_droplets_turn(sandbox: Sandbox):
    droplet = sandbox.droplet()
    address = _reserve(sandbox)
    gate = sandbox.parts.gate["droplets.set_reserved_ips"] = threading.Event()
    sandbox.post(f"/v2/reserved_ips/{address}/actions", {"type": "assign", "droplet_id": droplet["id"]})
    pending = sandbox.get(f"/v2/droplets/{droplet['id']}/actions?per_page=50")["actions"][0]
    assert (pending["type"], pending["status"]) == ("assign_ip", "in-progress")
    found = sandbox.refused("POST", f"/v2/droplets/{droplet['id']}/actions", {"type": "reboot"})
    assert found == (422, "Droplet already has a pending event.")
    assert sandbox.get(f"/v2/reserved_ips/{address}")["reserved_ip"]["locked"] is True
    gate.set()
    sandbox.until(lambda: not sandbox.get(f"/v2/reserved_ips/{address}")["reserved_ip"]["locked"])


def test_reserved_ips_are_five_and_stay_in_their_region(sandbox: Sandbox):
    droplet = sandbox.droplet(region="fra1")
    addresses = [_reserve(sandbox) for _ in range(5)]
    assert len(set(addresses)) == 5
    assert sandbox.refused("POST", "/v2/reserved_ips", {"region": "nyc3"})[0] == 422
    path = f"/v2/reserved_ips/{addresses[0]}/actions"
    assert "region" in sandbox.refused("POST", path, {"type": "assign", "droplet_id": droplet["id"]})[1]
    assert sandbox.refused("POST", path, {"type": "unassign"})[0] == 422


def test_floating_ips_are_the_reserved_ips_under_their_old_name(sandbox: Sandbox):
    droplet = sandbox.droplet()
    made = sandbox.post("/v2/floating_ips", {"region": "nyc3"})["floating_ip"]
    path = f"/v2/floating_ips/{made['ip']}"
    action = sandbox.post(f"{path}/actions", {"type": "assign", "droplet_id": droplet["id"]})["action"]
    assert action["resource_type"] == "floating_ip"
    sandbox.finished(action)
    assert sandbox.get(f"{path}/actions/{action['id']}")["action"]["status"] == "completed"
    assert [action["type"] for action in sandbox.get(f"{path}/actions")["actions"]] == ["assign_ip"]
    assert sandbox.get(path)["floating_ip"]["droplet"]["id"] == droplet["id"]
    assert sandbox.get(f"/v2/reserved_ips/{made['ip']}")["reserved_ip"]["droplet"]["id"] == droplet["id"]
    assert [address["ip"] for address in sandbox.get("/v2/floating_ips")["floating_ips"]] == [made["ip"]]
    sandbox.delete(path)
    assert sandbox.get("/v2/reserved_ips")["reserved_ips"] == []


def test_a_destroyed_droplet_leaves_its_reserved_ip_behind(sandbox: Sandbox):
    droplet = sandbox.droplet()
    made = sandbox.post("/v2/reserved_ips", {"droplet_id": droplet["id"]})
    sandbox.finished(made["links"]["actions"][0])
    sandbox.delete(f"/v2/droplets/{droplet['id']}")
    sandbox.until_gone(f"/v2/droplets/{droplet['id']}")
    assert sandbox.get(f"/v2/reserved_ips/{made['reserved_ip']['ip']}")["reserved_ip"]["droplet"] is None
