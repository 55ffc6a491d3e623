"""Refusals of the real service that once let a first `up` pass here and would have stopped it there.

Each is documented by DigitalOcean or was reported; the sources are in `docs/fidelity.md`.
"""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.api.scopes import narrow_token
from tests.sandbox.conftest import TOKEN, Sandbox, running

GRANT = {"bucket": "assets", "permission": "readwrite"}
RECIPIENT = {"email": ["who@example.org"], "slack": []}
POLICY = {
    "alerts": RECIPIENT,
    "compare": "GreaterThan",
    "description": "CPU",
    "enabled": True,
    "entities": [],
    "tags": [],
    "type": "v1/insights/droplet/cpu",
    "value": 70,
    "window": "5m",
}


def switch(sandbox: Sandbox, **changes: Any) -> None:
    sandbox.send("PATCH", "/_sandbox/switches", changes)


@pytest.mark.parametrize("body", [{"unseen": 1}, {"unseen_seconds": -1}, [1], None])
def test_an_unknown_switch_is_refused(sandbox: Sandbox, body: Any):
    assert sandbox.call("PATCH", "/_sandbox/switches", body)[0] == 422
    assert sandbox.get("/_sandbox/switches")["unseen_seconds"] == 0


# --- A1: a bucket policy and a limited key ---------------------------------------------------------------------------


@pytest.mark.parametrize("permission", ["read", "readwrite"])
def test_a_bucket_with_a_policy_takes_no_limited_key(sandbox: Sandbox, permission: str):
    sandbox.parts.policy_list = ("assets",)
    body = {"name": "app", "grants": [{"bucket": "assets", "permission": permission}]}
    status, message = sandbox.refused("POST", "/v2/spaces/keys", body)
    assert status == 422
    assert "assets" in message
    full = {"name": "ops", "grants": [{"bucket": "", "permission": "fullaccess"}]}
    made = sandbox.post("/v2/spaces/keys", full)["key"]
    path = f"/v2/spaces/keys/{made['access_key']}"
    assert sandbox.refused("PUT", path, body)[0] == 422
    sandbox.parts.policy_list = ()
    sandbox.put(path, body)


# --- A2: a token of custom scopes ------------------------------------------------------------------------------------


def test_a_token_of_custom_scopes_sees_no_passwords_and_makes_no_spaces_keys(sandbox: Sandbox):
    cluster = sandbox.cluster()
    sandbox.post(f"/v2/databases/{cluster['id']}/users", {"name": "app"})
    token = narrow_token(TOKEN)
    status, answer = sandbox.call("GET", f"/v2/databases/{cluster['id']}", token=token)
    assert status == 200
    seen = answer["database"]
    assert {seen["connection"]["password"], *(user["password"] for user in seen["users"])} == {""}
    assert cluster["connection"]["password"]
    assert cluster["connection"]["password"] not in str(answer)
    users = sandbox.call("GET", f"/v2/databases/{cluster['id']}/users", token=token)[1]["users"]
    assert [user["password"] for user in users] == ["", ""]
    for method, body in (("POST", {"name": "k", "grants": [GRANT]}), ("GET", None)):
        status, answer = sandbox.call(method, "/v2/spaces/keys", body, token=token)
        assert (status, answer["id"]) == (403, "forbidden")


# --- A3: recipients of alerts ----------------------------------------------------------------------------------------


def test_alerts_go_to_members_of_the_team_alone(sandbox: Sandbox):
    invalid = "invalid value for field 'alerts.email[0]': invalid email 'who@example.org'"
    assert sandbox.refused("POST", "/v2/monitoring/alerts", POLICY) == (400, invalid)
    check = sandbox.post(
        "/v2/uptime/checks", {"name": "page", "type": "https", "target": "https://x.org/", "regions": ["us_east"]}
    )["check"]
    alert = {"name": "down", "type": "down_global", "period": "2m", "notifications": RECIPIENT}
    path = f"/v2/uptime/checks/{check['id']}/alerts"
    assert sandbox.refused("POST", path, alert) == (400, invalid.replace("alerts", "notifications"))
    switch(sandbox, addresses=["who@example.org"])
    sandbox.post("/v2/monitoring/alerts", POLICY)
    sandbox.post(path, alert)
    sandbox.post("/v2/monitoring/alerts", POLICY | {"alerts": {"email": ["sandbox@example.com"], "slack": []}})


