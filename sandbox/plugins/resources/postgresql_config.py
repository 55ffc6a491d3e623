"""The configuration of a PostgreSQL cluster."""

from __future__ import annotations

from typing import Any, Final

from sandbox.plugins.fields import between, filled, one_of, snake
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.common import in_32_bits, shortest_in_32_bits
from sandbox.plugins.schema import how
from sandbox.plugins.values import Values

_ZERO: Final[dict[str, Any]] = {"int": 0, "float": 0, "string": "", "bool": False}
_WIRE: Final = {
    "pgPartmanBgwRole": "pg_partman_bgw.role",
    "pgPartmanBgwInterval": "pg_partman_bgw.interval",
    "pgStatStatementsTrack": "pg_stat_statements.track",
}


def _settings() -> dict[str, str]:
    """Return every setting of PostgreSQL's own, with its kind."""
    kinds = {key: part.kind for key, part in POSTGRESQL_CONFIG.fields.items()}
    return {key: kind for key, kind in kinds.items() if kind in _ZERO and key != "clusterId"}


def _bouncer() -> list[str]:
    return list(POSTGRESQL_CONFIG.fields["pgbouncers"].item.fields)


def _wire(key: str) -> str:
    return _WIRE.get(key, snake(key))


def _body(new: Values) -> Values:
    """Say what is given and not zero: the official provider sends nothing else. `jit` counts when it is false, too."""
    config: Values = {
        _wire(key): shortest_in_32_bits(new[key]) if kind == "float" else new[key]
        for key, kind in _settings().items()
        if new.get(key) or (key == "jit" and new.get(key) is not None)
    }
    if new.get("pgbouncers"):
        bouncer = new["pgbouncers"][0]
        config["pgbouncer"] = {snake(key): bouncer[key] for key in _bouncer() if bouncer.get(key) is not None}
    if new.get("timescaledbs"):
        config["timescaledb"] = {"max_background_workers": new["timescaledbs"][0].get("maxBackgroundWorkers") or 0}
    return {"config": config}


def _create(cloud: Cloud, new: Values) -> Made:
    cloud.rest.patch(f"/v2/databases/{new['clusterId']}/config", _body(new))
    return Made(f"{new['clusterId']}/postgresql-config")


def _read(cloud: Cloud, _: str, known: Values) -> Values | None:
    config = cloud.rest.find(f"/v2/databases/{known['clusterId']}/config", "config")
    if config is None:
        return None
    told: Values = {}
    for key, kind in _settings().items():
        value = config.get(_wire(key)) or _ZERO[kind]
        told[key] = in_32_bits(value) if kind == "float" else value
    if known.get("pgbouncers") and config.get("pgbouncer"):
        told["pgbouncers"] = [{key: config["pgbouncer"].get(snake(key)) for key in _bouncer()}]
    if known.get("timescaledbs") and config.get("timescaledb"):
        told["timescaledbs"] = [{"maxBackgroundWorkers": config["timescaledb"].get("max_background_workers")}]
    return told


def _update(cloud: Cloud, change: Change) -> None:
    cloud.rest.patch(f"/v2/databases/{change.new['clusterId']}/config", _body(change.new))


_COMPUTED: Final = how(computed=True)
_ON_OFF: Final = how(computed=True, check=one_of("off", "on"))
POSTGRESQL_CONFIG: Final = Resource(
    name="DatabasePostgresqlConfig",
    properties={
        "clusterId": how(replace=True, check=filled),
        "sharedBuffersPercentage": how(computed=True, check=between(20, 60)),
        "defaultToastCompression": how(computed=True, check=one_of("lz4", "pglz")),
        "logErrorVerbosity": how(computed=True, check=one_of("TERSE", "DEFAULT", "VERBOSE")),
        "logLinePrefix": how(
            computed=True,
            check=one_of(
                "pid=%p,user=%u,db=%d,app=%a,client=%h",
                "%m [%p] %q[user=%u,db=%d,app=%a]",
                "%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h",
            ),
        ),
        "trackCommitTimestamp": _ON_OFF,
        "trackFunctions": how(computed=True, check=one_of("all", "pl", "none")),
        "trackIoTiming": _ON_OFF,
        "pgbouncers": how(
            computed=True,
            inner={"ignoreStartupParameters": how(unordered=True, computed=True)},
            others=_COMPUTED,
        ),
        "timescaledbs": how(computed=True),
    },
    others=_COMPUTED,
    create=_create,
    read=_read,
    update=_update,
    # The official provider forgets it; what was set in the cluster stays.
    delete=lambda _cloud, _id, _known: None,
    find=lambda _, id_: (f"{id_}/postgresql-config", {"clusterId": id_}),
)

RESOURCES = (POSTGRESQL_CONFIG,)
