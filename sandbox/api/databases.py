"""Managed database clusters: PostgreSQL. Other engines are on offer and answer 501."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote

from sandbox import catalog
from sandbox.api.context import (
    ApiError,
    Body,
    Call,
    Cloud,
    invalid,
    job,
    new_uuid,
    not_built,
    now,
    operation,
    random_text,
)
from sandbox.api.database_backups import adopt, check_fork, must_not_be_forked, source_of
from sandbox.api.desired import DATABASE_ZONE, cluster_spec
from sandbox.api.kinds import BY_TAG, Kind, forget_urn
from sandbox.api.projects import project_of
from sandbox.api.tags import ensure_tags
from sandbox.api.vpcs import free_private_ip, free_public_ip, vpc_for
from sandbox.parts.sql import PORT
from sandbox.store import Record

_CLUSTER_NAME = r"[a-z0-9][a-z0-9-]{1,62}"
_EVENTS_KEPT = 1000
_LABEL = 63
CLUSTER_LIMIT = 10
"""Clusters of a team, until support raises it (documented)."""
SOURCE_LIMIT = 100
"""Addresses that a cluster trusts; a droplet has two (documented: PostgreSQL limits)."""
"""Characters that a label of a DNS name may have (RFC 1035)."""


def save(call: Call, database: Record) -> Record:
    """Save a cluster and let its part follow; the answer waits for that when the cluster is online."""
    call.cloud.touch(f"cluster:{database['id']}", wait=database["status"] == "online")
    return call.store.put("database", database["id"], database)


def new_password(cloud: Cloud, user: str) -> str:
    """Return the password planted for this user (`/_sandbox/next`), else a new one in DigitalOcean's style."""
    planted: list[Record] = cloud.store.get_meta("next_passwords", [])
    for entry in planted:
        if entry.get("user") in (None, user):
            cloud.store.set_meta("next_passwords", [other for other in planted if other is not entry])
            return entry["password"]
    return "AVNS_" + random_text(19)


def connection(database: Record, *, name: str, user: Record, port: int = PORT, private: bool = False) -> Body:
    """Return the `connection` object of the API for a database (or pool) and a user."""
    host = f"private-{database['host']}" if private else database["host"]
    login = f"{quote(user['name'], safe='')}:{quote(user['password'], safe='')}"
    return {
        "protocol": "postgresql",
        "uri": f"postgresql://{login}@{host}:{port}/{name}?sslmode=require",
        "database": name,
        "host": host,
        "port": port,
        "user": user["name"],
        "password": user["password"],
        "ssl": True,
    }


def user_body(user: Record) -> Body:
    """Return the `user` object of the API."""
    body: Body = {"name": user["name"], "role": user["role"], "password": user["password"]}
    return body | ({"settings": {"pg_allow_replication": True}} if user["replication"] else {})


def cluster_body(cloud: Cloud, database: Record) -> Body:
    """Return the `database` object of the API."""
    admin: Record = database["users"][0]
    return {
        "id": database["id"],
        "name": database["name"],
        "engine": "pg",
        "version": database["version"],
        "semantic_version": database["version"],
        "num_nodes": database["num_nodes"],
        "size": database["size"],
        "region": database["region"],
        "status": database["status"],
        "created_at": database["created_at"],
        "private_network_uuid": database["vpc_uuid"],
        "tags": database["tags"],
        "db_names": database["db_names"],
        "connection": connection(database, name="defaultdb", user=admin),
        "private_connection": connection(database, name="defaultdb", user=admin, private=True),
        "users": [user_body(user) for user in database["users"]],
        "maintenance_window": {**database["maintenance"], "pending": False, "description": []},
        "project_id": project_of(cloud.store, f"do:dbaas:{database['id']}"),
        "rules": [{**rule, "cluster_uuid": database["id"]} for rule in database["rules"]],
        "version_end_of_life": catalog.POSTGRES_END_OF_LIFE[database["version"]],
        "version_end_of_availability": catalog.POSTGRES_END_OF_LIFE[database["version"]],
        "storage_size_mib": database["storage_size_mib"],
        "metrics_endpoints": [{"host": database["host"], "port": 9273}],
    }


CLUSTER = Kind(
    name="database",
    parameter="database_cluster_uuid",
    shown=lambda call, database: cluster_body(call.cloud, database),
    missing="cluster not found",
    filters=BY_TAG,
    urn="dbaas",
    label="name",
    has_public_ip=True,
    in_vpc=True,
    tagged_as="database",
    deleting_is_hidden=True,
    job="cluster:{id}",
    resumed=True,
    follows_membership=True,
    lists=("databases_list_clusters",),
)


