from __future__ import annotations

import base64
import threading
from urllib.parse import urlsplit

import pytest

from sandbox.api.postgres_config import postgres_settings
from sandbox.parts.base import PartError
from tests.sandbox.conftest import TOKEN, Sandbox

CLUSTER = {
    "name": "db",
    "engine": "pg",
    "version": "15",
    "size": "db-s-1vcpu-1gb",
    "region": "nyc3",
    "num_nodes": 1,
}


@pytest.fixture(scope="module")
def taken(shared: Sandbox) -> tuple[Sandbox, str]:
    """A sandbox with the cluster `taken`, and its id."""
    return shared, shared.cluster("taken")["id"]


def _plant(sandbox: Sandbox, **body: str) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert sandbox.client.post("/_sandbox/next", json=body, headers=headers).status_code == 201


def test_a_cluster_is_creating_until_its_server_answers(sandbox: Sandbox):
    gate = sandbox.parts.gate["databases.apply"] = threading.Event()
    made = sandbox.post("/v2/databases", CLUSTER)["database"]
    assert (made["status"], made["db_names"]) == ("creating", ["defaultdb"])
    found = sandbox.refused("PUT", f"/v2/databases/{made['id']}/resize", {"size": "db-s-1vcpu-2gb", "num_nodes": 1})
    assert found[0] == 412
    gate.set()
    path = f"/v2/databases/{made['id']}"
    sandbox.until(lambda: sandbox.get(path)["database"]["status"] == "online")
    uri = urlsplit(sandbox.get(path)["database"]["connection"]["uri"])
    assert (uri.username, uri.port, uri.path) == ("doadmin", 25060, "/defaultdb")
    assert uri.hostname == made["connection"]["host"]
    assert made["private_connection"]["host"] == f"private-{uri.hostname}"
    assert base64.b64decode(sandbox.get(f"{path}/ca")["ca"]["certificate"]).startswith(b"-----BEGIN")
    assert sandbox.get(f"{path}/events")["events"][0]["event_type"] == "cluster_create"


def test_the_hosts_of_a_cluster_have_addresses_in_dns(sandbox: Sandbox):
    cluster = sandbox.cluster()
    zone = {record.name: record.data for record in sandbox.parts.zones["db.ondigitalocean.com"] if record.type == "A"}
    spec = sandbox.parts.clusters[cluster["id"]]
    assert zone == {f"{spec.host}.": spec.public_ip, f"{spec.private_host}.": spec.private_ip}
    sandbox.delete(f"/v2/databases/{cluster['id']}")
    assert sandbox.parts.zones["db.ondigitalocean.com"] == ()


@pytest.mark.parametrize(
    ("change", "status", "part"),
    [
        ({"name": "Bad_Name"}, 422, "invalid cluster name"),
        ({"name": "x" * 60}, 422, "the sandbox has no host for it"),
        ({"name": "taken"}, 422, "cluster name is not available"),
        ({"size": "db-s-9vcpu"}, 422, "invalid size"),
        ({"region": "mars1"}, 422, "invalid region"),
        ({"num_nodes": 4}, 422, "num_nodes"),
        ({"version": "9"}, 422, "invalid version"),
        ({"version": "16"}, 422, "it has: 15, 17, 18"),
        ({"engine": "mysql", "version": "8"}, 501, "mysql"),
        ({"engine": "access"}, 422, "invalid engine"),
        ({"storage_size_mib": 5}, 422, "storage_size_mib"),
        ({"private_network_uuid": "none"}, 422, "VPC"),
    ],
)
def test_a_wrong_cluster_is_refused(taken: tuple[Sandbox, str], change, status, part):
    found = taken[0].refused("POST", "/v2/databases", CLUSTER | change)
    assert found[0] == status
    assert part in found[1]


