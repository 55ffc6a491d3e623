"""The settings of a PostgreSQL cluster that the API lets one change, and what they are called in postgresql.conf.

Names and bounds are those of the API description (`postgres_advanced_config`).
"""

from __future__ import annotations

from typing import Any

from sandbox.api.context import invalid
from sandbox.store import Record

# What a setting may be: least and most of a number, one of some words, a truth value or any text.
_SETTINGS: dict[str, tuple[float, float] | tuple[str, ...] | type] = {
    "autovacuum_freeze_max_age": (200000000, 1500000000),
    "autovacuum_max_workers": (1, 20),
    "autovacuum_naptime": (0, 86400),
    "autovacuum_vacuum_threshold": (0, 2147483647),
    "autovacuum_analyze_threshold": (0, 2147483647),
    "autovacuum_vacuum_scale_factor": (0, 1),
    "autovacuum_analyze_scale_factor": (0, 1),
    "autovacuum_vacuum_cost_delay": (-1, 100),
    "autovacuum_vacuum_cost_limit": (-1, 10000),
    "backup_hour": (0, 23),
    "backup_minute": (0, 59),
    "bgwriter_delay": (10, 10000),
    "bgwriter_flush_after": (0, 2048),
    "bgwriter_lru_maxpages": (0, 1073741823),
    "bgwriter_lru_multiplier": (0, 10),
    "deadlock_timeout": (500, 1800000),
    "default_toast_compression": ("lz4", "pglz"),
    "idle_in_transaction_session_timeout": (0, 604800000),
    "jit": bool,
    "log_autovacuum_min_duration": (-1, 2147483647),
    "log_error_verbosity": ("TERSE", "DEFAULT", "VERBOSE"),
    "log_line_prefix": (
        "pid=%p,user=%u,db=%d,app=%a,client=%h",
        "%m [%p] %q[user=%u,db=%d,app=%a]",
        "%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h",
    ),
    "log_min_duration_statement": (-1, 86400000),
    "max_files_per_process": (1000, 4096),
    "max_prepared_transactions": (0, 10000),
    "max_pred_locks_per_transaction": (64, 640),
    "max_locks_per_transaction": (64, 6400),
    "max_stack_depth": (2097152, 6291456),
    "max_standby_archive_delay": (1, 43200000),
    "max_standby_streaming_delay": (1, 43200000),
    "max_replication_slots": (8, 64),
    "max_logical_replication_workers": (4, 64),
    "max_parallel_workers": (0, 96),
    "max_parallel_workers_per_gather": (0, 96),
    "max_worker_processes": (8, 96),
    "pg_partman_bgw.role": str,
    "pg_partman_bgw.interval": (3600, 604800),
    "pg_stat_statements.track": ("all", "top", "none"),
    "temp_file_limit": (-1, 2147483647),
    "timezone": str,
    "track_activity_query_size": (1024, 10240),
    "track_commit_timestamp": ("off", "on"),
    "track_functions": ("all", "pl", "none"),
    "track_io_timing": ("off", "on"),
    "max_wal_senders": (20, 64),
    "wal_sender_timeout": (0, 10800000),
    "wal_writer_delay": (10, 200),
    "shared_buffers_percentage": (20.0, 60.0),
    "work_mem": (1, 1024),
    "synchronous_replication": ("off", "quorum"),
    "stat_monitor_enable": bool,
    "max_failover_replication_time_lag": (10, 2147483647),
    "max_connections": (25, 2147483647),
    "max_slot_wal_keep_size": (-1, 2147483647),
}
_GROUPS = ("pgbouncer", "timescaledb")

# Settings of the API that are none of PostgreSQL's own, or that stand for another one.
_NOT_POSTGRES = frozenset(
    {"backup_hour", "backup_minute", "stat_monitor_enable", "synchronous_replication", "shared_buffers_percentage"}
    | {"max_failover_replication_time_lag", "pg_partman_bgw.role", "pg_partman_bgw.interval", *_GROUPS}
)
# Numbers that are in another unit than PostgreSQL's own.
_UNITS = {"work_mem": "MB", "max_stack_depth": "B"}


def check_config(given: Record) -> None:
    """Refuse settings that do not exist or are out of bounds; null puts one back to its default.

    Raises:
        ApiError: 422.
    """
    for name, value in given.items():
        allowed = _SETTINGS.get(name)
        if value is None or (name in _GROUPS and isinstance(value, dict)):
            continue
        if allowed is None:
            raise invalid(f"invalid config: {name} is not a setting of pg clusters")
        if not _fits(value, allowed):
            limits = allowed if isinstance(allowed, type) else _words(allowed)
            raise invalid(f"invalid config: {name} must be {limits}")


def _words(allowed: tuple[Any, ...]) -> str:
    return (" to " if _is_range(allowed) else " or ").join(map(str, allowed))


def _is_range(allowed: Any) -> bool:
    return isinstance(allowed, tuple) and not isinstance(allowed[0], str)


def _fits(value: Any, allowed: Any) -> bool:
    if isinstance(allowed, type):
        return isinstance(value, allowed)
    if _is_range(allowed):
        return isinstance(value, (int, float)) and not isinstance(value, bool) and allowed[0] <= value <= allowed[1]
    return value in allowed


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