def available_version(call: Call) -> str:
    """Return the PostgreSQL major version asked for, if the sandbox has it."""
    version = str(call.body.get("version") or catalog.DATABASE_ENGINES["pg"][-1])
    if version not in catalog.DATABASE_ENGINES["pg"]:
        raise invalid("invalid version")
    available = call.cloud.parts.databases.versions
    if version not in available:
        raise invalid(f"The sandbox has no PostgreSQL {version}; it has: {', '.join(available)}.")
    return version


def _shape(call: Call, database: Record) -> Record:
    """Check size, nodes and storage; return them."""
    size = call.one_of("size", catalog.DATABASE_SIZES, "invalid size")
    nodes = call.whole("num_nodes", 1, 3, "invalid num_nodes; pg clusters have 1 to 3 nodes")
    least = catalog.DATABASE_SIZES[size].disk
    storage = max(least, database.get("storage_size_mib", 0))
    if call.body.get("storage_size_mib"):
        message = f"invalid storage_size_mib; the least for {size} is {least}"
        storage = call.whole("storage_size_mib", least, 15 * 2**20, message)
    if storage < database.get("storage_size_mib", 0):
        raise invalid("storage_size_mib cannot be decreased")
    return {"size": size, "num_nodes": nodes, "storage_size_mib": storage}


def parse_rules(call: Call, database: Record) -> list[Record]:
    """Check trusted sources; those that stay keep their UUID and time."""
    before = {(rule["type"], rule["value"]): rule for rule in database["rules"]}
    rules: list[Record] = []
    for given in call.objects("rules"):
        kind, value = given.get("type"), str(given.get("value") or "")
        if kind in ("k8s", "app"):
            raise not_built(f"trusted sources of type {kind}")
        if kind == "ip_addr":
            try:
                network = ipaddress.ip_network(value, strict=False)
            except ValueError:
                raise invalid(f"invalid IP address or CIDR: {value}") from None
            if network.version != 4:  # documented: PostgreSQL limits, openapi#1208
                raise invalid(f"invalid IP address or CIDR: {value}; trusted sources take no IPv6")
        elif kind not in ("droplet", "tag") or call.store.get(kind, value) is None:
            raise invalid(f"invalid firewall rule: {kind} {value} not found")
        old = before.get((kind, value))
        rule: Record = old or {"uuid": new_uuid(), "type": kind, "value": value, "created_at": now()}
        rules.append(rule | ({"description": given["description"]} if given.get("description") else {}))
    if sum(1 if rule["type"] == "ip_addr" else 2 for rule in rules) > SOURCE_LIMIT:
        raise invalid(f"too many trusted sources: at most {SOURCE_LIMIT}, and a droplet counts two")
    return rules


@operation("databases_list_options")
def list_options(_: Call) -> Body:
    """List engines, versions and layouts on offer."""
    return catalog.database_options()


@operation("databases_create_cluster")
def create_cluster(call: Call) -> Body:
    """Make a cluster with `doadmin` and `defaultdb`, or a fork; it is `creating` until its server answers."""
    cloud = call.cloud
    name = call.text("name", pattern=_CLUSTER_NAME, message="invalid cluster name")
    engine = call.one_of(
        "engine", (*catalog.DATABASE_ENGINES, "redis", "advanced_pg", "advanced_mysql"), "invalid engine"
    )
    if engine != "pg":
        raise not_built(f"database clusters of the engine {engine}")
    region = call.one_of("region", catalog.REGIONS, "invalid region")
    clusters = call.store.list("database", deleting=False)
    if any(cluster["name"] == name for cluster in clusters):
        raise invalid("cluster name is not available")
    if len(clusters) >= CLUSTER_LIMIT:
        raise invalid(f"you have reached your limit of {CLUSTER_LIMIT} database clusters")
    number = call.store.get_meta("account")["number"]
    host = f"{name}-do-user-{number}-0.{'abcdefghijklm'[number % 13]}.{DATABASE_ZONE}"
    if len(f"private-{host.partition('.')[0]}") > _LABEL:
        raise invalid(
            f"invalid cluster name: the sandbox has no host for it, private-{host} has a label above {_LABEL}"
        )
    blank: Record = {"rules": []}
    forked = source_of(call)
    if forked and not call.body.get("version"):
        call.body["version"] = forked[0]["version"]
    fields = {"version": available_version(call), **_shape(call, blank), "rules": parse_rules(call, blank)}
    if forked:
        check_fork(fields, forked[0])
    tags = ensure_tags(call, call.texts("tags"))
    vpc = vpc_for(call, call.body.get("private_network_uuid"), region)
    ident = new_uuid()
    database: Record = {
        "id": ident,
        "name": name,
        "region": region,
        "status": "creating",
        "deleting": False,
        "created_at": now(),
        "vpc_uuid": vpc["id"],
        "public_ip": free_public_ip(cloud),
        "private_ip": free_private_ip(call.store, vpc),
        "host": host,
        "tags": tags,
        "db_names": ["defaultdb"],
        "users": [
            {"name": "doadmin", "role": "primary", "password": new_password(cloud, "doadmin"), "replication": True}
        ],
        "pools": [],
        "config": dict(forked[0]["config"]) if forked else {},
        "restore": forked[1] if forked else None,
        "maintenance": {"day": "friday", "hour": "21:00:00"},
        "autoscale": None,
        "dropped": [],
        "born": {},
        **fields,
    }
    cloud.touch("zones")
    save(call, database)
    note_event(call, database, "cluster_create")
    return {"database": cluster_body(cloud, database)}