# --- A4: made, and not found yet -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("collection", "body"),
    [
        ("dbs", {"name": "app"}),
        ("users", {"name": "app"}),
        ("pools", {"name": "pool", "mode": "transaction", "size": 2, "db": "defaultdb", "user": "doadmin"}),
    ],
)
def test_what_is_new_in_a_cluster_is_not_found_for_a_while_on_request(sandbox: Sandbox, collection: str, body: Any):
    path = f"/v2/databases/{sandbox.cluster()['id']}/{collection}"
    switch(sandbox, unseen_seconds=600)
    sandbox.post(path, body)
    assert sandbox.refused("GET", f"{path}/{body['name']}")[0] == 404
    assert sandbox.refused("POST", path, body)[0] == 409, "it is there all the same"
    switch(sandbox, unseen_seconds=0)
    sandbox.get(f"{path}/{body['name']}")


# --- A6: names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "status"), [(2, 422), (60, 201), (61, 422)])
def test_a_pool_has_a_name_of_3_to_60_characters(sandbox: Sandbox, length: int, status: int):
    body = {"name": "p" * length, "mode": "transaction", "size": 2, "db": "defaultdb", "user": "doadmin"}
    assert sandbox.call("POST", f"/v2/databases/{sandbox.cluster()['id']}/pools", body)[0] == status


def test_another_account_may_have_the_registrys_name(sandbox: Sandbox):
    switch(sandbox, foreign_registries=["acme"])
    body = {"name": "acme", "subscription_tier_slug": "basic", "region": "nyc3"}
    assert sandbox.refused("POST", "/v2/registries", body)[0] == 409
    assert sandbox.refused("POST", "/v2/registries/validate-name", {"name": "acme"})[0] == 409
    assert sandbox.call("POST", "/v2/registries/validate-name", {"name": "acme-2"})[0] == 204


# --- A8: trusted sources ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["2001:db8::/64", "2001:db8::1", "::/0"])
def test_trusted_sources_take_no_ipv6(sandbox: Sandbox, value: str):
    path = f"/v2/databases/{sandbox.cluster()['id']}/firewall"
    assert sandbox.refused("PUT", path, {"rules": [{"type": "ip_addr", "value": value}]})[0] == 422
    sandbox.put(path, {"rules": [{"type": "ip_addr", "value": "203.0.113.0/24"}]})


# --- C1: the first VPC of a region -----------------------------------------------------------------------------------


def test_the_first_vpc_of_a_region_is_its_default_and_stays(sandbox: Sandbox):
    first = sandbox.post("/v2/vpcs", {"name": "mine", "region": "nyc3"})["vpc"]
    second = sandbox.post("/v2/vpcs", {"name": "other", "region": "nyc3"})["vpc"]
    elsewhere = sandbox.post("/v2/vpcs", {"name": "there", "region": "fra1"})["vpc"]
    assert [vpc["default"] for vpc in (first, second, elsewhere)] == [True, False, True]
    assert sandbox.refused("DELETE", f"/v2/vpcs/{first['id']}") == (403, "Can not delete default VPCs")
    sandbox.delete(f"/v2/vpcs/{second['id']}")


# --- the switches ----------------------------------------------------------------------------------------------------


def test_switches_reach_the_part_and_outlive_a_restart(tmp_path: Any):
    from sandbox.parts.none import NoParts  # noqa: PLC0415 - two lives of one home, each with parts of its own

    with running(tmp_path, NoParts()) as sandbox:
        switch(sandbox, deleted_name_seconds=60, foreign_buckets=["taken"])
        told = [argument for name, argument in sandbox.parts.calls if name == "spaces.set_switches"][-1]
        assert (told["deleted_name_seconds"], told["foreign_buckets"]) == (60, ["taken"])
    with running(tmp_path, NoParts()) as sandbox:
        assert sandbox.get("/_sandbox/switches")["foreign_buckets"] == ["taken"]
