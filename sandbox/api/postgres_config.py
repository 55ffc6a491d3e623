"""The settings of a PostgreSQL cluster that the API lets one change, and what they are called in postgresql.conf.

Names, types and bounds are those of the API description (`postgres_config.json`, of `tools.api_description`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sandbox.api.context import invalid
from sandbox.store import Record

_SETTINGS: dict[str, Record] = json.loads((Path(__file__).parent / "postgres_config.json").read_text())
_TYPES: dict[str, type | tuple[type, ...]] = {
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "string": str,
}

# Settings of the API that are none of PostgreSQL's own, or that stand for another one.
_NOT_POSTGRES = frozenset(
    {"backup_hour", "backup_minute", "stat_monitor_enable", "synchronous_replication", "shared_buffers_percentage"}
    | {
        "max_failover_replication_time_lag",
        "pg_partman_bgw.role",
        "pg_partman_bgw.interval",
        "pgbouncer",
        "timescaledb",
    }
)
# Numbers that are in another unit than PostgreSQL's own.
_UNITS = {"work_mem": "MB", "max_stack_depth": "B"}


def check_config(given: Record) -> None:
    """Refuse settings that do not exist or are out of bounds; null puts one back to its default.

    Raises:
        ApiError: 422.
    """
    for name, value in given.items():
        if name not in _SETTINGS:
            raise invalid(f"invalid config: {name} is not a setting of pg clusters")
        if value is not None and not _fits(value, _SETTINGS[name]):
            raise invalid(f"invalid config: {name} must be {_words(_SETTINGS[name])}")


def _fits(value: Any, setting: Record) -> bool:
    """Return True if a value is of the type, in the bounds and among the words of a setting."""
    if not isinstance(value, _TYPES[setting["type"]]) or isinstance(value, bool) != (setting["type"] == "boolean"):
        return False
    if not setting.get("minimum", value) <= value <= setting.get("maximum", value):
        return False
    return value in setting.get("enum", [value])


def _words(setting: Record) -> str:
    if words := setting.get("enum"):
        return " or ".join(words)
    bounds = [str(setting[bound]) for bound in ("minimum", "maximum") if bound in setting]
    return f"a value of the type {setting['type']}" + (f", {' to '.join(bounds)}" if bounds else "")


def postgres_settings(config: Record, memory: int) -> dict[str, str]:
    """Translate the API's configuration to postgresql.conf settings for a node of `memory` MiB."""
    settings: dict[str, str] = {}
    for name, value in config.items():
        if name not in _NOT_POSTGRES and value is not None:
            text = ("on" if value else "off") if isinstance(value, bool) else str(value)
            settings[name] = text + _UNITS.get(name, "")
    if share := config.get("shared_buffers_percentage"):
        settings["shared_buffers"] = f"{int(memory * float(share) / 100)}MB"
    return settings