def test_users_databases_and_pools_reach_the_server_at_once(sandbox: Sandbox):
    cluster = sandbox.cluster()
    path = f"/v2/databases/{cluster['id']}"
    user = sandbox.post(f"{path}/users", {"name": "app"})["user"]
    sandbox.post(f"{path}/dbs", {"name": "shop"})
    body = {"name": "pool", "mode": "transaction", "size": 10, "db": "shop", "user": "app"}
    pool = sandbox.post(f"{path}/pools", body)["pool"]
    spec = sandbox.parts.clusters[cluster["id"]]
    assert [user.name for user in spec.users] == ["doadmin", "app"]
    assert spec.users[1].password == user["password"]
    assert spec.databases == ("defaultdb", "shop")
    assert (spec.pools[0].database, spec.pools[0].user) == ("shop", "app")
    assert (pool["connection"]["port"], pool["connection"]["database"]) == (25061, "pool")
    sandbox.put(f"{path}/pools/pool", body | {"size": 12})
    assert sandbox.get(f"{path}/pools/pool")["pool"]["size"] == 12
    # What is in use stays.
    assert sandbox.refused("DELETE", f"{path}/users/app")[0] == 412
    assert sandbox.refused("DELETE", f"{path}/dbs/shop")[0] == 412
    sandbox.delete(f"{path}/pools/pool")
    sandbox.delete(f"{path}/users/app")
    sandbox.delete(f"{path}/dbs/shop")
    assert ("databases.drop_user", (cluster["id"], "app")) in sandbox.parts.calls
    assert ("databases.drop_database", (cluster["id"], "shop")) in sandbox.parts.calls
    assert sandbox.get(f"{path}/dbs")["dbs"] == [{"name": "defaultdb"}]
    assert [user["name"] for user in sandbox.get(f"{path}/users")["users"]] == ["doadmin"]


def test_wrong_contents_are_refused(sandbox: Sandbox):
    path = f"/v2/databases/{sandbox.cluster()['id']}"
    sandbox.post(f"{path}/users", {"name": "app"})
    assert sandbox.refused("POST", f"{path}/users", {"name": "app"})[0] == 409
    assert sandbox.refused("POST", f"{path}/dbs", {"name": "defaultdb"})[0] == 409
    assert sandbox.refused("POST", f"{path}/dbs", {"name": "a;b"})[0] == 422
    assert sandbox.refused("DELETE", f"{path}/users/doadmin")[0] == 403
    assert sandbox.refused("GET", f"{path}/users/none")[0] == 404
    body = {"name": "pool", "mode": "transaction", "size": 10, "db": "defaultdb", "user": "app"}
    for change in ({"mode": "fast"}, {"size": 0}, {"size": 23}, {"db": "none"}, {"user": "none"}):
        assert sandbox.refused("POST", f"{path}/pools", body | change)[0] == 422


def test_a_reset_password_is_new_in_every_answer_and_at_the_server(sandbox: Sandbox):
    cluster = sandbox.cluster()
    path = f"/v2/databases/{cluster['id']}"
    new = sandbox.post(f"{path}/users/doadmin/reset_auth", {})["user"]["password"]
    assert new != cluster["connection"]["password"]
    database = sandbox.get(path)["database"]
    assert database["connection"]["password"] == database["users"][0]["password"] == new
    assert sandbox.parts.clusters[cluster["id"]].users[0].password == new


def test_the_next_password_can_be_planted_for_a_user(sandbox: Sandbox):
    _plant(sandbox, user="app", database_password="canary-%/+ ü")
    path = f"/v2/databases/{sandbox.cluster()['id']}"
    assert sandbox.get(path)["database"]["connection"]["password"].startswith("AVNS_")
    assert sandbox.post(f"{path}/users", {"name": "app"})["user"]["password"] == "canary-%/+ ü"
    assert sandbox.post(f"{path}/users", {"name": "other"})["user"]["password"].startswith("AVNS_")
    body = {"name": "pool", "mode": "session", "size": 1, "db": "defaultdb", "user": "app"}
    uri = sandbox.post(f"{path}/pools", body)["pool"]["connection"]["uri"]
    assert "canary-%25%2F%2B%20%C3%BC@" in uri


