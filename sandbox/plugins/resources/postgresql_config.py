"""The configuration of a PostgreSQL cluster."""

from __future__ import annotations

from typing import Final

from sandbox.plugins.fields import Field, between, boolean, filled, list_of, one_of, record, set_of, snake, string
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.common import in_32_bits, shortest_in_32_bits
from sandbox.plugins.values import Values

# Property and type, in the order of the official provider's schema.
_INTEGERS: Final = [
    "autovacuumFreezeMaxAge",
    "autovacuumMaxWorkers",
    "autovacuumNaptime",
    "autovacuumVacuumThreshold",
    "autovacuumAnalyzeThreshold",
    "autovacuumVacuumCostDelay",
    "autovacuumVacuumCostLimit",
    "bgwriterDelay",
    "bgwriterFlushAfter",
    "bgwriterLruMaxpages",
    "deadlockTimeout",
    "idleInTransactionSessionTimeout",
    "logAutovacuumMinDuration",
    "logMinDurationStatement",
    "maxFilesPerProcess",
    "maxPreparedTransactions",
    "maxPredLocksPerTransaction",
    "maxLocksPerTransaction",
    "maxStackDepth",
    "maxStandbyArchiveDelay",
    "maxStandbyStreamingDelay",
    "maxReplicationSlots",
    "maxLogicalReplicationWorkers",
    "maxParallelWorkers",
    "maxParallelWorkersPerGather",
    "maxWorkerProcesses",
    "pgPartmanBgwInterval",
    "tempFileLimit",
    "trackActivityQuerySize",
    "maxWalSenders",
    "walSenderTimeout",
    "walWriterDelay",
    "backupHour",
    "backupMinute",
    "workMem",
]
_FLOATS: Final = [
    "autovacuumVacuumScaleFactor",
    "autovacuumAnalyzeScaleFactor",
    "bgwriterLruMultiplier",
    "sharedBuffersPercentage",
]
_TEXTS: Final = {
    "defaultToastCompression": one_of("lz4", "pglz"),
    "logErrorVerbosity": one_of("TERSE", "DEFAULT", "VERBOSE"),
    "logLinePrefix": one_of(
        "pid=%p,user=%u,db=%d,app=%a,client=%h",
        "%m [%p] %q[user=%u,db=%d,app=%a]",
        "%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h",
    ),
    "pgPartmanBgwRole": None,
    "pgStatStatementsTrack": None,
    "timezone": None,
    "trackCommitTimestamp": one_of("off", "on"),
    "trackFunctions": one_of("all", "pl", "none"),
    "trackIoTiming": one_of("off", "on"),
}
_WIRE: Final = {
    "pgPartmanBgwRole": "pg_partman_bgw.role",
    "pgPartmanBgwInterval": "pg_partman_bgw.interval",
    "pgStatStatementsTrack": "pg_stat_statements.track",
}
_BOUNCER: Final = {
    "serverResetQueryAlways": Field(kind="bool", computed=True),
    "ignoreStartupParameters": set_of(string(), computed=True),
    "minPoolSize": Field(kind="int", computed=True),
    "serverLifetime": Field(kind="int", computed=True),
    "serverIdleTimeout": Field(kind="int", computed=True),
    "autodbPoolSize": Field(kind="int", computed=True),
    "autodbPoolMode": Field(computed=True),
    "autodbMaxDbConnections": Field(kind="int", computed=True),
    "autodbIdleTimeout": Field(kind="int", computed=True),
}


def _wire(key: str) -> str:
    return _WIRE.get(key, snake(key))


def _body(new: Values) -> Values:
    """Say what is given and not zero: the official provider sends nothing else. `jit` counts when it is false, too."""
    config: Values = {_wire(key): new[key] for key in (*_INTEGERS, *_TEXTS) if new.get(key)}
    config |= {_wire(key): shortest_in_32_bits(new[key]) for key in _FLOATS if new.get(key)}
    if new.get("jit") is not None:
        config["jit"] = new["jit"]
    if new.get("pgbouncers"):
        bouncer = new["pgbouncers"][0]
        config["pgbouncer"] = {snake(key): bouncer[key] for key in _BOUNCER if bouncer.get(key) is not None}
    if new.get("timescaledbs"):
        config["timescaledb"] = {"max_background_workers": new["timescaledbs"][0].get("maxBackgroundWorkers") or 0}
    return {"config": config}


def _create(cloud: Cloud, new: Values) -> Made:
    cloud.rest.patch(f"/v2/databases/{new['clusterId']}/config", _body(new))
    return Made(f"{new['clusterId']}/postgresql-config")


def _read(cloud: Cloud, _: str, known: Values) -> Values | None:
    answer = cloud.rest.find(f"/v2/databases/{known['clusterId']}/config")
    if answer is None:
        return None
    config = answer["config"]
    told: Values = {key: config.get(_wire(key)) or 0 for key in _INTEGERS}
    told |= {key: config.get(_wire(key)) or "" for key in _TEXTS}
    told |= {key: in_32_bits(config.get(_wire(key)) or 0) for key in _FLOATS}
    told["jit"] = bool(config.get("jit"))
    if known.get("pgbouncers") and config.get("pgbouncer"):
        told["pgbouncers"] = [{key: config["pgbouncer"].get(snake(key)) for key in _BOUNCER}]
    if known.get("timescaledbs") and config.get("timescaledb"):
        told["timescaledbs"] = [{"maxBackgroundWorkers": config["timescaledb"].get("max_background_workers")}]
    return told


def _update(cloud: Cloud, change: Change) -> None:
    cloud.rest.patch(f"/v2/databases/{change.new['clusterId']}/config", _body(change.new))


POSTGRESQL_CONFIG = Resource(
    name="DatabasePostgresqlConfig",
    fields={
        "clusterId": string(required=True, replace=True, check=filled),
        **{key: Field(kind="int", computed=True) for key in _INTEGERS},
        **{
            key: Field(
                kind="float",
                computed=True,
                check=between(20, 60) if key == "sharedBuffersPercentage" else None,
            )
            for key in _FLOATS
        },
        **{key: Field(computed=True, check=check) for key, check in _TEXTS.items()},
        "jit": boolean(computed=True),
        "pgbouncers": list_of(record(_BOUNCER), computed=True),
        "timescaledbs": list_of(record({"maxBackgroundWorkers": Field(kind="int")}), computed=True),
    },
    create=_create,
    read=_read,
    update=_update,
    # The official provider forgets it; what was set in the cluster stays.
    delete=lambda _cloud, _id, _known: None,
    find=lambda _, id_: (f"{id_}/postgresql-config", {"clusterId": id_}),
)

RESOURCES = (POSTGRESQL_CONFIG,)
