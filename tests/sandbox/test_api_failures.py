"""A part that cannot do what a call asked for: its client is given the reason, and the account is as it was."""

from __future__ import annotations

import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.api.jobs import Jobs
from sandbox.parts.base import PartError
from sandbox.store import Store
from tests.sandbox.conftest import TOKEN, Sandbox
from tools import environment

SPACE = ("nyc3", "assets")
ORIGIN = "assets.nyc3.digitaloceanspaces.com"
KEY = {"name": "app", "grants": [{"bucket": "", "permission": "fullaccess"}]}
REGISTRY = {"name": "shop", "subscription_tier_slug": "basic", "region": "nyc3"}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is tried again at once, and not after a second."""
    monkeypatch.setattr("sandbox.api.jobs._FIRST_RETRY", 0.01)


def _problems(sandbox: Sandbox) -> dict[str, str]:
    return sandbox.client.get("/_sandbox/health").json()["problems"]


def _shown(sandbox: Sandbox, path: str, key: str) -> Any:
    status, body = sandbox.call("GET", path)
    return body[key] if status == 200 else status


@pytest.mark.parametrize(
    ("part", "path", "body", "listed"),
    [
        ("dns.set_zones", "/v2/domains", {"name": "example.org"}, ("/v2/domains", "domains")),
        ("edge.set_cdns", "/v2/cdn/endpoints", {"origin": ORIGIN}, ("/v2/cdn/endpoints", "endpoints")),
        ("spaces.set_keys", "/v2/spaces/keys", KEY, ("/v2/spaces/keys", "keys")),
        ("networks.create_vpc", "/v2/vpcs", {"name": "one", "region": "nyc3"}, ("/v2/vpcs", "vpcs")),
    ],
)
def test_a_creation_that_its_part_cannot_follow_is_refused_and_leaves_nothing(
    sandbox: Sandbox, part: str, path: str, body: dict[str, Any], listed: tuple[str, str]
):
    sandbox.parts.bucket_list = (SPACE,)
    before = _shown(sandbox, *listed)
    sandbox.parts.fail[part] = PartError("the daemon does not answer")
    assert sandbox.refused("POST", path, body) == (503, "the daemon does not answer")
    assert _shown(sandbox, *listed) == before
    sandbox.parts.fail.clear()
    sandbox.until(lambda: not _problems(sandbox))
    sandbox.post(path, body)
    assert _shown(sandbox, *listed) != before


def test_a_removal_that_its_part_cannot_follow_leaves_the_object_in_its_place(sandbox: Sandbox):
    for name in ("a.example.org", "b.example.org", "c.example.org"):
        sandbox.post("/v2/domains", {"name": name})
    records = sandbox.get("/v2/domains/b.example.org/records")["domain_records"]
    sandbox.parts.fail["dns.set_zones"] = PartError("no disk")
    assert sandbox.refused("DELETE", "/v2/domains/b.example.org") == (503, "no disk")
    names = [domain["name"] for domain in sandbox.get("/v2/domains")["domains"]]
    assert names == ["a.example.org", "b.example.org", "c.example.org"]
    assert sandbox.get("/v2/domains/b.example.org/records")["domain_records"] == records
    sandbox.parts.fail.clear()
    sandbox.until(lambda: not _problems(sandbox))
    assert "b.example.org" in sandbox.parts.zones


def test_a_registry_that_takes_no_logins_hands_out_none(sandbox: Sandbox):
    sandbox.post("/v2/registry", REGISTRY)
    sandbox.parts.fail["edge.set_registry_logins"] = PartError("no edge")
    assert sandbox.refused("GET", "/v2/registry/docker-credentials") == (503, "no edge")
    sandbox.parts.fail.clear()
    sandbox.until(lambda: not _problems(sandbox))
    assert [login.username for login in sandbox.parts.registry_logins] == ["sandbox", TOKEN]


def test_a_user_that_a_running_cluster_refuses_is_not_in_it(sandbox: Sandbox):
    cluster = sandbox.cluster()
    path = f"/v2/databases/{cluster['id']}/users"
    sandbox.parts.fail["databases.apply"] = PartError("role app: no")
    assert sandbox.refused("POST", path, {"name": "app"}) == (503, "role app: no")
    assert [user["name"] for user in sandbox.get(path)["users"]] == ["doadmin"]
    sandbox.parts.fail.clear()
    sandbox.until(lambda: not _problems(sandbox))
    assert [user.name for user in sandbox.parts.clusters[cluster["id"]].users] == ["doadmin"]


def test_a_cluster_that_cannot_be_made_gives_the_reason_until_it_can(sandbox: Sandbox):
    sandbox.parts.fail["databases.apply"] = PartError("database db: no disk")
    body = {"name": "db", "engine": "pg", "version": "15", "size": "db-s-1vcpu-1gb", "region": "nyc3", "num_nodes": 1}
    path = f"/v2/databases/{sandbox.post('/v2/databases', body)['database']['id']}"
    sandbox.until(lambda: sandbox.call("GET", path)[0] == 503)
    assert sandbox.refused("GET", path)[1] == "cluster db is creating and fails: database db: no disk"
    sandbox.parts.fail.clear()
    sandbox.until(lambda: sandbox.call("GET", path)[0] == 200)
    assert sandbox.get(path)["database"]["status"] == "online"


def test_a_defect_is_an_error_too(sandbox: Sandbox):
    sandbox.parts.fail["dns.set_zones"] = KeyError("defect")
    status, message = sandbox.refused("POST", "/v2/domains", {"name": "example.org"})
    assert (status, "serve.log" in message) == (500, True)
    assert sandbox.get("/v2/domains")["domains"] == []


def _reserved(sandbox: Sandbox) -> str:
    droplet = sandbox.droplet()
    address = sandbox.post("/v2/reserved_ips", {"droplet_id": droplet["id"]})["reserved_ip"]["ip"]
    sandbox.until(lambda: not sandbox.get(f"/v2/reserved_ips/{address}")["reserved_ip"]["locked"])
    return address


def test_a_reserved_ip_that_stays_on_its_droplet_stays_in_the_account(sandbox: Sandbox):
    path = f"/v2/reserved_ips/{_reserved(sandbox)}"
    sandbox.parts.fail["droplets.set_reserved_ips"] = PartError("no route")
    assert sandbox.refused("DELETE", path) == (503, "no route")
    assert sandbox.get(path)["reserved_ip"]["droplet"] is not None


def test_an_assignment_that_fails_is_an_errored_action(sandbox: Sandbox):
    path = f"/v2/reserved_ips/{_reserved(sandbox)}"
    sandbox.parts.fail["droplets.set_reserved_ips"] = PartError("no route")
    action = sandbox.post(f"{path}/actions", {"type": "unassign"})["action"]
    assert sandbox.finished(action) == "errored"
    holder = sandbox.get(path)["reserved_ip"]["droplet"]
    sandbox.parts.fail.clear()
    sandbox.until(lambda: not [job for job in _problems(sandbox) if job.startswith("reserved")])
    other = sandbox.droplet("web-2")
    sandbox.parts.fail["droplets.set_reserved_ips"] = PartError("no route")
    action = sandbox.post(f"{path}/actions", {"type": "assign", "droplet_id": other["id"]})["action"]
    assert sandbox.finished(action) == "errored"
    assert sandbox.get(path)["reserved_ip"]["droplet"]["id"] == holder["id"]


def test_a_network_that_stays_keeps_its_vpc(sandbox: Sandbox):
    sandbox.post("/v2/vpcs", {"name": "first", "region": "nyc3"})  # a region's default cannot be deleted
    path = f"/v2/vpcs/{sandbox.post('/v2/vpcs', {'name': 'one', 'region': 'nyc3'})['vpc']['id']}"
    sandbox.parts.fail["networks.delete_vpc"] = PartError("its network is still in use")
    assert sandbox.refused("DELETE", path) == (503, "its network is still in use")
    assert sandbox.get(path)["vpc"]["name"] == "one"


def test_a_certificate_that_nobody_issues_is_in_error(sandbox: Sandbox):
    sandbox.post("/v2/domains", {"name": "example.org"})
    sandbox.parts.fail["authority.issue"] = PartError("no authority")
    body = {"name": "site", "type": "lets_encrypt", "dns_names": ["example.org"]}
    path = f"/v2/certificates/{sandbox.post('/v2/certificates', body)['certificate']['id']}"
    sandbox.until(lambda: sandbox.get(path)["certificate"]["state"] == "error")


def test_a_droplet_that_cannot_be_removed_gives_the_reason(sandbox: Sandbox):
    path = f"/v2/droplets/{sandbox.droplet()['id']}"
    sandbox.parts.fail["droplets.delete"] = PartError("the daemon does not answer")
    sandbox.delete(path)
    sandbox.until(lambda: sandbox.call("GET", path)[0] == 503)
    assert sandbox.refused("GET", path)[1].endswith("cannot be: the daemon does not answer")
    sandbox.parts.fail.clear()
    sandbox.until_gone(path)


def test_work_without_an_end_is_an_error_and_leaves_nothing(sandbox: Sandbox, monkeypatch):
    monkeypatch.setattr("sandbox.api.app._PART_PATIENCE", 0.1)
    gate = sandbox.parts.gate["dns.set_zones"] = threading.Event()
    assert sandbox.refused("POST", "/v2/domains", {"name": "example.org"}) == (503, "zones: no end after 0.1 s")
    assert sandbox.get("/v2/domains")["domains"] == []
    gate.set()
    sandbox.until(lambda: sandbox.parts.zones.keys() == {"db.ondigitalocean.com"})


def test_an_action_that_failed_gives_its_reason_for_a_while(sandbox: Sandbox, monkeypatch):
    droplet = sandbox.droplet()
    sandbox.parts.fail["droplets.power"] = PartError("the container does not stop")
    action = sandbox.post(f"/v2/droplets/{droplet['id']}/actions", {"type": "reboot"})["action"]
    assert sandbox.finished(action) == "errored"
    assert _problems(sandbox) == {f"action:{action['id']}": "the container does not stop"}
    monkeypatch.setattr("sandbox.api.actions.FAILURES_SHOWN", -1)
    assert _problems(sandbox) == {}


def test_leaks_are_looked_for_when_nothing_is_tried_again(sandbox: Sandbox, monkeypatch):
    monkeypatch.setattr("sandbox.api.jobs._FIRST_RETRY", 0.2)
    droplet = sandbox.droplet()
    sandbox.parts.fail["droplets.delete"] = PartError("busy")
    sandbox.delete(f"/v2/droplets/{droplet['id']}")
    sandbox.until(lambda: bool(_problems(sandbox)))
    sandbox.parts.fail.clear()
    answer = sandbox.client.get("/_sandbox/leaks", headers={"authorization": f"Bearer {TOKEN}"}).json()
    assert answer["objects"] == []


def test_clusters_that_hang_hold_up_no_record(sandbox: Sandbox):
    gate = sandbox.parts.gate["databases.apply"] = threading.Event()
    body = {"engine": "pg", "version": "15", "size": "db-s-1vcpu-1gb", "region": "nyc3", "num_nodes": 1}
    for number in range(10):
        sandbox.post("/v2/databases", {**body, "name": f"db-{number}"})
    sandbox.until(lambda: sandbox.parts.waiting.get("databases.apply", 0) >= 8)
    sandbox.post("/v2/domains", {"name": "example.org"})
    assert not gate.is_set()
    assert sandbox.parts.clusters == {}, "none has ended meanwhile"
    gate.set()


def test_work_that_is_never_begun_has_an_end():
    begun, gate = threading.Event(), threading.Event()

    def run(_: str) -> None:
        begun.set()
        gate.wait(30)

    jobs = Jobs(run)
    jobs.submit("zones")
    begun.wait(30)
    later = jobs.submit("zones")
    closing = threading.Thread(target=jobs.close)
    closing.start()
    with pytest.raises(PartError, match="the sandbox is being stopped"):
        later.result(timeout=10)
    gate.set()
    closing.join(10)


@pytest.mark.parametrize(
    ("part", "method", "path", "body"),
    [
        ("spaces.buckets", "POST", "/v2/cdn/endpoints", {"origin": ORIGIN}),
        ("spaces.buckets", "GET", "/v2/projects/default/resources", None),
        ("edge.purge", "DELETE", "/v2/cdn/endpoints/{cdn}/cache", {"files": ["*"]}),
        ("registry.repositories", "GET", "/v2/registry/options", None),
        ("networks.free_vpc_range", "POST", "/v2/vpcs", {"name": "one", "region": "nyc3"}),
        ("networks.create_vpc", "POST", "/v2/vpcs", {"name": "one", "region": "nyc3"}),
    ],
)
def test_a_part_that_hangs_and_then_refuses_holds_nobody_else_up(
    sandbox: Sandbox, part: str, method: str, path: str, body: dict[str, Any] | None
):
    sandbox.parts.bucket_list = (SPACE,)
    if "{cdn}" in path:
        path = path.format(cdn=sandbox.post("/v2/cdn/endpoints", {"origin": ORIGIN})["endpoint"]["id"])
    gate = sandbox.parts.gate[part] = threading.Event()
    sandbox.parts.fail[part] = PartError("the daemon does not answer")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            httpx.request, method, sandbox.url + path, json=body, headers={"authorization": f"Bearer {TOKEN}"}
        )
        while not sandbox.parts.waiting.get(part):
            assert not waiting.done()
        sandbox.post("/v2/tags", {"name": "meanwhile"})
        gate.set()
        assert (waiting.result().status_code, waiting.result().json()["message"]) == (503, "the daemon does not answer")


def test_two_first_droplets_at_once_share_one_default_vpc(sandbox: Sandbox):
    gate = sandbox.parts.gate["networks.create_vpc"] = threading.Event()
    body = {"size": "s-1vcpu-1gb", "image": "ubuntu-24-04-x64", "region": "nyc3"}
    headers = {"authorization": f"Bearer {TOKEN}"}
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(httpx.post, f"{sandbox.url}/v2/droplets", json={**body, "name": name}, headers=headers)
            for name in ("a", "b")
        ]
        while sandbox.parts.waiting.get("networks.create_vpc", 0) < 2:
            assert not any(call.done() for call in calls)
        gate.set()
        made = [call.result().json()["droplet"] for call in calls]
    (vpc,) = sandbox.get("/v2/vpcs")["vpcs"]
    assert [droplet["vpc_uuid"] for droplet in made] == [vpc["id"]] * 2
    sandbox.until(lambda: any(method == "networks.delete_vpc" for method, _ in sandbox.parts.calls))
    assert ("networks.delete_vpc", vpc["id"]) not in sandbox.parts.calls


def test_what_was_changed_again_is_not_taken_back(tmp_path: Path):
    store = Store(tmp_path / "state.db")
    for ident in "abc":
        store.put("tag", ident, {"n": 1})
    with store.transaction() as changes:
        store.put("tag", "a", {"n": 2})
        store.put("tag", "a", {"n": 3})
        store.delete("tag", "b")
        store.put("tag", "d", {"n": 2})
        store.put("tag", "c", {"n": 2})
    store.put("tag", "c", {"n": 9})
    store.undo(changes)
    assert store.items("tag") == [("a", {"n": 1}), ("b", {"n": 1}), ("c", {"n": 9})]
    store.close()


def test_a_verb_that_failed_says_what_the_sandbox_could_not_do(monkeypatch, capsys):
    world = {"name": "x", "running": True, "world": {"problems": {"vpc:1": "no [free] range"}}, "containers": []}

    def fail() -> None:
        raise environment.StepError("pulumi up", 3)

    answer = subprocess.CompletedProcess([], 0, json.dumps(world))
    monkeypatch.setattr(environment.subprocess, "run", lambda *_, **__: answer)
    monkeypatch.setattr(environment, "app", fail)
    with pytest.raises(SystemExit) as ended:
        environment.run()
    assert ended.value.code == 3
    assert "vpc:1: no [free] range" in capsys.readouterr().err
