"""Every kind of object is found, paged, named, assigned, tagged and counted; a new one has to be made below once."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from sandbox.api.context import JOBS, load_operations
from sandbox.api.kinds import KINDS, Kind
from sandbox.parts.none import NoParts
from tests.sandbox.conftest import PUBLIC_KEY, TOKEN, Sandbox, running

OPERATIONS = {operation.id: operation for operation in load_operations()}
RULE = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["0.0.0.0/0"]}}
REGION = {"region": "nyc3"}
FORWARD = {"entry_protocol": "http", "entry_port": 80, "target_protocol": "http", "target_port": 80}
ALERT = {
    "alerts": {"email": [], "slack": [{"channel": "#a", "url": "https://hooks.slack.com/x"}]},
    "compare": "GreaterThan",
    "description": "busy",
    "type": "v1/insights/droplet/cpu",
    "value": 1,
    "window": "5m",
}
DOWN = {"name": "down", "type": "down", "notifications": ALERT["alerts"], "period": "2m"}


def _vpc(sandbox: Sandbox, _: dict[str, Any]) -> Any:
    sandbox.post("/v2/vpcs", {"name": "first", **REGION})  # may be the region's default, which nobody leaves behind
    return sandbox.post("/v2/vpcs", {"name": "net", **REGION})["vpc"]


def _snapshot(sandbox: Sandbox, made: dict[str, Any]) -> Any:
    return sandbox.post(f"/v2/volumes/{made['volume']['id']}/snapshots", {"name": "kept"})["snapshot"]


def _image(sandbox: Sandbox, made: dict[str, Any]) -> Any:
    sandbox.act(made["droplet"], "snapshot", name="disk")
    return next(image for image in sandbox.get("/v2/images?per_page=200")["images"] if image["name"] == "disk")


def _post(path: str, key: str, body: dict[str, Any]) -> Callable[[Sandbox, dict[str, Any]], Any]:
    return lambda sandbox, made: sandbox.post(path.format(**made), body)[key]


# Kind → makes one. In an order in which each has what it needs.
MAKERS: dict[str, Callable[[Sandbox, dict[str, Any]], Any]] = {
    "ssh_key": _post("/v2/account/keys", "ssh_key", {"name": "me", "public_key": PUBLIC_KEY}),
    "tag": _post("/v2/tags", "tag", {"name": "app"}),
    "vpc": _vpc,
    "droplet": lambda sandbox, made: sandbox.droplet("web", vpc_uuid=made["vpc"]["id"]),
    "database": lambda sandbox, made: sandbox.cluster("db", private_network_uuid=made["vpc"]["id"]),
    "firewall": _post("/v2/firewalls", "firewall", {"name": "fw", "inbound_rules": [RULE]}),
    "reserved_ip": _post("/v2/reserved_ips", "reserved_ip", REGION),
    "volume": _post("/v2/volumes", "volume", {"name": "disk", "size_gigabytes": 1, **REGION}),
    "snapshot": _snapshot,
    "image": _image,
    "domain": _post("/v2/domains", "domain", {"name": "example.org"}),
    "record": _post(
        "/v2/domains/example.org/records", "domain_record", {"type": "A", "name": "x", "data": "192.0.2.1"}
    ),
    "certificate": _post(
        "/v2/certificates", "certificate", {"name": "site", "type": "lets_encrypt", "dns_names": ["example.org"]}
    ),
    "spaces_key": _post("/v2/spaces/keys", "key", {"name": "k", "grants": []}),
    "cdn": _post("/v2/cdn/endpoints", "endpoint", {"origin": "assets.nyc3.digitaloceanspaces.com"}),
    "registry": _post("/v2/registry", "registry", {"name": "acme", "subscription_tier_slug": "basic"}),
    "project": _post("/v2/projects", "project", {"name": "shop", "purpose": "IoT"}),
    "alert": _post("/v2/monitoring/alerts", "policy", ALERT),
    "check": _post("/v2/uptime/checks", "check", {"name": "up", "target": "https://example.org"}),
    "check_alert": _post("/v2/uptime/checks/{check[id]}/alerts", "alert", DOWN),
    "load_balancer": lambda sandbox, made: sandbox.post(
        "/v2/load_balancers",
        {"name": "lb", **REGION, "vpc_uuid": made["vpc"]["id"], "forwarding_rules": [FORWARD]},
    )["load_balancer"],
    "action": lambda sandbox, _: sandbox.get("/v2/actions")["actions"][0],
}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Sandbox, dict[str, Any]]]:
    """An account with one object of each kind."""
    parts = NoParts()
    parts.bucket_list = (("nyc3", "assets"),)
    with running(tmp_path_factory.mktemp("kinds") / "home", parts) as sandbox:
        made: dict[str, Any] = {}
        for name, make in MAKERS.items():
            made[name] = make(sandbox, made)
        yield sandbox, made


def test_one_of_each_kind_is_made():
    assert MAKERS.keys() == KINDS.keys()


def _path(kind: Kind, made: dict[str, Any], operation: str, ident: str) -> str:
    path = OPERATIONS[operation].path
    if kind.parent:
        parent = made[kind.parent.name]
        path = path.replace("{domain_name}", parent.get("name", "")).replace("{check_id}", parent.get("id", ""))
    return path[: path.index("{")] + ident if "{" in path else path


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_it_is_read_and_what_is_not_there_is_404(account: tuple[Sandbox, dict[str, Any]], name: str):
    sandbox, made = account
    kind = KINDS[name]
    for operation in kind.reads:
        if "{" not in OPERATIONS[operation].path:
            continue  # the only one of its kind, or the default
        assert sandbox.refused("GET", _path(kind, made, operation, "999")) == (404, kind.missing)
        ident = str(made[name][kind.id])
        answer = sandbox.get(_path(kind, made, operation, ident))
        (shown,) = answer.values()
        assert str(shown[kind.id]) == ident


@pytest.mark.parametrize("name", sorted(name for name, kind in KINDS.items() if kind.lists))
def test_it_is_on_a_page(account: tuple[Sandbox, dict[str, Any]], name: str):
    sandbox, made = account
    kind = KINDS[name]
    for operation in kind.lists:
        path = _path(kind, made, operation, "")
        answer = sandbox.get(path + "?per_page=200")
        assert answer.keys() >= {"links", "meta"}
        (items,) = (value for value in answer.values() if isinstance(value, list))
        assert made[name][kind.id] in [item[kind.id] for item in items]
        assert answer["meta"]["total"] == len(items)
        for query in kind.filters:
            assert sandbox.get(f"{path}?{query}=gpus")["meta"]["total"] == 0, query


def test_every_urn_is_taken_by_a_project(account: tuple[Sandbox, dict[str, Any]]):
    sandbox, made = account
    urns = [kind.urn_of(made[name]) for name, kind in KINDS.items() if kind.urn]
    assert len(urns) >= 5
    given = sandbox.post(f"/v2/projects/{made['project']['id']}/resources", {"resources": urns})["resources"]
    assert [(entry["urn"], entry["status"]) for entry in given] == [(urn, "assigned") for urn in urns]
    held = sandbox.get(f"/v2/projects/{made['project']['id']}/resources")["resources"]
    assert {entry["urn"] for entry in held} == set(urns)
    for entry in held:
        path = entry["links"]["self"].removeprefix("http://api.sandbox.test")
        assert sandbox.call("GET", path)[0] == 200, "a link leads to what it names"


def test_every_address_is_one_object_s(account: tuple[Sandbox, dict[str, Any]]):
    sandbox, made = account
    inside = {name: sandbox.store.get(name, made[name]["id"]) for name, kind in KINDS.items() if kind.in_vpc}
    outside = {name: sandbox.store.get(name, made[name]["id"]) for name, kind in KINDS.items() if kind.has_public_ip}
    assert len({record["private_ip"] for record in inside.values() if record}) == len(inside) >= 2
    assert len({record["public_ip"] for record in outside.values() if record}) == len(outside) >= 2
    members = sandbox.get(f"/v2/vpcs/{made['vpc']['id']}/members")["members"]
    assert {member["urn"] for member in members} == {KINDS[name].urn_of(made[name]) for name in inside}
    assert sandbox.refused("DELETE", f"/v2/vpcs/{made['vpc']['id']}")[0] == 409


def test_every_tagged_kind_is_counted_and_loses_a_tag_that_goes(account: tuple[Sandbox, dict[str, Any]]):
    sandbox, made = account
    wearing = {name: kind for name, kind in KINDS.items() if kind.tagged_as}
    resources = [
        {"resource_type": kind.tagged_as, "resource_id": str(made[name]["id"])} for name, kind in wearing.items()
    ]
    sandbox.post("/v2/tags", {"name": "passing"})
    sandbox.send("POST", "/v2/tags/passing/resources", {"resources": resources})
    tag = sandbox.get("/v2/tags/passing")["tag"]["resources"]
    assert tag["count"] == len(wearing) >= 5
    for kind in wearing.values():
        assert tag[f"{kind.tagged_as}s"]["count"] == 1
    sandbox.delete("/v2/tags/passing")
    for name in wearing:
        record = sandbox.store.get(name, made[name]["id"])
        assert record is not None
        assert "passing" not in record["tags"]


def test_every_job_of_a_row_is_one(account: tuple[Sandbox, dict[str, Any]]):
    _, made = account
    for name, kind in KINDS.items():
        if kind.job:
            assert kind.job_of(made[name]).partition(":")[0] in JOBS
        assert not (kind.resumed and not kind.job)


def test_what_is_left_is_named(account: tuple[Sandbox, dict[str, Any]]):
    sandbox, _ = account
    answer = sandbox.client.get("/_sandbox/leaks", headers={"authorization": f"Bearer {TOKEN}"}).json()["objects"]
    assert {line.split(" ")[0] for line in answer} == {name for name, kind in KINDS.items() if kind.label}
    assert KINDS.keys() - {name for name, kind in KINDS.items() if kind.label} == {
        "action",  # is no resource
        "image",  # goes with its snapshot
        "record",  # goes with its domain
        "check_alert",  # goes with its check
    }
