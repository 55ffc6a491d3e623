"""What is in a database cluster: users, databases, connection pools, replicas."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sandbox import catalog
from sandbox.api.context import ApiError, Body, Call, invalid, not_built, not_found, operation
from sandbox.api.databases import CLUSTER, connection, new_password, save, user_body
from sandbox.api.switches import unseen
from sandbox.parts.sql import CONNECTIONS_PER_GIB, POOL_PORT, RESERVED_CONNECTIONS
from sandbox.store import Record

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_POOL_NAME = re.compile(r".{3,60}")
_POOL_MODES = ("transaction", "session", "statement")


def _pool_body(cluster: Record, pool: Record) -> Body:
    # A pool without a user lets everyone in as themselves; the API shows `doadmin` there.
    wanted = pool["user"] or "doadmin"
    user = next(user for user in cluster["users"] if user["name"] == wanted)
    return pool | {
        "user": pool["user"] or "",
        "connection": connection(cluster, name=pool["name"], user=user, port=POOL_PORT),
        "private_connection": connection(cluster, name=pool["name"], user=user, port=POOL_PORT, private=True),
    }


@dataclass(frozen=True, kw_only=True)
class _Contents:
    """Something that a cluster has many of, inside its record: listed, added, read and removed from here."""

    what: str
    """In messages, and in the cluster's record of what was made and dropped."""
    field: str
    """Of the cluster's record."""
    word: str
    """In answers, with an s for many."""
    parameter: str
    made: Callable[[Call, Record, str], Any]
    """Return the new one of a name, out of the call's body."""
    shown: Callable[[Record, Any], Body]
    used_as: str = ""
    """The field of a pool that may name one."""
    ids: tuple[str, str, str, str]
    """The operations that list, add, read and remove."""

    def __post_init__(self) -> None:
        for ident, handler in zip(self.ids, (self._list, self._add, self._read, self._remove), strict=True):
            operation(ident)(handler)

    @staticmethod
    def _name(item: Any) -> str:
        return item if isinstance(item, str) else item["name"]

    def find(self, call: Call, cluster: Record) -> Any:
        """Return the one that the path names.

        Raises:
            ApiError: 404, there is none, or it is not seen yet.
        """
        name = call.params[self.parameter]
        if not unseen(call.store, cluster.get("born", {}).get(f"{self.what} {name}")):
            for item in cluster[self.field]:
                if self._name(item) == name:
                    return item
        raise not_found(f"{self.what} not found")

    def answer(self, cluster: Record, item: Any) -> Body:
        """Return the answer that shows one."""
        return {self.word: self.shown(cluster, item)}

    def _list(self, call: Call) -> Body:
        cluster = CLUSTER.find(call)
        return {f"{self.word}s": [self.shown(cluster, item) for item in cluster[self.field]]}

    def _add(self, call: Call) -> Body:
        cluster = CLUSTER.find(call)
        name = call.text("name", message=f"invalid {self.what} name")
        if not _NAME.fullmatch(name):
            raise invalid(f"invalid {self.what} name")
        if name in map(self._name, cluster[self.field]):
            raise ApiError(409, f"{self.what} already exists")
        item = self.made(call, cluster, name)
        cluster[self.field].append(item)
        cluster["dropped"] = [other for other in cluster["dropped"] if other != [self.what, name]]
        cluster["born"] = {**cluster.get("born", {}), f"{self.what} {name}": time.time()}
        save(call, cluster)
        return self.answer(cluster, item)

    def _read(self, call: Call) -> Body:
        cluster = CLUSTER.find(call)
        return self.answer(cluster, self.find(call, cluster))

    def _remove(self, call: Call) -> None:
        cluster = CLUSTER.find(call)
        item = self.find(call, cluster)
        if self.what == "user" and item["role"] == "primary":
            raise ApiError(403, "cannot delete the primary user")
        if self.used_as:
            if any(pool[self.used_as] == self._name(item) for pool in cluster["pools"]):
                raise ApiError(412, f"{self.what} is used by a connection pool")
            cluster["dropped"].append([self.what, self._name(item)])
        cluster[self.field].remove(item)
        save(call, cluster)


def _replicates(call: Call) -> bool:
    return bool(call.object("settings").get("pg_allow_replication"))


def _new_user(call: Call, _: Record, name: str) -> Record:
    replication = _replicates(call)
    return {"name": name, "role": "normal", "password": new_password(call.cloud, name), "replication": replication}


def _pool_fields(call: Call, cluster: Record, own: str) -> Record:
    mode = call.one_of("mode", _POOL_MODES, "invalid pool mode")
    most = catalog.DATABASE_SIZES[cluster["size"]].memory // 1024 * CONNECTIONS_PER_GIB - RESERVED_CONNECTIONS
    used = sum(pool["size"] for pool in cluster["pools"] if pool["name"] != own)
    size = call.whole("size", 1, 1000, "invalid pool size")
    if used + size > most:
        raise invalid(f"pool size is too large: {most - used} of {most} connections are left")
    name = call.text("db", message="invalid pool database")
    if name not in cluster["db_names"]:
        raise invalid("database does not exist")
    user = call.body.get("user") or None
    if user is not None and user not in [existing["name"] for existing in cluster["users"]]:
        raise invalid("user does not exist")
    return {"name": own, "mode": mode, "size": size, "db": name, "user": user}


def _new_pool(call: Call, cluster: Record, name: str) -> Record:
    if not _POOL_NAME.fullmatch(name):
        raise invalid("invalid pool name: it must have 3 to 60 characters")
    return _pool_fields(call, cluster, name)


USER = _Contents(
    what="user",
    field="users",
    word="user",
    parameter="username",
    made=_new_user,
    shown=lambda _, user: user_body(user),
    used_as="user",
    ids=("databases_list_users", "databases_add_user", "databases_get_user", "databases_delete_user"),
)
_Contents(
    what="database",
    field="db_names",
    word="db",
    parameter="database_name",
    made=lambda _, __, name: name,
    shown=lambda _, name: {"name": name},
    used_as="db",
    ids=("databases_list", "databases_add", "databases_get", "databases_delete"),
)
POOL = _Contents(
    what="pool",
    field="pools",
    word="pool",
    parameter="pool_name",
    made=_new_pool,
    shown=_pool_body,
    ids=(
        "databases_list_connectionPools",
        *("databases_add_connectionPool", "databases_get_connectionPool", "databases_delete_connectionPool"),
    ),
)


@operation("databases_update_user")
def update_user(call: Call) -> Body:
    """Change a user's settings: the right to replicate."""
    cluster = CLUSTER.find(call)
    user = USER.find(call, cluster)
    user["replication"] = _replicates(call)
    save(call, cluster)
    return USER.answer(cluster, user)


@operation("databases_reset_auth")
def reset_auth(call: Call) -> Body:
    """Give a user a new password."""
    cluster = CLUSTER.find(call)
    user = USER.find(call, cluster)
    user["password"] = new_password(call.cloud, user["name"])
    save(call, cluster)
    return USER.answer(cluster, user)


@operation("databases_update_connectionPool")
def update_pool(call: Call) -> None:
    """Change a connection pool."""
    cluster = CLUSTER.find(call)
    pool = POOL.find(call, cluster)
    pool |= _pool_fields(call, cluster, pool["name"])
    save(call, cluster)


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
