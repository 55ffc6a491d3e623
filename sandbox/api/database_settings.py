"""What is set on a database cluster: trusted sources, configuration, windows; and what it tells of itself."""

from __future__ import annotations

import base64
import re

from sandbox.api.context import Body, Call, invalid, not_built, operation
from sandbox.api.database_backups import backups_body
from sandbox.api.databases import (
    CLUSTER,
    available_version,
    cluster_body,
    must_be_online,
    note_event,
    parse_rules,
    save,
)
from sandbox.api.postgres_config import check_config
from sandbox.api.vpcs import free_private_ip, free_public_ip

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@operation("databases_get_ca")
def get_ca(call: Call) -> Body:
    """Return the certificate of the authority that signs database hosts, PEM in base64."""
    CLUSTER.find(call)
    certificate = call.ask("authority", call.cloud.parts.authority.certificate)
    return {"ca": {"certificate": base64.b64encode(certificate.encode()).decode()}}


@operation("databases_list_backups")
def list_backups(call: Call) -> Body:
    """List DigitalOcean's own backups, oldest first."""
    return backups_body(call, CLUSTER.find(call))


@operation("databases_list_firewall_rules")
def list_rules(call: Call) -> Body:
    """List the trusted sources."""
    return {"rules": cluster_body(call.cloud, CLUSTER.find(call))["rules"]}


@operation("databases_update_firewall_rules")
def update_rules(call: Call) -> None:
    """Replace all trusted sources; none at all opens the cluster to the world."""
    database = CLUSTER.find(call)
    save(call, {**database, "rules": parse_rules(call, database)})


@operation("databases_get_config")
def get_config(call: Call) -> Body:
    """Return what was configured; settings left at their default are not shown."""
    return {"config": CLUSTER.find(call)["config"]}


@operation("databases_patch_config")
def patch_config(call: Call) -> None:
    """Change some settings; null puts one back to its default."""
    database = CLUSTER.find(call)
    given = call.object("config")
    check_config(given)
    merged = {name: value for name, value in {**database["config"], **given}.items() if value is not None}
    save(call, {**database, "config": merged})


@operation("databases_update_maintenanceWindow")
def update_maintenance(call: Call) -> None:
    """Change when maintenance may happen (UTC)."""
    database = CLUSTER.find(call)
    day = str(call.body.get("day") or "").lower()
    if day not in _DAYS:
        raise invalid("invalid day")
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)(?::[0-5]\d)?", str(call.body.get("hour") or ""))
    if match is None:
        raise invalid("invalid hour")
    hour = f"{int(match[1]):02}:{match[2]}:00"
    call.store.put("database", database["id"], {**database, "maintenance": {"day": day, "hour": hour}})


@operation("databases_install_update")
def install_update(call: Call) -> None:
    """Install an update: the cluster moves to other addresses behind the same names, and its connections end."""
    database = CLUSTER.find(call)
    must_be_online(database)
    vpc = call.store.get("vpc", database["vpc_uuid"]) or {}
    moved = {"public_ip": free_public_ip(call.cloud), "private_ip": free_private_ip(call.store, vpc)}
    call.cloud.touch("zones")
    save(call, {**database, **moved})
    note_event(call, database, "cluster_maintenance_perform")


@operation("databases_update_major_version")
def upgrade_cluster(call: Call) -> None:
    """Upgrade to a newer major version, if the sandbox has it."""
    database = CLUSTER.find(call)
    version = available_version(call)
    if int(version) <= int(database["version"]):
        raise invalid("cluster can only be upgraded to a newer version")
    raise not_built("major version upgrades")


@operation("databases_get_autoscale")
def get_autoscale(call: Call) -> Body:
    """Return the storage autoscaling settings."""
    return {"autoscale": CLUSTER.find(call)["autoscale"] or {"storage": {"enabled": False}}}


@operation("databases_update_autoscale")
def update_autoscale(call: Call) -> None:
    """Keep the storage autoscaling settings; disks here never fill up by themselves."""
    database = CLUSTER.find(call)
    storage = call.object("storage")
    percent, step = storage.get("threshold_percent", 80), storage.get("increment_gib", 10)
    if not isinstance(storage.get("enabled"), bool) or not isinstance(percent, int) or not isinstance(step, int):
        raise invalid("storage.enabled is required; threshold_percent and increment_gib are whole numbers")
    if not 15 <= percent <= 95 or not 10 <= step <= 500:
        raise invalid("threshold_percent must be 15 to 95 and increment_gib 10 to 500")
    call.store.put("database", database["id"], {**database, "autoscale": {"storage": storage}})


@operation("databases_get_evictionPolicy", "databases_update_evictionPolicy")
def eviction_policy(call: Call) -> None:
    """Refuse: only caching clusters have an eviction policy."""
    CLUSTER.find(call)
    raise invalid("eviction policy is only supported for Caching and Valkey clusters")


@operation("databases_get_sql_mode", "databases_update_sql_mode")
def sql_mode(call: Call) -> None:
    """Refuse: only MySQL clusters have a SQL mode."""
    CLUSTER.find(call)
    raise invalid("SQL mode is only supported for MySQL clusters")


@operation("databases_list_events_logs")
def list_events(call: Call) -> Body:
    """List what happened to a cluster."""
    database = CLUSTER.find(call)
    return {"events": call.store.list("database_event", parent=database["id"])}
