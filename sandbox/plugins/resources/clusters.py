"""Managed database clusters, and how to reach what is in them."""

from __future__ import annotations

from base64 import b64decode
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from sandbox.plugins.errors import ProviderError, unfinished
from sandbox.plugins.fields import between, filled, one_of, string
from sandbox.plugins.resource import Change, Cloud, Function, Made, Resource
from sandbox.plugins.resources.common import camelled, name, region, set_tags, tag_list, tags, unless_empty
from sandbox.plugins.schema import how
from sandbox.plugins.values import UNKNOWN, Values

CREATE_TIMEOUT = 1800.0
_CACHES = ("redis", "valkey")


def _uri(connection: Values, engine: Any, password: str) -> str:
    """Write the address with the password that is known: the API hides it from tokens that may only read."""
    if engine == "kafka":
        return f"{connection['host']}:{connection['port']}"
    parts = urlsplit(connection["uri"])
    host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    login = f"{quote(connection['user'], safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def connections(thing: Values, known: Values) -> Values:
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


def login(thing: Values) -> Values:
    """Say which database and user the API names first."""
    public = thing.get("connection") or {}
    return {"database": public.get("database"), "user": public.get("user")}


def size_in_mib(values: Values) -> int | None:
    """Say the disk in MiB, which is a text in the state; what is no number is not sent."""
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
        storage_size_mib=size_in_mib(new),
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
    known = connections(made, {}) | login(made)
    _wait_online(cloud, made["id"])
    with unfinished(made["id"], **known):
        _finish_cluster(cloud, made["id"], new)
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
    seen = False

    def online() -> bool:
        nonlocal seen
        cluster = cloud.rest.find(f"/v2/databases/{id_}", "database")
        # A new one may not be shown yet; one that was shown and is not any more will not come back.
        if cluster is None and seen:
            raise ProviderError(f"database cluster {id_}: it was removed before it was online")
        seen = cluster is not None
        return cluster is not None and cluster["status"] == "online"

    cloud.wait(f"database cluster {id_}: online", CREATE_TIMEOUT, online)


def _read_cluster(cloud: Cloud, id_: str, known: Values) -> Values | None:
    cluster = cloud.rest.find(f"/v2/databases/{id_}", "database")
    if cluster is None:
        return None
    told: Values = {
        **camelled(cluster),
        "nodeCount": cluster["num_nodes"],
        "storageSizeMib": str(cluster.get("storage_size_mib") or 0),
        "clusterUrn": f"do:dbaas:{id_}",
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
    if ui := cluster.get("ui_connection"):
        told |= {f"ui{key.title()}": ui.get(key) for key in ("host", "port", "uri", "database", "user", "password")}
    return told | connections(cluster, known) | login(cluster)


def _update_cluster(cloud: Cloud, change: Change) -> None:
    new, path = change.new, f"/v2/databases/{change.id}"
    if change.of("size", "nodeCount", "storageSizeMib"):
        body: Values = {"size": new["size"], "num_nodes": new["nodeCount"]}
        if change.of("storageSizeMib") and size_in_mib(new):
            body["storage_size_mib"] = size_in_mib(new)
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


CONNECTION: Final = dict.fromkeys(("uri", "privateUri", "password"), how(secret=True))

_DAY = one_of("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

CLUSTER = Resource(
    name="DatabaseCluster",
    properties={
        "name": name(replace=True),
        "engine": how(replace=True, check=filled, same=lambda old, new, _: old in _CACHES and new in _CACHES),
        "version": how(same=_same_version),
        "size": how(check=filled),
        "region": region(check=filled),
        "nodeCount": how(check=filled),
        "maintenanceWindows": how(
            inner={"day": how(check=lambda value: _DAY(value.lower())), "hour": how(same=_same_hour)}
        ),
        "evictionPolicy": how(check=filled),
        "privateNetworkUuid": how(computed=True, replace=True, check=filled),
        "projectId": how(computed=True, replace=True, check=filled),
        "tags": tags(),
        "storageSizeMib": how(computed=True),
        "storageAutoscale": how(
            inner={"thresholdPercent": how(check=between(15, 95)), "incrementGib": how(check=between(10, 2**31))}
        ),
        **CONNECTION,
        "uiUri": how(secret=True),
        "uiPassword": how(secret=True),
    },
    create=_create_cluster,
    read=_read_cluster,
    update=_update_cluster,
    delete=lambda cloud, id_, _: cloud.rest.delete(f"/v2/databases/{id_}"),
    check=_check_cluster,
)


def _get_ca(cloud: Cloud, given: Values) -> Values:
    cluster = given["clusterId"]
    certificate = cloud.rest.get(f"/v2/databases/{cluster}/ca")["ca"]["certificate"]
    return {"id": cluster, "clusterId": cluster, "certificate": b64decode(certificate).decode()}


RESOURCES = (CLUSTER,)
FUNCTIONS = (Function(name="getDatabaseCa", fields={"clusterId": string(required=True, check=filled)}, call=_get_ca),)
