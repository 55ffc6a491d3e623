"""Identify a server, and describe its databases: a fork has the live server's data, but is another server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

import psycopg

from ops.core.errors import SourceError
from ops.sources.postgres.tools import Connection


@dataclass(frozen=True, kw_only=True)
class Identity:
    """PostgreSQL's own: `system` comes from initdb and is copied with the data, `timeline` grows at a promote."""

    system: str
    timeline: int


def identity(connection: Connection) -> Identity:
    """Read a server's identity.

    Raises:
        SourceError: the role may not read it.
    """
    query: LiteralString = (
        "SELECT system_identifier::text, pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn())"
        " FROM pg_catalog.pg_control_system()"
    )
    row = connection.execute(query).fetchone()
    if row is None:
        raise SourceError("pg_control_system gave nothing")
    return Identity(system=str(row[0]), timeline=int(str(row[1])[:8], 16))


def newest_commit(connection: Connection) -> datetime | None:
    """Return the time of the last commit that recovery replayed; None if the server has been restarted since."""
    row = connection.execute("SELECT pg_catalog.pg_last_xact_replay_timestamp()").fetchone()
    return row[0] if row else None


@contextmanager
def marked(connection: Connection) -> Generator[Callable[[Connection], bool]]:
    """Mark a running server by an advisory lock with a random key; yields a function that detects the mark.

    Nothing is written, and the mark is gone with the block. A timeline is no proof: live and an old fork may both be
    the second of the first.
    """
    mark = (secrets.randbelow(2**31), secrets.randbelow(2**31))

    def seen(other: Connection) -> bool:
        query: LiteralString = (
            "SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND (classid, objid) = (%s, %s)"
        )
        return other.execute(query, mark).fetchone() is not None

    connection.execute("SELECT pg_catalog.pg_advisory_lock(%s, %s)", mark)
    try:
        yield seen
    finally:
        with suppress(psycopg.OperationalError):  # a connection that broke took the mark with it
            connection.execute("SELECT pg_catalog.pg_advisory_unlock(%s, %s)", mark)


_SCHEMA: LiteralString = """
SELECT n.nspname || '.' || c.relname AS name,
  coalesce((SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
                              || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END, ', ' ORDER BY a.attnum)
            FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '')
  || coalesce((SELECT '; ' || string_agg(pg_get_constraintdef(k.oid), ', ' ORDER BY k.conname)
               FROM pg_constraint k WHERE k.conrelid = c.oid), '')
  || coalesce((SELECT '; ' || string_agg(pg_get_indexdef(i.indexrelid), ', ' ORDER BY i.indexrelid::regclass::text)
               FROM pg_index i WHERE i.indrelid = c.oid), '') AS definition
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL SELECT 'extension ' || extname, extversion FROM pg_extension
ORDER BY 1
"""


def schema(connection: Connection) -> dict[str, str]:
    """Describe tables, views and sequences (columns, constraints, indexes), and extensions, by their names."""
    return {str(name): str(definition) for name, definition in connection.execute(_SCHEMA).fetchall()}


def schema_differences(live: dict[str, str], fork: dict[str, str]) -> list[str]:
    """List what is missing on one side, or differs."""
    found: list[str] = []
    for name in sorted(live.keys() | fork.keys()):
        if name not in fork:
            found.append(f"{name}: live, and not in the fork")
        elif name not in live:
            found.append(f"{name}: in the fork, and not live any more")
        elif live[name] != fork[name]:
            found.append(f"{name}: defined otherwise")
    return found
