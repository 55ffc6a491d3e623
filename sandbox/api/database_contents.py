"""What is in a database cluster: users, databases, connection pools, replicas."""

from __future__ import annotations

import re
import time

from sandbox import catalog
from sandbox.api.context import ApiError, Body, Call, invalid, not_built, not_found, operation
from sandbox.api.databases import CLUSTER, POOL_PORT, connection, new_password, save, user_body
from sandbox.api.switches import unseen
from sandbox.store import Record

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_POOL_NAME = re.compile(r".{3,60}")
_POOL_MODES = ("transaction", "session", "statement")


def _new_name(call: Call, taken: list[str], what: str) -> str:
    name = call.text("name", message=f"invalid {what} name")
    if not _NAME.fullmatch(name):
        raise invalid(f"invalid {what} name")
    if name in taken:
        raise ApiError(409, f"{what} already exists")
    return name


def _born(cluster: Record, what: str, name: str) -> dict[str, float]:
    """Return when what is in the cluster was made, with this new one."""
    return {**cluster.get("born", {}), f"{what} {name}": time.time()}


def _must_be_seen(call: Call, cluster: Record, what: str, name: str) -> None:
    if unseen(call.store, cluster.get("born", {}).get(f"{what} {name}")):
        raise not_found(f"{what} not found")


# --- users -----------------------------------------------------------------------------------------------------------


def _user(call: Call, database: Record) -> Record:
    _must_be_seen(call, database, "user", call.params["username"])
    for user in database["users"]:
        if user["name"] == call.params["username"]:
            return user
    raise not_found("user not found")


@operation("databases_list_users")
def list_users(call: Call) -> Body:
    """List the users, `doadmin` first."""
    return {"users": [user_body(user) for user in CLUSTER.find(call)["users"]]}


@operation("databases_add_user")
def add_user(call: Call) -> Body:
    """Add a login role with a generated password."""
    database = CLUSTER.find(call)
    name = _new_name(call, [user["name"] for user in database["users"]], "user")
    settings = call.object("settings")
    user: Record = {
        "name": name,
        "role": "normal",
        "password": new_password(call.cloud, name),
        "replication": bool(settings.get("pg_allow_replication")),
    }
    dropped = [item for item in database["dropped"] if item != ["user", name]]
    born = _born(database, "user", name)
    save(call, {**database, "users": [*database["users"], user], "dropped": dropped, "born": born})
    return {"user": user_body(user)}


@operation("databases_get_user")
def get_user(call: Call) -> Body:
    """Return one user, password included."""
    return {"user": user_body(_user(call, CLUSTER.find(call)))}


@operation("databases_update_user")
def update_user(call: Call) -> Body:
    """Change a user's settings: the right to replicate."""
    database = CLUSTER.find(call)
    user = _user(call, database)
    settings = call.object("settings")
    user["replication"] = bool(settings.get("pg_allow_replication"))
    save(call, database)
    return {"user": user_body(user)}


@operation("databases_delete_user")
def delete_user(call: Call) -> None:
    """Remove a user; `doadmin` stays."""
    database = CLUSTER.find(call)
    user = _user(call, database)
    if user["role"] == "primary":
        raise ApiError(403, "cannot delete the primary user")
    if any(pool["user"] == user["name"] for pool in database["pools"]):
        raise ApiError(412, "user is used by a connection pool")
    users = [other for other in database["users"] if other is not user]
    save(call, {**database, "users": users, "dropped": [*database["dropped"], ["user", user["name"]]]})


@operation("databases_reset_auth")
def reset_auth(call: Call) -> Body:
    """Give a user a new password."""
    database = CLUSTER.find(call)
    user = _user(call, database)
    user["password"] = new_password(call.cloud, user["name"])
    save(call, database)
    return {"user": user_body(user)}


# --- databases -------------------------------------------------------------------------------------------------------


@operation("databases_list")
def list_databases(call: Call) -> Body:
    """List the databases."""
    return {"dbs": [{"name": name} for name in CLUSTER.find(call)["db_names"]]}


@operation("databases_add")
def add_database(call: Call) -> Body:
    """Add a database; it belongs to `doadmin`."""
    cluster = CLUSTER.find(call)
    name = _new_name(call, cluster["db_names"], "database")
    dropped = [item for item in cluster["dropped"] if item != ["database", name]]
    born = _born(cluster, "database", name)
    save(call, {**cluster, "db_names": [*cluster["db_names"], name], "dropped": dropped, "born": born})
    return {"db": {"name": name}}


def _database(call: Call, cluster: Record) -> str:
    name = call.params["database_name"]
    _must_be_seen(call, cluster, "database", name)
    if name not in cluster["db_names"]:
        raise not_found("database not found")
    return name