def test_trusted_sources_follow_droplets_and_tags(sandbox: Sandbox):
    cluster = sandbox.cluster()
    path = f"/v2/databases/{cluster['id']}/firewall"

    def trusted() -> tuple[str, ...] | None:
        return sandbox.parts.clusters[cluster["id"]].trusted

    assert trusted() is None, "a cluster without a rule is open"
    first = sandbox.droplet("one")
    mine = {f"{network['ip_address']}/32" for network in first["networks"]["v4"]}
    sandbox.post("/v2/tags", {"name": "app"})
    rules = [
        {"type": "droplet", "value": str(first["id"])},
        {"type": "tag", "value": "app"},
        {"type": "ip_addr", "value": "198.51.100.7"},
    ]
    sandbox.put(path, {"rules": rules})
    assert set(trusted() or ()) == mine | {"198.51.100.7/32"}
    kept = sandbox.get(path)["rules"]
    second = sandbox.droplet("two", tags=["app"])
    also = {f"{network['ip_address']}/32" for network in second["networks"]["v4"]}
    sandbox.until(lambda: set(trusted() or ()) == mine | also | {"198.51.100.7/32"})
    sandbox.delete(f"/v2/droplets/{first['id']}")
    sandbox.until(lambda: set(trusted() or ()) == also | {"198.51.100.7/32"})
    sandbox.delete("/v2/tags/app")
    assert trusted() == ("198.51.100.7/32",)
    # The list is replaced as a whole; a rule that stays keeps its identity.
    sandbox.put(path, {"rules": [rules[2]]})
    assert sandbox.get(path)["rules"][0]["uuid"] == kept[2]["uuid"]
    sandbox.put(path, {"rules": []})
    assert trusted() is None


def test_a_tag_rule_that_nobody_wears_closes_the_cluster(sandbox: Sandbox):
    cluster = sandbox.cluster()
    sandbox.post("/v2/tags", {"name": "app"})
    sandbox.put(f"/v2/databases/{cluster['id']}/firewall", {"rules": [{"type": "tag", "value": "app"}]})
    assert sandbox.parts.clusters[cluster["id"]].trusted == ()


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({"type": "droplet", "value": "1"}, 422),
        ({"type": "tag", "value": "none"}, 422),
        ({"type": "ip_addr", "value": "10.0.0.0/40"}, 422),
        ({"type": "friend", "value": "x"}, 422),
        ({"type": "k8s", "value": "x"}, 501),
    ],
)
def test_a_wrong_trusted_source_is_refused_and_changes_nothing(taken: tuple[Sandbox, str], rule, status):
    shared, cluster = taken
    path = f"/v2/databases/{cluster}/firewall"
    shared.put(path, {"rules": [{"type": "ip_addr", "value": "198.51.100.7"}]})
    assert shared.refused("PUT", path, {"rules": [rule]})[0] == status
    assert shared.parts.clusters[cluster].trusted == ("198.51.100.7/32",)


def test_a_resize_is_seen_and_ends_online(sandbox: Sandbox):
    cluster = sandbox.cluster()
    path = f"/v2/databases/{cluster['id']}"
    gate = sandbox.parts.gate["databases.apply"] = threading.Event()
    sandbox.put(f"{path}/resize", {"size": "db-s-2vcpu-4gb", "num_nodes": 2})
    assert sandbox.get(path)["database"]["status"] == "resizing"
    gate.set()
    sandbox.until(lambda: sandbox.get(path)["database"]["status"] == "online")
    spec = sandbox.parts.clusters[cluster["id"]]
    assert (spec.memory, spec.nodes) == (4096, 2)
    assert sandbox.get(path)["database"]["storage_size_mib"] == 61440


def test_an_update_moves_a_cluster_behind_its_names(sandbox: Sandbox):
    cluster = sandbox.cluster()
    path = f"/v2/databases/{cluster['id']}"
    before = sandbox.parts.clusters[cluster["id"]]
    sandbox.put(f"{path}/install_update", {})
    after = sandbox.parts.clusters[cluster["id"]]
    assert (after.host, after.private_host) == (before.host, before.private_host)
    assert {after.public_ip, after.private_ip}.isdisjoint({before.public_ip, before.private_ip})
    zone = {record.name: record.data for record in sandbox.parts.zones["db.ondigitalocean.com"] if record.type == "A"}
    assert zone == {f"{after.host}.": after.public_ip, f"{after.private_host}.": after.private_ip}
    assert sandbox.get(path)["database"]["connection"] == cluster["connection"]
    assert "cluster_maintenance_perform" in [event["event_type"] for event in sandbox.get(f"{path}/events")["events"]]


