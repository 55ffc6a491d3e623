"""What is in a database cluster: databases, users, pools, trusted sources, replicas."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.plugins.fields import filled, one_of, ordered
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.clusters import CONNECTION, CREATE_TIMEOUT, connections, login, size_in_mib
from sandbox.plugins.resources.common import (
    camelled,
    name,
    retried,
    segment,
    sent,
    shown,
    tag_list,
    tags,
    two_parts,
    unique_id,
    unless_empty,
)
from sandbox.plugins.schema import how
from sandbox.plugins.values import Values


def _two_part_id(what: str, join: str) -> Callable[[Cloud, str], tuple[str, Values]]:
    """Build the import of what is named by its cluster and its own name."""

    def find(_: Cloud, id_: str) -> tuple[str, Values]:
        cluster, own = two_parts(f"{what} ", "<cluster id>,<name>", id_)
        return f"{cluster}{join}{own}", {"clusterId": cluster, "name": own}

    return find


def _inside(known: Values, kind: str) -> str:
    """Say the path of a thing of a cluster."""
    return f"/v2/databases/{known['clusterId']}/{kind}/{segment(known['name'])}"


def _create_db(cloud: Cloud, new: Values) -> Made:
    made = cloud.rest.post(f"/v2/databases/{new['clusterId']}/dbs", {"name": new["name"]})["db"]["name"]
    return Made(f"{new['clusterId']}/database/{made}")


DB = Resource(
    name="DatabaseDb",
    properties={"name": name(replace=True), "clusterId": how(replace=True, check=filled)},
    create=_create_db,
    read=lambda cloud, _, known: None if cloud.rest.find(_inside(known, "dbs")) is None else {},
    delete=lambda cloud, _, known: cloud.rest.delete(_inside(known, "dbs")),
    find=_two_part_id("database", "/database/"),
)


def _settings_body(new: Values) -> Values | None:
    """Write the access lists of Kafka and OpenSearch users."""
    if not new.get("settings"):
        return None
    given = new["settings"][0] or {}
    return unless_empty(
        acl=[{"permission": rule["permission"], "topic": rule["topic"]} for rule in given.get("acls") or []],
        opensearch_acl=[
            {"permission": rule["permission"], "index": rule["index"]} for rule in given.get("opensearchAcls") or []
        ],
    )


def _user_state(user: Values) -> Values:
    told: Values = {"role": user.get("role") or "normal"}
    for key, wire in (("password", "password"), ("accessCert", "access_cert"), ("accessKey", "access_key")):
        if user.get(wire):
            told[key] = user[wire]
    if user.get("mysql_settings"):
        told["mysqlAuthPlugin"] = user["mysql_settings"]["auth_plugin"]
    return told


def _create_user(cloud: Cloud, new: Values) -> Made:
    body: Values = {"name": new["name"]}
    if new.get("mysqlAuthPlugin"):
        body["mysql_settings"] = {"auth_plugin": new["mysqlAuthPlugin"]}
    if (settings := _settings_body(new)) is not None:
        body["settings"] = settings
    cluster = new["clusterId"]
    with cloud.locks[f"users/{cluster}"]:
        user = cloud.rest.post(f"/v2/databases/{cluster}/users", body)["user"]
    return Made(f"{cluster}/user/{user['name']}", _user_state(user))


def _read_user(cloud: Cloud, _: str, known: Values) -> Values | None:
    user = cloud.rest.find(_inside(known, "users"), "user")
    return None if user is None else _user_state(user)


def _update_user(cloud: Cloud, change: Change) -> None:
    path = _inside(change.new, "users")
    if change.of("mysqlAuthPlugin"):
        plugin = change.new.get("mysqlAuthPlugin") or "caching_sha2_password"
        cloud.rest.post(f"{path}/reset_auth", {"mysql_settings": {"auth_plugin": plugin}})
    if change.of("settings"):
        settings = _settings_body(change.new)
        cloud.rest.put(path, {} if settings is None else {"settings": settings})


def _delete_user(cloud: Cloud, _: str, known: Values) -> None:
    with cloud.locks[f"users/{known['clusterId']}"]:
        cloud.rest.delete(_inside(known, "users"))


_KAFKA = ("admin", "consume", "produce", "produceconsume")
_OPENSEARCH = ("deny", "admin", "read", "write", "readwrite")

USER = Resource(
    name="DatabaseUser",
    properties={
        "name": name(replace=True),
        "clusterId": how(replace=True, check=filled),
        "mysqlAuthPlugin": how(
            check=one_of("mysql_native_password", "caching_sha2_password"),
            same=lambda old, new, _: old == "caching_sha2_password" and new == "",
        ),
        "settings": how(
            inner={
                "acls": how(
                    inner={
                        "id": how(output_only=True),
                        "topic": how(check=filled),
                        "permission": how(check=one_of(*_KAFKA)),
                    }
                ),
                "opensearchAcls": how(
                    inner={"index": how(check=filled), "permission": how(check=one_of(*_OPENSEARCH))}
                ),
            }
        ),
        "password": how(secret=True),
        "accessCert": how(secret=True),
        "accessKey": how(secret=True),
    },
    create=_create_user,
    read=_read_user,
    update=_update_user,
    delete=_delete_user,
    find=_two_part_id("user", "/user/"),
    created_is_read=True,
)


def _create_pool(cloud: Cloud, new: Values) -> Made:
    body = {
        "user": new.get("user") or "",
        **sent(new, "name", "size"),
        "db": new["dbName"],
        "mode": new["mode"],
    }
    pool = cloud.rest.post(f"/v2/databases/{new['clusterId']}/pools", body)["pool"]
    return Made(f"{new['clusterId']}/{pool['name']}", connections(pool, {}))


def _read_pool(cloud: Cloud, id_: str, known: Values) -> Values | None:
    cluster, _, own = id_.partition("/")
    pool = cloud.rest.find(_inside({"clusterId": cluster, "name": own}, "pools"), "pool")
    if pool is None:
        return None
    told = {
        **camelled(pool),
        "clusterId": cluster,
        "dbName": pool["db"],
    }
    return told | connections(pool, known)


def _three_to_63(value: str) -> str | None:
    return None if 3 <= len(value) <= 63 else "must have 3 to 63 characters"


POOL = Resource(
    name="DatabaseConnectionPool",
    properties={
        "clusterId": how(replace=True, check=filled),
        "name": how(autoname=True, replace=True, check=_three_to_63),
        "user": how(replace=True, check=filled),
        "mode": how(replace=True, check=one_of("session", "transaction", "statement")),
        "size": how(replace=True, check=filled),
        "dbName": how(replace=True, check=filled),
        **CONNECTION,
    },
    create=_create_pool,
    read=_read_pool,
    delete=lambda cloud, _, known: cloud.rest.delete(_inside(known, "pools")),
    find=_two_part_id("connection pool", "/"),
)


def _put_rules(cloud: Cloud, cluster: str, rules: list[Values], known: list[Values]) -> None:
    """Replace the whole list. The zero time is how the official client writes none."""
    ids = {(rule["type"], rule["value"]): rule.get("uuid") for rule in known}
    body = [
        {
            "uuid": ids.get((rule["type"], rule["value"])) or "",
            "cluster_uuid": "",
            **shown(rule, "type", "value"),
            "created_at": "0001-01-01T00:00:00Z",
        }
        for rule in ordered(rules, FIREWALL.fields["rules"])
    ]
    cloud.rest.put(f"/v2/databases/{cluster}/firewall", {"rules": body})


def _create_rules(cloud: Cloud, new: Values) -> Made:
    _put_rules(cloud, new["clusterId"], new["rules"], [])
    return Made(unique_id(f"{new['clusterId']}-"))


def _read_rules(cloud: Cloud, _: str, known: Values) -> Values | None:
    answer = cloud.rest.find(f"/v2/databases/{known['clusterId']}/firewall")
    if answer is None:
        return None
    return {"rules": [shown(rule, "uuid", "type", "value", "createdAt") for rule in answer.get("rules") or []]}


FIREWALL = Resource(
    name="DatabaseFirewall",
    properties={
        "clusterId": how(replace=True, check=filled),
        "rules": how(
            unordered=True,
            inner={
                "type": how(check=one_of("ip_addr", "droplet", "k8s", "tag", "app")),
                "value": how(check=filled),
                "uuid": how(output_only=True),
                "createdAt": how(output_only=True),
            },
        ),
    },
    create=_create_rules,
    read=_read_rules,
    update=lambda cloud, change: _put_rules(
        cloud, change.new["clusterId"], change.new["rules"], change.old.get("rules") or []
    ),
    delete=lambda cloud, _, known: _put_rules(cloud, known["clusterId"], [], []),
    find=lambda _, id_: (unique_id(f"{id_}-"), {"clusterId": id_}),
)


def _create_replica(cloud: Cloud, new: Values) -> Made:
    body = {
        "name": new["name"],
        "region": new.get("region") or "",
        "size": new.get("size") or "",
        "private_network_uuid": new.get("privateNetworkUuid") or "",
        **unless_empty(tags=tag_list(new), storage_size_mib=size_in_mib(new)),
    }
    cluster = new["clusterId"]
    answer = retried(
        cloud,
        1200,
        f"database cluster {cluster}: ready for a replica",
        lambda: cloud.rest.post(f"/v2/databases/{cluster}/replicas", body),
        again=lambda error: error.status == 412,
    )
    made = answer["replica"]
    _replica_online(cloud, new)
    return Made(f"{cluster}/replicas/{made['name']}", connections(made, {}) | login(made))


def _replica_online(cloud: Cloud, known: Values) -> None:
    def online() -> bool:
        replica = cloud.rest.find(_inside(known, "replicas"), "replica")
        return replica is not None and replica["status"] == "online"

    cloud.wait(f"replica {known['name']}: online", CREATE_TIMEOUT, online)


def _read_replica(cloud: Cloud, _: str, known: Values) -> Values | None:
    replica = cloud.rest.find(_inside(known, "replicas"), "replica")
    if replica is None:
        return None
    told = {
        **camelled(replica),
        "uuid": replica["id"],
        "storageSizeMib": str(replica.get("storage_size_mib") or 0),
    }
    return told | connections(replica, known) | login(replica)


def _update_replica(cloud: Cloud, change: Change) -> None:
    if change.of("size", "storageSizeMib"):
        body = {"size": change.new["size"], "num_nodes": 1} | unless_empty(storage_size_mib=size_in_mib(change.new))
        cloud.rest.put(f"/v2/databases/{change.old['uuid']}/resize", body)
        _replica_online(cloud, change.new)


REPLICA = Resource(
    name="DatabaseReplica",
    properties={
        "name": name(replace=True),
        "clusterId": how(replace=True, check=filled),
        "region": how(replace=True),
        "privateNetworkUuid": how(computed=True, replace=True, check=filled),
        "tags": tags(replace=True),
        "storageSizeMib": how(computed=True),
        **CONNECTION,
    },
    create=_create_replica,
    read=_read_replica,
    update=_update_replica,
    delete=lambda cloud, _, known: cloud.rest.delete(_inside(known, "replicas")),
    find=_two_part_id("replica", "/replicas/"),
)


RESOURCES = (DB, USER, POOL, FIREWALL, REPLICA)
