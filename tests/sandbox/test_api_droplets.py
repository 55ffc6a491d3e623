from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from sandbox.api.droplets import FAILURE_SHOWN
from sandbox.parts.base import DropletSpec, FirewallRules, PartError
from tests.sandbox.conftest import PUBLIC_KEY, TOKEN, Sandbox

DROPLET = {"name": "web-1", "size": "s-1vcpu-1gb", "image": "ubuntu-24-04-x64", "region": "nyc3"}


def test_a_droplet_is_new_until_its_create_action_ends(sandbox: Sandbox):
    gate = sandbox.parts.gate["droplets.create"] = threading.Event()
    made = sandbox.post("/v2/droplets", DROPLET)
    droplet, action = made["droplet"], made["links"]["actions"][0]
    assert (droplet["status"], droplet["networks"]) == ("new", {"v4": [], "v6": []})
    assert action["rel"] == "create"
    assert action["href"] == f"http://api.sandbox.test/v2/actions/{action['id']}"
    running = sandbox.get(f"/v2/actions/{action['id']}")["action"]
    assert (running["status"], running["completed_at"]) == ("in-progress", None)
    gate.set()
    assert sandbox.finished(action) == "completed"
    droplet = sandbox.get(f"/v2/droplets/{droplet['id']}")["droplet"]
    assert droplet["status"] == "active"
    assert {network["type"] for network in droplet["networks"]["v4"]} == {"public", "private"}
    assert (droplet["tags"], droplet["volume_ids"], droplet["backup_ids"]) == ([], [], [])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", droplet["created_at"])


def test_a_droplet_gets_its_keys_user_data_and_size(sandbox: Sandbox):
    key = sandbox.post("/v2/account/keys", {"name": "me", "public_key": PUBLIC_KEY})["ssh_key"]
    droplet = sandbox.droplet(ssh_keys=[key["fingerprint"]], user_data="#cloud-config\n", monitoring=True)
    spec = sandbox.parts.droplet_specs[droplet["id"]]
    assert (spec.authorized_keys, spec.user_data, spec.memory) == ((PUBLIC_KEY,), "#cloud-config\n", 1024)
    assert "monitoring" in droplet["features"]
    assert "backups" not in droplet["features"]
    assert "#cloud-config" not in repr(spec)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "s-9vcpu"}, "You specified an invalid size for Droplet creation."),
        ({"region": "mars1"}, "You specified an invalid region for Droplet creation."),
        ({"image": "windows-11"}, "You specified an invalid image for Droplet creation."),
        ({"name": "under_score"}, "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)"),
        ({"name": ""}, "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)"),
        ({"ssh_keys": ["aa:bb"]}, "aa:bb are invalid key identifiers for Droplet creation."),
        ({"vpc_uuid": "none"}, "You specified an invalid VPC for Droplet creation."),
    ],
)
def test_a_wrong_droplet_is_refused_and_leaves_nothing(shared: Sandbox, change, message):
    before = [shared.get(f"/v2/{kind}")["meta"] for kind in ("droplets", "vpcs", "tags")]
    assert shared.refused("POST", "/v2/droplets", DROPLET | {"tags": ["new"]} | change) == (422, message)
    assert [shared.get(f"/v2/{kind}")["meta"] for kind in ("droplets", "vpcs", "tags")] == before


def test_the_droplet_limit_holds(sandbox: Sandbox):
    names = [f"web-{number}" for number in range(26)]
    status, message = sandbox.refused("POST", "/v2/droplets", {**DROPLET, "names": names, "name": None})
    assert (status, message) == (422, "creating this/these droplet(s) will exceed your droplet limit")


def test_several_droplets_have_addresses_of_their_own(sandbox: Sandbox):
    body = {name: value for name, value in DROPLET.items() if name != "name"}
    made = sandbox.post("/v2/droplets", body | {"names": ["a", "b"], "tags": ["web"]})
    for action in made["links"]["actions"]:
        sandbox.finished(action)
    listed = sandbox.get("/v2/droplets?tag_name=web")["droplets"]
    addresses = {network["ip_address"] for droplet in listed for network in droplet["networks"]["v4"]}
    assert len(addresses) == 4
    neighbors = sandbox.get(f"/v2/droplets/{listed[0]['id']}/neighbors")["droplets"]
    assert [droplet["name"] for droplet in neighbors] == ["b"]
    sandbox.delete("/v2/droplets?tag_name=web")
    sandbox.until(lambda: sandbox.get("/v2/droplets")["meta"]["total"] == 0)


