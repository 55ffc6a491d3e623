"""The provider's backups by the API: listed, kept a week, forked from; what cannot be restored is refused."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sandbox.api.database_backups import last_due
from sandbox.parts.none import NoParts
from sandbox.store import Store
from tests.sandbox.conftest import TOKEN, Sandbox, running

FORK = {"engine": "pg", "version": "15", "size": "db-s-1vcpu-1gb", "region": "nyc3", "num_nodes": 1}


def backups(sandbox: Sandbox, cluster: dict[str, Any], count: int = 1) -> list[dict[str, Any]]:
    """The backups of a cluster, once there are so many."""
    path = f"/v2/databases/{cluster['id']}/backups"
    sandbox.until(lambda: len(sandbox.get(path)["backups"]) >= count)
    return sandbox.get(path)["backups"]


def fork(sandbox: Sandbox, name: str, restore: dict[str, Any], **more: Any) -> dict[str, Any]:
    made = sandbox.post("/v2/databases", {**FORK, "name": name, "backup_restore": restore, **more})["database"]
    path = f"/v2/databases/{made['id']}"
    sandbox.until(lambda: sandbox.get(path)["database"]["status"] == "online")
    return sandbox.get(path)["database"]


def day(age: int) -> str:
    return (datetime.now(UTC) - timedelta(days=age)).strftime("%Y-%m-%dT%H:%M:%SZ")


def plant(home: Path, cluster: str, *ages: int) -> list[str]:
    """Backups as earlier days would have left them, in the state of a sandbox that is stopped."""
    store, days = Store(home / "state.db"), [day(age) for age in ages]
    with store.transaction():
        store.delete_children("database_backup", cluster)
        for age, created in zip(ages, days, strict=True):
            record = {"name": f"day-{age}", "created_at": created, "size": 5_000_000}
            store.put("database_backup", record["name"], record, parent=cluster)
    store.close()
    return days


@pytest.fixture(scope="module")
def backed(shared: Sandbox) -> tuple[Sandbox, dict[str, Any], dict[str, Any]]:
    """A cluster with one backup."""
    cluster = shared.cluster("backed")
    (backup,) = backups(shared, cluster)
    return shared, cluster, backup


def test_a_backup_is_taken_when_a_cluster_comes_online(sandbox: Sandbox):
    gate = sandbox.parts.gate["databases.take_backup"] = threading.Event()
    cluster = sandbox.cluster()  # online, and not held up by its backup
    path = f"/v2/databases/{cluster['id']}/backups"
    assert sandbox.get(path)["backups"] == []
    refused = sandbox.refused(
        "POST", "/v2/databases", {**FORK, "name": "new", "backup_restore": {"database_name": "db"}}
    )
    assert refused == (422, "backup_restore: database cluster db has no backups yet")
    gate.set()
    (backup,) = backups(sandbox, cluster)
    assert backup["size_gigabytes"] == 0.03
    assert backup["created_at"].endswith("Z")
    assert datetime.now(UTC) - datetime.fromisoformat(backup["created_at"]) < timedelta(minutes=5)
    assert [what for what, _ in sandbox.parts.calls].count("databases.take_backup") == 1


def test_when_a_backup_is_due_follows_the_configuration(backed: tuple[Sandbox, dict[str, Any], dict[str, Any]]):
    sandbox, cluster, _ = backed
    path = f"/v2/databases/{cluster['id']}"
    daily = {"backup_hour": 3, "backup_minute": 0, "backup_interval_hours": 24}
    assert sandbox.get(f"{path}/backups")["scheduled_backup_time"] == daily
    sandbox.send("PATCH", f"{path}/config", {"config": {"backup_hour": 20, "backup_minute": 40}})
    daily |= {"backup_hour": 20, "backup_minute": 40}
    assert sandbox.get(f"{path}/backups")["scheduled_backup_time"] == daily
    sandbox.send("PATCH", f"{path}/config", {"config": {"backup_hour": None, "backup_minute": None}})
    for now, due in (("2026-11-23T02:59:59", "2026-11-22T03:00"), ("2026-11-23T03:00:00", "2026-11-23T03:00")):
        assert last_due({"config": {}}, datetime.fromisoformat(now)) == datetime.fromisoformat(due)


def test_after_a_day_another_is_taken_and_after_a_week_the_first_goes(tmp_path: Path):
    with running(tmp_path, NoParts()) as sandbox:
        cluster = sandbox.cluster()
        backups(sandbox, cluster)
    planted = plant(tmp_path, cluster["id"], 9, 8, 6, 2)
    with running(tmp_path, NoParts()) as sandbox:
        # The sandbox was stopped at the time: it catches up, once.
        path = f"/v2/databases/{cluster['id']}/backups"
        sandbox.until(lambda: sandbox.get(path)["backups"][-1]["size_gigabytes"] == 0.03)
        listed = [backup["created_at"] for backup in sandbox.get(path)["backups"]]
        assert (listed[:2], len(listed)) == (planted[2:], 3)
        sandbox.until(lambda: "databases.keep_backups" in [name for name, _ in sandbox.parts.calls])
        ((ident, kept),) = [what for name, what in sandbox.parts.calls if name == "databases.keep_backups"]
        assert (ident, kept[:2], len(kept)) == (cluster["id"], ("day-6", "day-2"), 3)


def test_what_is_not_due_is_not_taken_again(tmp_path: Path):
    with running(tmp_path, NoParts()) as sandbox:
        cluster = sandbox.cluster()
        before = backups(sandbox, cluster)
    with running(tmp_path, NoParts()) as sandbox:
        sandbox.put(f"/v2/databases/{cluster['id']}/firewall", {"rules": []})
        sandbox.until(lambda: sandbox.client.get("/_sandbox/health").json()["problems"] == {})
        assert backups(sandbox, cluster) == before
        assert "databases.take_backup" not in [what for what, _ in sandbox.parts.calls]


def test_a_backup_that_fails_is_tried_again_and_holds_nothing_up(sandbox: Sandbox):
    sandbox.parts.fail["databases.take_backup"] = RuntimeError("no disk")
    cluster = sandbox.cluster()
    sandbox.until(lambda: "no disk" in str(sandbox.client.get("/_sandbox/health").json()["problems"]))
    sandbox.put(f"/v2/databases/{cluster['id']}/firewall", {"rules": []})
    sandbox.parts.fail.clear()
    assert backups(sandbox, cluster)


def test_a_fork_has_databases_and_users_of_its_source_and_an_identity_of_its_own(sandbox: Sandbox):
    source = sandbox.cluster("shop")
    path = f"/v2/databases/{source['id']}"
    sandbox.post(f"{path}/users", {"name": "app"})
    sandbox.post(f"{path}/dbs", {"name": "shop"})
    sandbox.put(f"{path}/firewall", {"rules": [{"type": "ip_addr", "value": "192.0.2.1"}]})
    sandbox.send("PATCH", f"{path}/config", {"config": {"work_mem": 8}})
    source = sandbox.get(path)["database"]
    (backup,) = backups(sandbox, source)
    rules = [{"type": "ip_addr", "value": "198.51.100.7"}]
    restore = {"database_name": "shop", "backup_created_at": backup["created_at"]}
    made = fork(sandbox, "shop-fork", restore, rules=rules, tags=["drill"])
    assert made["id"] != source["id"]
    assert made["connection"]["host"] != source["connection"]["host"]
    assert made["connection"]["password"] != source["connection"]["password"]
    assert (made["db_names"], made["tags"]) == (["defaultdb", "shop"], ["drill"])
    passwords = {user["name"]: user["password"] for user in source["users"]}
    assert [user["name"] for user in made["users"]] == ["doadmin", "app"]
    assert made["users"][1]["password"] == passwords["app"]
    assert [rule["value"] for rule in made["rules"]] == ["198.51.100.7"], "trusted sources are its own from the start"
    # What the part was told: first where the data is, then what belongs to it.
    first, *_, last = [
        spec for what, spec in sandbox.parts.calls if what == "databases.apply" and spec.id == made["id"]
    ]
    assert first.restore.source == source["id"]
    assert datetime.fromisoformat(first.restore.time) == datetime.fromisoformat(backup["created_at"])
    assert first.trusted == ("198.51.100.7/32",)
    assert last.restore is None
    assert (last.databases, [user.name for user in last.users]) == (("defaultdb", "shop"), ["doadmin", "app"])
    assert last.config == {"work_mem": "8MB"}
    # It is backed up in its turn, and both go in any order.
    assert backups(sandbox, made)
    for cluster in (source, made):
        sandbox.delete(f"/v2/databases/{cluster['id']}")
        sandbox.until_gone(f"/v2/databases/{cluster['id']}")


def test_without_a_time_it_is_the_latest_backup_and_with_one_the_latest_before(tmp_path: Path):
    with running(tmp_path, NoParts()) as sandbox:
        cluster = sandbox.cluster()
        backups(sandbox, cluster)
    listed = plant(tmp_path, cluster["id"], 3, 1, 0)
    with running(tmp_path, NoParts()) as sandbox:
        for number, (asked, name) in enumerate(((None, "day-0"), (day(2), "day-3"), (listed[1], "day-1"))):
            restore = {"database_name": "db"} | ({"backup_created_at": asked} if asked else {})
            made = fork(sandbox, f"fork-{number}", restore)
            spec = next(s for what, s in sandbox.parts.calls if what == "databases.apply" and s.id == made["id"])
            assert spec.restore.backup == name
            wanted = datetime.fromisoformat(asked or listed[2])
            assert datetime.fromisoformat(spec.restore.time) == wanted


@pytest.mark.parametrize(
    ("restore", "change", "part"),
    [
        ({"database_name": "nobody"}, {}, "database cluster nobody not found"),
        ({"backup_created_at": "2026-01-01T00:00:00Z"}, {}, "database cluster None not found"),
        ({"database_name": "backed", "backup_created_at": "2020-01-01T00:00:00Z"}, {}, "before the earliest backup"),
        ({"database_name": "backed", "backup_created_at": "2120-01-01T00:00:00Z"}, {}, "is in the future"),
        ({"database_name": "backed", "backup_created_at": "yesterday"}, {}, "must be an ISO 8601 date and time"),
        ({"database_name": "backed"}, {"name": "backed"}, "cluster name is not available"),
        ("backed", {}, "backup_restore must be a list of dict"),
    ],
)
def test_what_cannot_be_restored_is_refused(backed: tuple[Sandbox, Any, Any], restore: Any, change: Any, part: str):
    sandbox, _, _ = backed
    found = sandbox.refused("POST", "/v2/databases", {**FORK, "name": "new", "backup_restore": restore, **change})
    assert found[0] == 422
    assert part in found[1]


def test_a_fork_needs_the_room_of_its_source(sandbox: Sandbox):
    cluster = sandbox.cluster(size="db-s-1vcpu-2gb")
    backups(sandbox, cluster)
    body = {**FORK, "name": "small", "backup_restore": {"database_name": "db"}}
    assert "storage_size_mib" in sandbox.refused("POST", "/v2/databases", body)[1]
    more = sandbox.get(f"/v2/databases/{cluster['id']}")["database"]["storage_size_mib"]
    assert fork(sandbox, "roomy", {"database_name": "db"}, storage_size_mib=more)["storage_size_mib"] == more


def test_an_account_whose_forks_are_of_backups_alone_rounds_the_time_or_refuses_it(sandbox: Sandbox):
    headers = {"authorization": f"Bearer {TOKEN}"}

    def switch(**changes: Any) -> int:
        return sandbox.client.patch("/_sandbox/switches", json=changes, headers=headers).status_code

    (backup,) = backups(sandbox, sandbox.cluster())
    sandbox.until(lambda: datetime.now(UTC) > datetime.fromisoformat(backup["created_at"]) + timedelta(seconds=1))
    between = datetime.now(UTC).isoformat()
    body = {**FORK, "name": "copy", "backup_restore": {"database_name": "db", "backup_created_at": between}}
    assert (switch(fork_times="nonsense"), switch(fork_times="backups_only")) == (422, 200)
    refused = sandbox.refused("POST", "/v2/databases", body)
    assert refused == (422, f"backup_restore: {between} is not the time of a backup of db")
    fork(sandbox, "of-a-backup", {"database_name": "db", "backup_created_at": backup["created_at"]})
    assert switch(fork_times="backup_before") == 200
    fork(sandbox, "rounded", body["backup_restore"])
    restored = {
        spec.name: spec.restore.time for what, spec in sandbox.parts.calls if what == "databases.apply" and spec.restore
    }
    assert datetime.fromisoformat(restored["rounded"]) == datetime.fromisoformat(backup["created_at"])


def test_a_fork_is_of_the_version_of_its_source(sandbox: Sandbox):
    backups(sandbox, sandbox.cluster())
    body = {**FORK, "name": "newer", "backup_restore": {"database_name": "db"}}
    refused = sandbox.refused("POST", "/v2/databases", {**body, "version": "17"})
    assert refused == (422, "backup_restore: version must be that of the source, 15")
    assert fork(sandbox, "same", {"database_name": "db"}, version=None)["version"] == "15"


def test_a_source_stays_until_its_fork_has_its_data(sandbox: Sandbox):
    cluster = sandbox.cluster()
    backups(sandbox, cluster)
    gate = sandbox.parts.gate["databases.contents"] = threading.Event()
    body = {**FORK, "name": "copy", "backup_restore": {"database_name": "db"}}
    made = sandbox.post("/v2/databases", body)["database"]
    assert sandbox.refused("DELETE", f"/v2/databases/{cluster['id']}") == (412, "cluster is being forked: copy")
    gate.set()
    sandbox.until(lambda: sandbox.get(f"/v2/databases/{made['id']}")["database"]["status"] == "online")
    sandbox.delete(f"/v2/databases/{cluster['id']}")
    # A fork that is itself on the way out holds nobody.
    sandbox.until(lambda: len(backups(sandbox, made)) == 1)
    sandbox.parts.gate["databases.contents"] = gate = threading.Event()
    again = sandbox.post("/v2/databases", {**body, "name": "again", "backup_restore": {"database_name": "copy"}})
    sandbox.delete(f"/v2/databases/{again['database']['id']}")
    sandbox.delete(f"/v2/databases/{made['id']}")
    gate.set()
    sandbox.until_gone(f"/v2/databases/{made['id']}")


@pytest.mark.parametrize("stuck", ["databases.apply", "databases.contents"])
def test_a_fork_half_made_is_made_after_a_restart(tmp_path: Path, stuck: str):
    with running(tmp_path, NoParts()) as sandbox:
        source = sandbox.cluster()
        sandbox.post(f"/v2/databases/{source['id']}/users", {"name": "app"})
        backups(sandbox, source)
        sandbox.parts.fail[stuck] = RuntimeError("killed")
        body = {**FORK, "name": "copy", "backup_restore": {"database_name": "db"}}
        made = sandbox.post("/v2/databases", body)["database"]
        sandbox.until(lambda: "killed" in str(sandbox.client.get("/_sandbox/health").json()["problems"]))
        assert sandbox.get(f"/v2/databases/{made['id']}")["database"]["status"] == "creating"
    with running(tmp_path, NoParts()) as sandbox:
        path = f"/v2/databases/{made['id']}"
        sandbox.until(lambda: sandbox.get(path)["database"]["status"] == "online")
        assert [user["name"] for user in sandbox.get(path)["database"]["users"]] == ["doadmin", "app"]
        assert sandbox.parts.clusters[made["id"]].restore is None
