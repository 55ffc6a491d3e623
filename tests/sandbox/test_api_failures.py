"""A part that cannot do what a call asked for: its client is given the reason, and the account is as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandbox.parts.base import PartError
from sandbox.store import Store
from tests.sandbox.conftest import TOKEN, Sandbox

SPACE = ("nyc3", "assets")
ORIGIN = "assets.nyc3.digitaloceanspaces.com"
KEY = {"name": "app", "grants": [{"bucket": "", "permission": "fullaccess"}]}
REGISTRY = {"name": "shop", "subscription_tier_slug": "basic", "region": "nyc3"}


def _problems(sandbox: Sandbox) -> dict[str, str]:
    return sandbox.client.get("/_sandbox/health").json()["problems"]


def _shown(sandbox: Sandbox, path: str, key: str) -> Any:
    status, body = sandbox.call("GET", path)
    return body[key] if status == 200 else status


@pytest.mark.parametrize(
    ("part", "path", "body", "listed"),
    [
        ("set_zones", "/v2/domains", {"name": "example.org"}, ("/v2/domains", "domains")),
        ("set_cdns", "/v2/cdn/endpoints", {"origin": ORIGIN}, ("/v2/cdn/endpoints", "endpoints")),
        ("set_spaces_keys", "/v2/spaces/keys", KEY, ("/v2/spaces/keys", "keys")),
        ("create_vpc", "/v2/vpcs", {"name": "one", "region": "nyc3"}, ("/v2/vpcs", "vpcs")),
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
    sandbox.parts.fail["set_zones"] = PartError("no disk")
    assert sandbox.refused("DELETE", "/v2/domains/b.example.org") == (503, "no disk")
    names = [domain["name"] for domain in sandbox.get("/v2/domains")["domains"]]
    assert names == ["a.example.org", "b.example.org", "c.example.org"]
    assert sandbox.get("/v2/domains/b.example.org/records")["domain_records"] == records
    sandbox.parts.fail.clear()
    sandbox.until(lambda: not _problems(sandbox))
    assert "b.example.org" in sandbox.parts.zones


def test_a_registry_that_takes_no_logins_hands_out_none(sandbox: Sandbox):
    sandbox.post("/v2/registry", REGISTRY)
    sandbox.parts.fail["set_registry_logins"] = PartError("no edge")
    assert sandbox.refused("GET", "/v2/registry/docker-credentials") == (503, "no edge")
    sandbox.parts.fail.clear()
    sandbox.until(lambda: not _problems(sandbox))
    assert [login.username for login in sandbox.parts.registry_logins] == ["sandbox", TOKEN]


def test_a_user_that_a_running_cluster_refuses_is_not_in_it(sandbox: Sandbox):
    cluster = sandbox.cluster()
    path = f"/v2/databases/{cluster['id']}/users"
    sandbox.parts.fail["apply_cluster"] = PartError("role app: no")
    assert sandbox.refused("POST", path, {"name": "app"}) == (503, "role app: no")
    assert [user["name"] for user in sandbox.get(path)["users"]] == ["doadmin"]
    sandbox.parts.fail.clear()
    sandbox.until(lambda: not _problems(sandbox))
    assert [user.name for user in sandbox.parts.clusters[cluster["id"]].users] == ["doadmin"]


def test_a_cluster_that_cannot_be_made_gives_the_reason_until_it_can(sandbox: Sandbox, monkeypatch):
    monkeypatch.setattr("sandbox.api.jobs._FIRST_RETRY", 0.01)
    sandbox.parts.fail["apply_cluster"] = PartError("database db: no disk")
    body = {"name": "db", "engine": "pg", "version": "15", "size": "db-s-1vcpu-1gb", "region": "nyc3", "num_nodes": 1}
    path = f"/v2/databases/{sandbox.post('/v2/databases', body)['database']['id']}"
    sandbox.until(lambda: sandbox.call("GET", path)[0] == 503)
    assert sandbox.refused("GET", path)[1] == "cluster db is creating and fails: database db: no disk"
    sandbox.parts.fail.clear()
    sandbox.until(lambda: sandbox.call("GET", path)[0] == 200)
    assert sandbox.get(path)["database"]["status"] == "online"


def test_a_defect_is_an_error_too(sandbox: Sandbox):
    sandbox.parts.fail["set_zones"] = KeyError("defect")
    status, message = sandbox.refused("POST", "/v2/domains", {"name": "example.org"})
    assert (status, "serve.log" in message) == (500, True)
    assert sandbox.get("/v2/domains")["domains"] == []


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