def test_a_droplet_takes_one_action_at_a_time(sandbox: Sandbox):
    droplet = sandbox.droplet()
    gate = sandbox.parts.gate["droplets.power"] = threading.Event()
    path = f"/v2/droplets/{droplet['id']}/actions"
    first = sandbox.post(path, {"type": "reboot"})["action"]
    assert sandbox.refused("POST", path, {"type": "reboot"}) == (422, "Droplet already has a pending event.")
    gate.set()
    assert sandbox.finished(first) == "completed"
    assert sandbox.finished(sandbox.post(path, {"type": "reboot"})["action"]) == "completed"
    kinds = [action["type"] for action in sandbox.get(path)["actions"]]
    assert kinds == ["reboot", "reboot", "create"]
    assert sandbox.get(f"{path}/{first['id']}")["action"]["id"] == first["id"]


def test_power_follows_the_actions(sandbox: Sandbox):
    droplet = sandbox.droplet()
    assert sandbox.act(droplet, "shutdown")["status"] == "off"
    path = f"/v2/droplets/{droplet['id']}/actions"
    assert sandbox.refused("POST", path, {"type": "power_off"}) == (422, "Droplet is already powered off.")
    assert sandbox.act(droplet, "power_on")["status"] == "active"
    assert ("droplets.power", (droplet["id"], "shutdown")) in sandbox.parts.calls


def test_a_resize_needs_a_droplet_that_is_off_and_never_shrinks_its_disk(sandbox: Sandbox):
    droplet = sandbox.droplet()
    path = f"/v2/droplets/{droplet['id']}/actions"
    body = {"type": "resize", "size": "s-2vcpu-2gb", "disk": True}
    expected = (422, "Droplet is currently running. Please power it off to run this event.")
    assert sandbox.refused("POST", path, body) == expected
    sandbox.act(droplet, "power_off")
    resized = sandbox.act(droplet, "resize", size="s-2vcpu-2gb", disk=True)
    assert (resized["size_slug"], resized["disk"], resized["memory"]) == ("s-2vcpu-2gb", 60, 2048)
    body = {"type": "resize", "size": "s-1vcpu-1gb"}
    assert "smaller disk" in sandbox.refused("POST", path, body)[1]


def test_backups_and_names_change_by_actions(sandbox: Sandbox):
    droplet = sandbox.droplet()
    assert droplet["next_backup_window"] is None
    policy = {"plan": "weekly", "weekday": "MON", "hour": 4}
    droplet = sandbox.act(droplet, "enable_backups", backup_policy=policy)
    assert droplet["next_backup_window"]["start"].endswith("T04:00:00Z")
    kept = sandbox.get(f"/v2/droplets/{droplet['id']}/backups/policy")["policy"]
    assert kept["backup_policy"]["retention_period_days"] == 28
    assert "backups" not in sandbox.act(droplet, "disable_backups")["features"]
    assert sandbox.act(droplet, "rename", name="web-2")["name"] == "web-2"


def test_a_snapshot_has_the_time_of_its_action(sandbox: Sandbox):
    droplet = sandbox.droplet()
    path = f"/v2/droplets/{droplet['id']}"
    action = sandbox.post(f"{path}/actions", {"type": "snapshot", "name": "before"})["action"]
    sandbox.finished(action)
    (listed,) = sandbox.get(f"{path}/snapshots?per_page=200")["snapshots"]
    assert (listed["name"], listed["created_at"]) == ("before", action["started_at"])
    assert sandbox.get(f"/v2/snapshots/{listed['id']}")["snapshot"]["resource_id"] == str(droplet["id"])
    assert sandbox.get("/v2/images?private=true")["images"][0]["id"] == listed["id"]
    status, message = sandbox.refused("POST", "/v2/droplets", DROPLET | {"image": listed["id"]})
    assert (status, "not the disk" in message) == (501, True)
    sandbox.delete(f"/v2/snapshots/{listed['id']}")
    assert sandbox.get(path)["droplet"]["snapshot_ids"] == []


def test_an_action_whose_part_fails_ends_errored_and_changes_nothing(sandbox: Sandbox):
    droplet = sandbox.droplet()
    sandbox.parts.fail["droplets.power"] = PartError("droplet 1: the container does not stop")
    path = f"/v2/droplets/{droplet['id']}"
    assert sandbox.finished(sandbox.post(f"{path}/actions", {"type": "power_off"})["action"]) == "errored"
    assert sandbox.get(path)["droplet"]["status"] == "active"
    problems = sandbox.client.get("/_sandbox/health").json()["problems"]
    assert "the container does not stop" in str(problems)


