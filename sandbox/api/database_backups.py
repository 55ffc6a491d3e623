"""The provider's own backups of a cluster, taken daily and kept a week, and the forks that are made of them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from sandbox.api.context import ApiError, Body, Call, Cloud, invalid, job
from sandbox.api.desired import cluster_spec
from sandbox.api.switches import switches_of
from sandbox.parts.base import Contents
from sandbox.store import Record

KEPT_DAYS = 7
DEFAULT_HOUR, DEFAULT_MINUTE = 3, 0
"""UTC; a cluster's configuration may say another time (`backup_hour`, `backup_minute`)."""
_LOOK_AGAIN = 3600.0  # seconds at most: a clock may be set, a machine may sleep


def stamp(moment: float) -> str:
    """Return the whole second at or after a moment: what was committed by then is in the backup."""
    return datetime.fromtimestamp(math.ceil(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def listed(call: Call, database: Record) -> list[Record]:
    """List a cluster's backups that can be restored now, oldest first."""
    now = datetime.now(UTC)
    backups = call.store.list("database_backup", parent=database["id"])
    return [backup for backup in backups if _time(backup["created_at"]) <= now]


def backups_body(call: Call, database: Record) -> Body:
    """Return the body of `GET /v2/databases/{id}/backups`."""
    hour, minute = _schedule(database)
    return {
        "backups": [
            {"created_at": backup["created_at"], "size_gigabytes": backup["size"] / 10**9, "incremental": False}
            for backup in listed(call, database)
        ],
        "scheduled_backup_time": {"backup_hour": hour, "backup_minute": minute, "backup_interval_hours": 24},
    }


def forks_of(call: Call, database: Record) -> list[str]:
    """Name the clusters that still wait for data of this one."""
    others = call.store.list("database", deleting=False)
    return [other["name"] for other in others if (other.get("restore") or {}).get("source") == database["id"]]


def source_of(call: Call) -> tuple[Record, Record] | None:
    """Return the cluster that a new one is forked from, and the fork's `restore`; None when it is no fork.

    Without a time it is the most recent backup, as the API description says.

    Raises:
        ApiError: 422, no such cluster, no backup, or a time that cannot be restored.
    """
    given = call.object("backup_restore")
    if not given:
        return None
    name = given.get("database_name")
    found = call.store.list("database", name=name, deleting=False)
    if not found:
        raise invalid(f"backup_restore: database cluster {name} not found")
    (source,) = found
    backups = listed(call, source)
    if not backups or source["status"] == "creating":
        raise invalid(f"backup_restore: database cluster {name} has no backups yet")
    asked = given.get("backup_created_at")
    moment = _asked(asked) if asked else _time(backups[-1]["created_at"])
    first = backups[0]["created_at"]
    if moment < _time(first):
        raise invalid(f"backup_restore: {asked} is before the earliest backup of {name} ({first})")
    if moment > datetime.now(UTC):
        raise invalid(f"backup_restore: {asked} is in the future")
    backup = next(backup for backup in reversed(backups) if _time(backup["created_at"]) <= moment)
    if moment != _time(backup["created_at"]) and (mode := switches_of(call.store).fork_times) != "exact":
        if mode == "backups_only":
            raise invalid(f"backup_restore: {asked} is not the time of a backup of {name}")
        moment = _time(backup["created_at"])
    return source, {"source": source["id"], "backup": backup["name"], "time": moment.astimezone(UTC).isoformat()}


def _asked(text: object) -> datetime:
    try:
        moment = _time(str(text))
    except ValueError:
        raise invalid("backup_restore: backup_created_at must be an ISO 8601 date and time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def check_fork(fork: Record, source: Record) -> None:
    """Hold the shape of a fork against its source.

    Raises:
        ApiError: 422, another version, or too little room.
    """
    if fork["version"] != source["version"]:
        raise invalid(f"backup_restore: version must be that of the source, {source['version']}")
    if fork["storage_size_mib"] < source["storage_size_mib"]:
        raise invalid(f"backup_restore: storage_size_mib must be at least the source's, {source['storage_size_mib']}")


def adopt(cloud: Cloud, fork: Record, contents: Contents) -> None:
    """Put into a fork's record what its source has and its own data had at that time."""
    source: Record = cloud.store.get("database", fork["restore"]["source"]) or {"db_names": [], "users": []}
    known = {user["name"] for user in fork["users"]}
    fork["users"] += [user for user in source["users"] if user["name"] in contents.users and user["name"] not in known]
    fork["db_names"] += [
        name for name in source["db_names"] if name in contents.databases and name not in fork["db_names"]
    ]
    fork["restore"] = None


def must_not_be_forked(call: Call, database: Record) -> None:
    """Refuse to take away what a fork still needs.

    Raises:
        ApiError: 412.
    """
    if names := forks_of(call, database):
        raise ApiError(412, f"cluster is being forked: {', '.join(names)}")


# --- taking them -----------------------------------------------------------------------------------------------------


def _schedule(database: Record) -> tuple[int, int]:
    config: Record = database["config"]
    return config.get("backup_hour", DEFAULT_HOUR), config.get("backup_minute", DEFAULT_MINUTE)


def last_due(database: Record, now: datetime) -> datetime:
    """Return the latest moment, not after now, for which a backup is scheduled."""
    hour, minute = _schedule(database)
    today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return today if today <= now else today - timedelta(days=1)


@job("backup")
def back_up(cloud: Cloud, ident: str) -> None:
    """Take a cluster's backup when one is due (the first one is at once), forget old ones, and look again later."""
    now = datetime.now(UTC)
    with cloud.store.transaction():
        database = cloud.store.get("database", ident)
        if database is None or database["deleting"] or database["status"] == "creating":
            return
        spec = cluster_spec(cloud.store, database)
        kept = cloud.store.list("database_backup", parent=ident)
    due = last_due(database, now)
    if not kept or _time(kept[-1]["created_at"]) < due:
        made = cloud.parts.databases.take_backup(spec, now.strftime("%Y%m%dT%H%M%SZ"))
        if made is not None:
            new: Record = {"name": made.name, "created_at": stamp(made.finished), "size": made.size}
            with cloud.change():
                if cloud.store.get("database", ident):
                    cloud.store.put("database_backup", made.name, new, parent=ident)
            oldest = now - timedelta(days=KEPT_DAYS)
            kept = [backup for backup in kept if _time(backup["created_at"]) >= oldest] + [new]
            # First nobody is offered them, then they go; one that was never noted, because of a kill, goes with them.
            _forget(cloud, ident, {backup["name"] for backup in kept})
            cloud.parts.databases.keep_backups(spec, tuple(backup["name"] for backup in kept))
    wait = (due + timedelta(days=1) - datetime.now(UTC)).total_seconds()
    cloud.jobs.later(f"backup:{ident}", min(max(wait, 1.0), _LOOK_AGAIN))


def _forget(cloud: Cloud, ident: str, names: set[str]) -> None:
    with cloud.change():
        for backup in cloud.store.list("database_backup", parent=ident):
            if backup["name"] not in names:
                cloud.store.delete("database_backup", backup["name"], parent=ident)