def test_an_update_waits_until_a_cluster_is_online(sandbox: Sandbox):
    gate = sandbox.parts.gate["databases.apply"] = threading.Event()
    made = sandbox.post("/v2/databases", CLUSTER)["database"]
    status, _ = sandbox.refused("PUT", f"/v2/databases/{made['id']}/install_update", {})[:2]
    assert status == 412
    gate.set()
    sandbox.until(lambda: sandbox.get(f"/v2/databases/{made['id']}")["database"]["status"] == "online")


def test_windows_config_and_autoscale_are_kept(sandbox: Sandbox):
    cluster = sandbox.cluster()
    path = f"/v2/databases/{cluster['id']}"
    sandbox.put(f"{path}/maintenance", {"day": "tuesday", "hour": "2:30"})
    assert sandbox.get(path)["database"]["maintenance_window"]["hour"] == "02:30:00"
    assert sandbox.refused("PUT", f"{path}/maintenance", {"day": "someday", "hour": "02:00"})[0] == 422
    sandbox.send("PATCH", f"{path}/config", {"config": {"work_mem": 8, "jit": False, "backup_hour": 3}})
    assert sandbox.get(f"{path}/config")["config"] == {"work_mem": 8, "jit": False, "backup_hour": 3}
    assert sandbox.parts.clusters[cluster["id"]].config == {"work_mem": "8MB", "jit": "off"}
    for wrong in ({"work_mem": 0}, {"jit": 1}, {"shared_preload_libraries": "x"}, {"track_functions": "some"}):
        assert sandbox.refused("PATCH", f"{path}/config", {"config": wrong})[0] == 422
    sandbox.put(f"{path}/autoscale", {"storage": {"enabled": True, "threshold_percent": 80, "increment_gib": 10}})
    assert sandbox.get(f"{path}/autoscale")["autoscale"]["storage"]["enabled"] is True
    for what in ("eviction_policy", "sql_mode"):
        assert sandbox.refused("GET", f"{path}/{what}")[0] == 422
    assert sandbox.refused("PUT", f"{path}/upgrade", {"version": "14"})[0] == 422
    assert sandbox.refused("POST", f"{path}/replicas", {"name": "read"})[0] == 501
    assert sandbox.get(f"{path}/replicas")["replicas"] == []


def test_settings_are_translated_for_postgresql():
    given = {"shared_buffers_percentage": 25.0, "max_connections": 50, "pgbouncer": {"x": 1}, "timezone": None}
    assert postgres_settings(given, 1024) == {"max_connections": "50", "shared_buffers": "256MB"}


def test_a_server_that_does_not_start_is_tried_again(sandbox: Sandbox):
    sandbox.parts.fail["databases.apply"] = PartError("database db: no disk")
    made = sandbox.post("/v2/databases", CLUSTER)["database"]
    sandbox.until(lambda: "no disk" in str(sandbox.client.get("/_sandbox/health").json()["problems"]))
    assert sandbox.get(f"/v2/databases/{made['id']}")["database"]["status"] == "creating"
    sandbox.parts.fail.clear()
    sandbox.until(lambda: sandbox.get(f"/v2/databases/{made['id']}")["database"]["status"] == "online")


def test_a_team_has_ten_clusters(sandbox: Sandbox):
    made = [sandbox.cluster(f"db-{number}") for number in range(10)]
    body = {"name": "one-more", "engine": "pg", "version": "15", "size": "db-s-1vcpu-1gb", "region": "nyc3"}
    assert sandbox.refused("POST", "/v2/databases", body | {"num_nodes": 1})[0] == 422
    sandbox.delete(f"/v2/databases/{made[0]['id']}")
    sandbox.until_gone(f"/v2/databases/{made[0]['id']}")
    sandbox.post("/v2/databases", body | {"num_nodes": 1})


def test_a_cluster_trusts_a_hundred_addresses_and_a_droplet_has_two(sandbox: Sandbox):
    path, droplet = f"/v2/databases/{sandbox.cluster()['id']}/firewall", sandbox.droplet()
    rules = [{"type": "ip_addr", "value": f"198.51.100.{number}"} for number in range(99)]
    mine = {"type": "droplet", "value": str(droplet["id"])}
    assert "at most 100" in sandbox.refused("PUT", path, {"rules": [*rules, mine]})[1]
    sandbox.put(path, {"rules": [*rules[1:], mine]})
    assert len(sandbox.get(path)["rules"]) == 99