def test_a_droplet_that_cannot_be_made_is_refused_with_the_reason_and_then_gone(sandbox: Sandbox, monkeypatch):
    """`doctl --wait` waits for the action and then gets the droplet; the provider polls the droplet alone."""
    volume = sandbox.post("/v2/volumes", {"name": "data", "region": "nyc3", "size_gigabytes": 1})["volume"]["id"]
    sandbox.parts.fail["droplets.create"] = PartError("droplet 1: no space left")
    sandbox.parts.fail["droplets.delete"] = PartError("busy")
    made = sandbox.post("/v2/droplets", DROPLET | {"volumes": [volume]})
    path = f"/v2/droplets/{made['droplet']['id']}"
    assert sandbox.finished(made["links"]["actions"][0]) == "errored"
    assert sandbox.refused("GET", path) == (422, "Droplet web-1 could not be created: droplet 1: no space left")
    assert sandbox.get("/v2/droplets")["droplets"] == []
    assert sandbox.get(f"/v2/volumes/{volume}")["volume"]["droplet_ids"] == []
    assert sandbox.refused("DELETE", path)[0] == 404
    assert "no space left" in str(sandbox.client.get("/_sandbox/health").json()["problems"])
    del sandbox.parts.fail["droplets.delete"]
    sandbox.until(lambda: "busy" not in str(sandbox.client.get("/_sandbox/health").json()["problems"]))
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + FAILURE_SHOWN)
    assert sandbox.refused("GET", path)[0] == 404


def test_droplets_made_at_the_same_time_share_no_address(sandbox: Sandbox):
    headers = {"authorization": f"Bearer {TOKEN}"}

    def make(number: int) -> int:
        body = DROPLET | {"name": f"web-{number}"}
        return httpx.post(
            f"{sandbox.url}/v2/droplets", json=body, headers=headers, trust_env=False, timeout=60
        ).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(make, range(8))) == {202}
    sandbox.until(lambda: all(d["status"] == "active" for d in sandbox.get("/v2/droplets")["droplets"]))
    listed = sandbox.get("/v2/droplets")["droplets"]
    addresses = {network["ip_address"] for droplet in listed for network in droplet["networks"]["v4"]}
    assert (len(listed), len(addresses)) == (8, 16)
    assert sandbox.get("/v2/vpcs")["meta"]["total"] == 1, "one default VPC for all of them"


def test_one_droplet_whose_firewall_fails_does_not_keep_the_others_open(sandbox: Sandbox, monkeypatch):
    first, second = sandbox.droplet("one"), sandbox.droplet("two")
    working = sandbox.parts.droplets.set_firewall

    def set_firewall(droplet: DropletSpec, rules: FirewallRules | None) -> None:
        if droplet.id == first["id"]:
            raise PartError("one: stuck")
        working(droplet, rules)

    monkeypatch.setattr(sandbox.parts.droplets, "set_firewall", set_firewall)
    rule = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["0.0.0.0/0"]}}
    body = {"name": "fw", "droplet_ids": [first["id"], second["id"]], "inbound_rules": [rule]}
    made = sandbox.post("/v2/firewalls", body)["firewall"]
    assert sandbox.parts.firewalls[second["id"]] is not None
    kept = sandbox.get(f"/v2/firewalls/{made['id']}")["firewall"]
    failed = {"droplet_id": first["id"], "removing": False, "status": "failed"}
    assert (kept["status"], kept["pending_changes"]) == ("failed", [failed])
    monkeypatch.setattr(sandbox.parts.droplets, "set_firewall", working)
    sandbox.until(lambda: sandbox.parts.firewalls[first["id"]] is not None)
    sandbox.until(lambda: sandbox.get(f"/v2/firewalls/{made['id']}")["firewall"]["status"] == "succeeded")


@pytest.mark.parametrize("kind", ["rebuild", "restore", "password_reset", "change_kernel", "enable_ipv6"])
def test_actions_that_are_not_built_are_refused_by_name(shared: Sandbox, kind):
    listed = shared.get("/v2/droplets")["droplets"]
    droplet = listed[0] if listed else shared.droplet()
    status, message = shared.refused("POST", f"/v2/droplets/{droplet['id']}/actions", {"type": kind})
    assert (status, kind in message) == (501, True)


def test_a_destroyed_droplet_is_there_until_its_machine_is_gone(sandbox: Sandbox):
    droplet = sandbox.droplet()
    gate = sandbox.parts.gate["droplets.delete"] = threading.Event()
    path = f"/v2/droplets/{droplet['id']}"
    sandbox.delete(path)
    assert sandbox.get(path)["droplet"]["status"] == "active"
    gate.set()
    sandbox.until_gone(path)
    assert sandbox.parts.droplet_specs == {}


