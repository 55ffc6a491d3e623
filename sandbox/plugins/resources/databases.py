"""Managed databases: clusters and all that is in them but their configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from sandbox.plugins.fields import (
    between,
    boolean,
    filled,
    integer,
    list_of,
    one_of,
    ordered,
    record,
    set_of,
    string,
    tags,
)
from sandbox.plugins.resource import Change, Cloud, Function, IncompleteError, Made, ProviderError, Resource
from sandbox.plugins.resources.common import (
    name,
    region,
    retried,
    segment,
    set_tags,
    tag_list,
    unique_id,
    unless_empty,
)
from sandbox.plugins.rest import RestError
from sandbox.plugins.values import UNKNOWN, Values

_CREATE_TIMEOUT = 1800.0
_CACHES = ("redis", "valkey")


def _uri(connection: Values, engine: Any, password: str) -> str:
    """Write the address with the password that is known: the API hides it from tokens that may only read."""
    if engine == "kafka":
        return f"{connection['host']}:{connection['port']}"
    parts = urlsplit(connection["uri"])
    host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    login = f"{quote(connection['user'], safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def _connections(thing: Values, known: Values) -> Values:
    """Say how to reach a cluster, a pool or a replica, from what the API says and the password that is known."""
    told: Values = {}
    public, private = thing.get("connection"), thing.get("private_connection")
    engine = thing.get("engine")
    password = (public or {}).get("password") or known.get("password") or ""
    if public:
        told |= {"host": public["host"], "port": public["port"], "uri": _uri(public, engine, password)}
        if public.get("password"):
            told["password"] = public["password"]
    if private:
        told |= {"privateHost": private["host"], "privateUri": _uri(private, engine, password)}
    return told


def _login(thing: Values) -> Values:
    public = thing.get("connection") or {}
    return {"database": public.get("database"), "user": public.get("user")}


def _size_in_mib(values: Values) -> int | None:
    given = str(values.get("storageSizeMib") or "")
    return int(given) if given.isdigit() else None


def _create_cluster(cloud: Cloud, new: Values) -> Made:
    body = unless_empty(
        name=new["name"],
        engine=new["engine"],
        version=new.get("version"),
        size=new["size"],
        region=new["region"],
        num_nodes=new["nodeCount"],
        tags=tag_list(new),
        storage_size_mib=_size_in_mib(new),
    )
    body |= {
        "private_network_uuid": new.get("privateNetworkUuid") or "",
        "project_id": new.get("projectId") or "",
        "rules": None,
    }
    if restore := new.get("backupRestore"):
        body["backup_restore"] = unless_empty(
            database_name=restore["databaseName"], backup_created_at=restore.get("backupCreatedAt")
        )
    if new.get("storageAutoscale"):
        body["storage_autoscale"] = _autoscale_body(new["storageAutoscale"])
    made = cloud.rest.post("/v2/databases", body)["database"]
    known = _connections(made, {}) | _login(made)
    _wait_online(cloud, made["id"])
    try:
        _finish_cluster(cloud, made["id"], new)
    except (ProviderError, RestError) as error:
        raise IncompleteError(str(error), made["id"], new | known) from None
    return Made(made["id"], known)


def _finish_cluster(cloud: Cloud, id_: str, new: Values) -> None:
    if new.get("maintenanceWindows"):
        cloud.rest.put(f"/v2/databases/{id_}/maintenance", _window(new))
    if new.get("evictionPolicy"):
        cloud.rest.put(f"/v2/databases/{id_}/eviction_policy", {"eviction_policy": new["evictionPolicy"]})
    if new.get("sqlMode"):
        cloud.rest.put(f"/v2/databases/{id_}/sql_mode", {"sql_mode": new["sqlMode"]})


def _window(new: Values) -> Values:
    window = new["maintenanceWindows"][0]
    return {"day": window["day"], "hour": window["hour"]}


def _autoscale_body(given: Values) -> Values:
    return {
        "enabled": given["enabled"],
        "threshold_percent": given.get("thresholdPercent") or 0,
        "increment_gib": given.get("incrementGib") or 0,
    }


def _wait_online(cloud: Cloud, id_: str) -> None:
    def online() -> bool:
        answer = cloud.rest.find(f"/v2/databases/{id_}")
        return answer is not None and answer["database"]["status"] == "online"

    cloud.wait(f"database cluster {id_}: online", _CREATE_TIMEOUT, online)


def _read_cluster(cloud: Cloud, id_: str, known: Values) -> Values | None:
    answer = cloud.rest.find(f"/v2/databases/{id_}")
    if answer is None:
        return None
    cluster = answer["database"]
    told: Values = {
        "name": cluster["name"],
        "engine": cluster["engine"],
        "version": cluster["version"],
        "size": cluster["size"],
        "region": cluster["region"],
        "nodeCount": cluster["num_nodes"],
        "storageSizeMib": str(cluster.get("storage_size_mib") or 0),
        "tags": cluster.get("tags") or [],
        "clusterUrn": f"do:dbaas:{id_}",
        "privateNetworkUuid": cluster.get("private_network_uuid"),
        "projectId": cluster.get("project_id"),
        "metricsEndpoints": [
            f"https://{point['host']}:{point['port']}/metrics" for point in cluster.get("metrics_endpoints") or []
        ],
    }
    if known.get("maintenanceWindows"):
        window = cluster["maintenance_window"]
        told["maintenanceWindows"] = [{"day": window["day"], "hour": window["hour"]}]
    if known.get("evictionPolicy"):
        told["evictionPolicy"] = cloud.rest.get(f"/v2/databases/{id_}/eviction_policy")["eviction_policy"]
    if known.get("sqlMode"):
        told["sqlMode"] = cloud.rest.get(f"/v2/databases/{id_}/sql_mode")["sql_mode"]
    if known.get("storageAutoscale"):
        scale = (
            cluster.get("storage_autoscale") or cloud.rest.get(f"/v2/databases/{id_}/autoscale")["autoscale"]["storage"]
        )
        told["storageAutoscale"] = {
            "enabled": scale["enabled"],
            "thresholdPercent": scale.get("threshold_percent"),
            "incrementGib": scale.get("increment_gib"),
        }
    ui = cluster.get("ui_connection")
    if ui:
        told |= {
            "uiHost": ui["host"],
            "uiPort": ui["port"],
            "uiUri": ui["uri"],
            "uiDatabase": ui.get("database"),
            "uiUser": ui["user"],
            "uiPassword": ui["password"],
        }
    return told | _connections(cluster, known) | _login(cluster)


def _update_cluster(cloud: Cloud, change: Change) -> None:
    new, path = change.new, f"/v2/databases/{change.id}"
    if change.of("size", "nodeCount", "storageSizeMib"):
        body: Values = {"size": new["size"], "num_nodes": new["nodeCount"]}
        if change.of("storageSizeMib") and _size_in_mib(new):
            body["storage_size_mib"] = _size_in_mib(new)
        cloud.rest.put(f"{path}/resize", body)
        _wait_online(cloud, change.id)
    if change.of("region"):
        cloud.rest.put(f"{path}/migrate", {"region": new["region"], "private_network_uuid": ""})
        _wait_online(cloud, change.id)
    if change.of("maintenanceWindows") and new.get("maintenanceWindows"):
        cloud.rest.put(f"{path}/maintenance", _window(new))
    if change.of("evictionPolicy"):
        cloud.rest.put(f"{path}/eviction_policy", {"eviction_policy": new.get("evictionPolicy") or "noeviction"})
    if change.of("sqlMode"):
        cloud.rest.put(f"{path}/sql_mode", {"sql_mode": new.get("sqlMode") or ""})
    if change.of("version"):
        cloud.rest.put(f"{path}/upgrade", {"version": new["version"]})
    if change.of("tags"):
        set_tags(cloud, change, "database")
    if change.of("storageAutoscale") and new.get("storageAutoscale"):
        cloud.rest.put(f"{path}/autoscale", {"storage": _autoscale_body(new["storageAutoscale"])})


def _same_hour(old: str, new: str, _: Values) -> bool:
    return old.split(":")[:2] == new.split(":")[:2]


def _same_version(old: str, new: str, inputs: Values) -> bool:
    """A cache that the API upgraded is not put back."""
    forced = inputs.get("engine") in _CACHES and old.isdigit() and new.isdigit()
    return forced and int(old) > int(new)


def _check_cluster(new: Values) -> list[tuple[str, str]]:
    wrong: list[tuple[str, str]] = []
    engine = new["engine"]
    if not new.get("version"):
        wrong.append(("version", "is required"))
    if new.get("sqlMode") and engine not in ("mysql", UNKNOWN):
        wrong.append(("sqlMode", "is only supported for MySQL"))
    if new.get("evictionPolicy") and engine not in (*_CACHES, UNKNOWN):
        wrong.append(("evictionPolicy", "is only supported for Redis and Valkey"))
    return wrong


CONNECTION = {
    "host": string(output_only=True),
    "privateHost": string(output_only=True),
    "port": integer(output_only=True),
    "uri": string(output_only=True, secret=True),
    "privateUri": string(output_only=True, secret=True),
    "password": string(output_only=True, secret=True),
}

_DAY = one_of("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

CLUSTER = Resource(
    name="DatabaseCluster",
    fields={
        "name": name(replace=True),
        "engine": string(
            required=True, replace=True, check=filled, same=lambda old, new, _: old in _CACHES and new in _CACHES
        ),
        "version": string(same=_same_version),
        "size": string(required=True, check=filled),
        "region": region(required=True, check=filled),
        "nodeCount": integer(required=True, check=filled),
        "maintenanceWindows": list_of(
            record(
                {
                    "day": string(required=True, check=lambda value: _DAY(value.lower())),
                    "hour": string(required=True, same=_same_hour),
                }
            )
        ),
        "evictionPolicy": string(check=filled),
        "sqlMode": string(),
        "privateNetworkUuid": string(computed=True, replace=True, check=filled),
        "projectId": string(computed=True, replace=True, check=filled),
        "tags": tags(),
        "backupRestore": record({"databaseName": string(required=True), "backupCreatedAt": string()}),
        "storageSizeMib": string(computed=True),
        "storageAutoscale": record(
            {
                "enabled": boolean(required=True),
                "thresholdPercent": integer(check=between(15, 95)),
                "incrementGib": integer(check=between(10, 2**31)),
            }
        ),
        **CONNECTION,
        "database": string(output_only=True),
        "user": string(output_only=True),
        "uiHost": string(output_only=True),
        "uiPort": integer(output_only=True),
        "uiUri": string(output_only=True, secret=True),
        "uiDatabase": string(output_only=True),
        "uiUser": string(output_only=True),
        "uiPassword": string(output_only=True, secret=True),
        "clusterUrn": string(output_only=True),
        "metricsEndpoints": list_of(string(), output_only=True),
    },
    create=_create_cluster,
    read=_read_cluster,
    update=_update_cluster,
    delete=lambda cloud, id_, _: cloud.rest.delete(f"/v2/databases/{id_}") and None,
    check=_check_cluster,
)


def _two_part_id(what: str, join: str) -> Callable[[Cloud, str], tuple[str, Values]]:
    """Build the import of what is named by its cluster and its own name."""

    def find(_: Cloud, id_: str) -> tuple[str, Values]:
        cluster, comma, own = id_.partition(",")
        if not comma:
            raise ProviderError(f"{what} {id_}: import needs <cluster id>,<name>")
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
    fields={"name": name(replace=True), "clusterId": string(required=True, replace=True, check=filled)},
    create=_create_db,
    read=lambda cloud, _, known: None if cloud.rest.find(_inside(known, "dbs")) is None else {},
    delete=lambda cloud, _, known: cloud.rest.delete(_inside(known, "dbs")) and None,
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
    answer = cloud.rest.find(_inside(known, "users"))
    return None if answer is None else _user_state(answer["user"])


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
    fields={
        "name": name(replace=True),
        "clusterId": string(required=True, replace=True, check=filled),
        "mysqlAuthPlugin": string(
            check=one_of("mysql_native_password", "caching_sha2_password"),
            same=lambda old, new, _: old == "caching_sha2_password" and new == "",
        ),
        "settings": list_of(
            record(
                {
                    "acls": list_of(
                        record(
                            {
                                "id": string(output_only=True),
                                "topic": string(required=True, check=filled),
                                "permission": string(required=True, check=one_of(*_KAFKA)),
                            }
                        )
                    ),
                    "opensearchAcls": list_of(
                        record(
                            {
                                "index": string(required=True, check=filled),
                                "permission": string(required=True, check=one_of(*_OPENSEARCH)),
                            }
                        )
                    ),
                }
            )
        ),
        "role": string(output_only=True),
        "password": string(output_only=True, secret=True),
        "accessCert": string(output_only=True, secret=True),
        "accessKey": string(output_only=True, secret=True),
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
        "name": new["name"],
        "size": new["size"],
        "db": new["dbName"],
        "mode": new["mode"],
    }
    pool = cloud.rest.post(f"/v2/databases/{new['clusterId']}/pools", body)["pool"]
    return Made(f"{new['clusterId']}/{pool['name']}", _connections(pool, {}))


def _read_pool(cloud: Cloud, id_: str, known: Values) -> Values | None:
    cluster, _, own = id_.partition("/")
    answer = cloud.rest.find(_inside({"clusterId": cluster, "name": own}, "pools"))
    if answer is None:
        return None
    pool = answer["pool"]
    told = {
        "clusterId": cluster,
        "name": pool["name"],
        "user": pool.get("user") or "",
        "mode": pool["mode"],
        "size": pool["size"],
        "dbName": pool["db"],
    }
    return told | _connections(pool, known)


def _three_to_63(value: str) -> str | None:
    return None if 3 <= len(value) <= 63 else "must have 3 to 63 characters"


POOL = Resource(
    name="DatabaseConnectionPool",
    fields={
        "clusterId": string(required=True, replace=True, check=filled),
        "name": string(autoname=True, replace=True, check=_three_to_63),
        "user": string(replace=True, check=filled),
        "mode": string(required=True, replace=True, check=one_of("session", "transaction", "statement")),
        "size": integer(required=True, replace=True, check=filled),
        "dbName": string(required=True, replace=True, check=filled),
        **CONNECTION,
    },
    create=_create_pool,
    read=_read_pool,
    delete=lambda cloud, _, known: cloud.rest.delete(_inside(known, "pools")) and None,
    find=_two_part_id("connection pool", "/"),
)

_RULES = set_of(
    record(
        {
            "type": string(required=True, check=one_of("ip_addr", "droplet", "k8s", "tag", "app")),
            "value": string(required=True, check=filled),
            "uuid": string(output_only=True),
            "createdAt": string(output_only=True),
        }
    ),
    required=True,
)


def _put_rules(cloud: Cloud, cluster: str, rules: list[Values], known: list[Values]) -> None:
    """Replace the whole list; a rule that is there already keeps its id. The zero time is how the official client writes none."""
    ids = {(rule["type"], rule["value"]): rule.get("uuid") for rule in known}
    body = [
        {
            "uuid": ids.get((rule["type"], rule["value"])) or "",
            "cluster_uuid": "",
            "type": rule["type"],
            "value": rule["value"],
            "created_at": "0001-01-01T00:00:00Z",
        }
        for rule in ordered(rules, _RULES)
    ]
    cloud.rest.put(f"/v2/databases/{cluster}/firewall", {"rules": body})


def _create_rules(cloud: Cloud, new: Values) -> Made:
    _put_rules(cloud, new["clusterId"], new["rules"], [])
    return Made(unique_id(f"{new['clusterId']}-"))


def _read_rules(cloud: Cloud, _: str, known: Values) -> Values | None:
    answer = cloud.rest.find(f"/v2/databases/{known['clusterId']}/firewall")
    if answer is None:
        return None
    keys = {"uuid": "uuid", "type": "type", "value": "value", "createdAt": "created_at"}
    return {"rules": [{key: rule[wire] for key, wire in keys.items()} for rule in answer.get("rules") or []]}


FIREWALL = Resource(
    name="DatabaseFirewall",
    fields={"clusterId": string(required=True, replace=True, check=filled), "rules": _RULES},
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
        **unless_empty(tags=tag_list(new), storage_size_mib=_size_in_mib(new)),
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
    return Made(f"{cluster}/replicas/{made['name']}", _connections(made, {}) | _login(made))


def _replica_online(cloud: Cloud, known: Values) -> None:
    def online() -> bool:
        answer = cloud.rest.find(_inside(known, "replicas"))
        return answer is not None and answer["replica"]["status"] == "online"

    cloud.wait(f"replica {known['name']}: online", _CREATE_TIMEOUT, online)


def _read_replica(cloud: Cloud, _: str, known: Values) -> Values | None:
    answer = cloud.rest.find(_inside(known, "replicas"))
    if answer is None:
        return None
    replica = answer["replica"]
    told = {
        "size": replica["size"],
        "region": replica["region"],
        "tags": replica.get("tags") or [],
        "uuid": replica["id"],
        "privateNetworkUuid": replica.get("private_network_uuid"),
        "storageSizeMib": str(replica.get("storage_size_mib") or 0),
    }
    return told | _connections(replica, known) | _login(replica)


def _update_replica(cloud: Cloud, change: Change) -> None:
    if change.of("size", "storageSizeMib"):
        body = {"size": change.new["size"], "num_nodes": 1} | unless_empty(storage_size_mib=_size_in_mib(change.new))
        cloud.rest.put(f"/v2/databases/{change.old['uuid']}/resize", body)
        _replica_online(cloud, change.new)


REPLICA = Resource(
    name="DatabaseReplica",
    fields={
        "name": name(replace=True),
        "clusterId": string(required=True, replace=True, check=filled),
        "region": string(replace=True),
        "size": string(),
        "privateNetworkUuid": string(computed=True, replace=True, check=filled),
        "tags": tags(replace=True),
        "storageSizeMib": string(computed=True),
        **CONNECTION,
        "database": string(output_only=True),
        "user": string(output_only=True),
        "uuid": string(output_only=True),
    },
    create=_create_replica,
    read=_read_replica,
    update=_update_replica,
    delete=lambda cloud, _, known: cloud.rest.delete(_inside(known, "replicas")) and None,
    find=_two_part_id("replica", "/replicas/"),
)


def _get_ca(cloud: Cloud, given: Values) -> Values:
    from base64 import b64decode  # noqa: PLC0415

    cluster = given["clusterId"]
    certificate = cloud.rest.get(f"/v2/databases/{cluster}/ca")["ca"]["certificate"]
    return {"id": cluster, "clusterId": cluster, "certificate": b64decode(certificate).decode()}


RESOURCES = (CLUSTER, DB, USER, POOL, FIREWALL, REPLICA)
FUNCTIONS = (Function(name="getDatabaseCa", fields={"clusterId": string(required=True, check=filled)}, call=_get_ca),)