@operation("databases_get_cluster")
def get_cluster(call: Call) -> Body:
    """Return one cluster.

    Raises:
        ApiError: 503, its servers cannot be made or changed (it is tried again all the time); 404.
    """
    database = CLUSTER.find(call)
    # No status says this. Gone is no answer either: the official provider goes on asking at 404 without an end.
    if database["status"] != "online" and (reason := call.cloud.jobs.stuck(f"cluster:{database['id']}")):
        raise ApiError(503, f"cluster {database['name']} is {database['status']} and fails: {reason}")
    return {"database": cluster_body(call.cloud, CLUSTER.find(call))}


@operation("databases_destroy_cluster")
def destroy_cluster(call: Call) -> None:
    """Destroy a cluster with all its data: 404 from now on; it leaves its VPC once its servers are gone."""
    database = CLUSTER.find(call)
    must_not_be_forked(call, database)
    call.store.put("database", database["id"], {**database, "deleting": True})
    call.store.delete_children("replica", database["id"])
    call.store.delete_children("database_backup", database["id"])
    call.store.delete_children("database_event", database["id"])
    forget_urn(call.store, CLUSTER.urn_of(database))
    call.cloud.touch(f"cluster:{database['id']}", wait=False)
    call.cloud.touch("zones")


def note_event(call: Call, database: Record, kind: str) -> None:
    """Keep what happened to a cluster for its list of events."""
    ident = random_text(8).lower()
    event = {"id": ident, "cluster_name": database["name"], "event_type": kind, "create_time": now()}
    call.store.prune("database_event", _EVENTS_KEPT)
    call.store.put("database_event", ident, event, parent=database["id"])


def must_be_online(database: Record) -> None:
    """Refuse what has to wait until a cluster is online.

    Raises:
        ApiError: 412.
    """
    if database["status"] != "online":
        raise ApiError(412, f"cluster is not ready: {database['status']}")


@operation("databases_update_clusterSize")
def resize_cluster(call: Call) -> None:
    """Change size, nodes or storage; the cluster is `resizing` meanwhile."""
    database = CLUSTER.find(call)
    must_be_online(database)
    save(call, {**database, **_shape(call, database), "status": "resizing"})
    note_event(call, database, "cluster_update")


# --- the part behind -------------------------------------------------------------------------------------------------


@job("cluster")
def converge_cluster(cloud: Cloud, ident: str) -> None:
    """Bring a cluster's servers to what the store says, or remove them."""
    key = f"cluster:{ident}"
    with cloud.store.transaction():
        database = cloud.store.get("database", ident)
        spec = cluster_spec(cloud.store, database) if database else None
    if database is None or spec is None:
        return
    if database["deleting"]:
        cloud.parts.databases.delete(ident)
        with cloud.change():
            cloud.store.delete("database", ident)
        cloud.applied.pop(key, None)
        return
    for what, name in database["dropped"]:
        drop = cloud.parts.databases.drop_database if what == "database" else cloud.parts.databases.drop_user
        drop(spec, name)
    if database["status"] != "online":
        cloud.applied.pop(key, None)
    cloud.apply(key, spec, lambda: cloud.parts.databases.apply(spec))
    contents = cloud.parts.databases.contents(spec) if spec.restore else None
    with cloud.change():
        current = cloud.store.get("database", ident)
        if current is None or current["deleting"]:
            return
        current["dropped"] = [item for item in current["dropped"] if item not in database["dropped"]]
        if contents:
            # What came with the data belongs to it now; the next run brings passwords and settings to it.
            adopt(cloud, current, contents)
            cloud.touch(key)
        # A resize asked for meanwhile has a run of its own after this one.
        elif current["status"] == database["status"]:
            current["status"] = "online"
        cloud.store.put("database", ident, current)
        cloud.touch(f"backup:{ident}", wait=False)