def test_a_destroy_that_fails_is_tried_again(sandbox: Sandbox):
    droplet = sandbox.droplet()
    sandbox.parts.fail["droplets.delete"] = PartError("busy")
    sandbox.delete(f"/v2/droplets/{droplet['id']}")
    sandbox.until(lambda: "busy" in str(sandbox.client.get("/_sandbox/health").json()["problems"]))
    del sandbox.parts.fail["droplets.delete"]
    sandbox.until_gone(f"/v2/droplets/{droplet['id']}")
    # It is gone a moment before the work that removed it has ended well.
    sandbox.until(lambda: sandbox.client.get("/_sandbox/health").json()["problems"] == {})


def test_a_droplet_without_a_region_goes_where_its_network_or_volume_is(sandbox: Sandbox):
    blank = DROPLET | {"region": ""}
    assert sandbox.droplet("any", region=None)["region"]["slug"] == "nyc3"
    vpc = sandbox.post("/v2/vpcs", {"name": "one", "region": "fra1"})["vpc"]["id"]
    assert sandbox.droplet(**blank | {"name": "by-vpc", "vpc_uuid": vpc})["region"]["slug"] == "fra1"
    volume = sandbox.post("/v2/volumes", {"name": "data", "region": "sfo3", "size_gigabytes": 1})["volume"]["id"]
    assert sandbox.droplet(**blank | {"name": "by-volume", "volumes": [volume]})["region"]["slug"] == "sfo3"
    assert sandbox.refused("POST", "/v2/droplets", DROPLET | {"region": "mars1"})[0] == 422


def test_volumes_to_attach_come_in_every_form_that_official_clients_write(sandbox: Sandbox):
    volumes: list[str] = [
        sandbox.post("/v2/volumes", {"name": f"v{number}", "region": "nyc3", "size_gigabytes": 1})["volume"]["id"]
        for number in range(3)
    ]
    first, second, third = volumes
    assert sandbox.droplet("none", volumes=None)["volume_ids"] == []
    assert sandbox.droplet("text", volumes=[None, first])["volume_ids"] == [first]
    assert sandbox.droplet("id", volumes=[{"id": second}])["volume_ids"] == [second]
    assert sandbox.droplet("name", volumes=[{"name": "v2"}])["volume_ids"] == [third]
    for wrong in ("x", {"id": "x"}, {"name": "x"}, {}, 7):
        assert sandbox.refused("POST", "/v2/droplets", DROPLET | {"volumes": [wrong]}) == (422, "volume not found")


@pytest.mark.parametrize("slug", ["ubuntu-20-04-x64", "debian-11-x64", "debian-13-x64"])
def test_droplets_of_older_images_can_still_be_made(sandbox: Sandbox, slug: str):
    assert slug in [image["slug"] for image in sandbox.get("/v2/images?type=distribution")["images"]]
    assert sandbox.droplet(image=slug)["image"]["slug"] == slug


def test_a_backup_policy_goes_from_weekly_to_daily_and_loses_its_day(sandbox: Sandbox):
    droplet = sandbox.droplet(backups=True, backup_policy={"plan": "weekly", "weekday": "MON", "hour": 0})
    path = f"/v2/droplets/{droplet['id']}/backups/policy"
    assert sandbox.get(path)["policy"]["backup_policy"]["weekday"] == "MON"
    sandbox.act(droplet, "change_backup_policy", backup_policy={"plan": "daily", "weekday": "", "hour": 4})
    policy = sandbox.get(path)["policy"]["backup_policy"]
    assert policy == {"plan": "daily", "hour": 4, "window_length_hours": 4, "retention_period_days": 7}


def test_a_volume_of_another_droplet_or_region_is_refused_at_creation(sandbox: Sandbox):
    made = [
        sandbox.post("/v2/volumes", {"name": f"v-{region}", "region": region, "size_gigabytes": 1})["volume"]["id"]
        for region in ("nyc3", "fra1")
    ]
    here, elsewhere = made
    several = {**DROPLET, "names": ["a", "b"]}
    wanted = "A volume can be attached to one Droplet only, and to one of its own region."
    assert sandbox.refused("POST", "/v2/droplets", DROPLET | {"volumes": [elsewhere]}) == (422, wanted)
    assert sandbox.refused("POST", "/v2/droplets", several | {"volumes": [here]}) == (422, wanted)
    holder = sandbox.droplet(volumes=[here])
    assert sandbox.refused("POST", "/v2/droplets", DROPLET | {"volumes": [here]}) == (422, wanted)
    assert sandbox.get(f"/v2/volumes/{here}")["volume"]["droplet_ids"] == [holder["id"]]