@operation("databases_get")
def get_database(call: Call) -> Body:
    """Return one database."""
    return {"db": {"name": _database(call, CLUSTER.find(call))}}


@operation("databases_delete")
def delete_database(call: Call) -> None:
    """Remove a database with all that is in it."""
    cluster = CLUSTER.find(call)
    name = _database(call, cluster)
    if any(pool["db"] == name for pool in cluster["pools"]):
        raise ApiError(412, "database is used by a connection pool")
    names = [other for other in cluster["db_names"] if other != name]
    save(call, {**cluster, "db_names": names, "dropped": [*cluster["dropped"], ["database", name]]})


# --- connection pools ------------------------------------------------------------------------------------------------


def _pool_body(database: Record, pool: Record) -> Body:
    # A pool without a user lets everyone in as themselves; the API shows `doadmin` there.
    wanted = pool["user"] or "doadmin"
    user = next(user for user in database["users"] if user["name"] == wanted)
    return {
        "name": pool["name"],
        "mode": pool["mode"],
        "size": pool["size"],
        "db": pool["db"],
        "user": pool["user"] or "",
        "connection": connection(database, name=pool["name"], user=user, port=POOL_PORT),
        "private_connection": connection(database, name=pool["name"], user=user, port=POOL_PORT, private=True),
    }


def _pool(call: Call, database: Record) -> Record:
    _must_be_seen(call, database, "pool", call.params["pool_name"])
    for pool in database["pools"]:
        if pool["name"] == call.params["pool_name"]:
            return pool
    raise not_found("pool not found")


def _pool_fields(call: Call, database: Record, own: str = "") -> Record:
    mode = call.one_of("mode", _POOL_MODES, "invalid pool mode")
    # 25 connections a GiB, of which DigitalOcean keeps three.
    most = catalog.DATABASE_SIZES[database["size"]].memory // 1024 * 25 - 3
    used = sum(pool["size"] for pool in database["pools"] if pool["name"] != own)
    size = call.whole("size", 1, 1000, "invalid pool size")
    if used + size > most:
        raise invalid(f"pool size is too large: {most - used} of {most} connections are left")
    name = call.text("db", message="invalid pool database")
    if name not in database["db_names"]:
        raise invalid("database does not exist")
    user = call.body.get("user") or None
    if user is not None and user not in [existing["name"] for existing in database["users"]]:
        raise invalid("user does not exist")
    return {"mode": mode, "size": size, "db": name, "user": user}


@operation("databases_list_connectionPools")
def list_pools(call: Call) -> Body:
    """List the connection pools."""
    database = CLUSTER.find(call)
    return {"pools": [_pool_body(database, pool) for pool in database["pools"]]}


@operation("databases_add_connectionPool")
def add_pool(call: Call) -> Body:
    """Add a connection pool, on port 25061 under its own name."""
    database = CLUSTER.find(call)
    name = _new_name(call, [pool["name"] for pool in database["pools"]], "pool")
    if not _POOL_NAME.fullmatch(name):
        raise invalid("invalid pool name: it must have 3 to 60 characters")
    pool = {"name": name, **_pool_fields(call, database)}
    save(call, {**database, "pools": [*database["pools"], pool], "born": _born(database, "pool", name)})
    return {"pool": _pool_body(database, pool)}


@operation("databases_get_connectionPool")
def get_pool(call: Call) -> Body:
    """Return one connection pool."""
    database = CLUSTER.find(call)
    return {"pool": _pool_body(database, _pool(call, database))}


@operation("databases_update_connectionPool")
def update_pool(call: Call) -> None:
    """Change a connection pool."""
    database = CLUSTER.find(call)
    pool = _pool(call, database)
    pool |= _pool_fields(call, database, pool["name"])
    save(call, database)


@operation("databases_delete_connectionPool")
def delete_pool(call: Call) -> None:
    """Remove a connection pool."""
    database = CLUSTER.find(call)
    pool = _pool(call, database)
    save(call, {**database, "pools": [other for other in database["pools"] if other is not pool]})


# --- replicas --------------------------------------------------------------------------------------------------------


@operation("databases_list_replicas")
def list_replicas(call: Call) -> Body:
    """List the read-only replicas: none, they cannot be made here."""
    CLUSTER.find(call)
    return {"replicas": []}


@operation("databases_create_replica")
def create_replica(call: Call) -> None:
    """Refuse by name: a replica without replication would be a lie."""
    CLUSTER.find(call)
    raise not_built("read-only replicas of databases")


@operation("databases_get_replica", "databases_destroy_replica", "databases_promote_replica")
def no_replica(call: Call) -> None:
    """There is no replica by any name."""
    CLUSTER.find(call)
    raise not_found("replica not found")
