"""Write and read the canary: one row with a time in a live database, by which a drill measures the data lost.

A snapshot's time tells what should be in a backup; the canary's time in the restored copy tells what is. It is
off until somebody (a timer, a person) runs `ops backup canary`.
"""

from __future__ import annotations

from datetime import datetime

import psycopg
from psycopg import sql

from ops.core.errors import SourceError
from ops.sources.postgres.tools import Connection, Endpoint, one_line

TABLE = "ancla.canary"

_MAKE = """
CREATE SCHEMA IF NOT EXISTS ancla;
CREATE TABLE IF NOT EXISTS ancla.canary (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    written_at timestamptz NOT NULL
);
COMMENT ON TABLE ancla.canary IS 'Written by ops backup canary; a restore drill measures by it what would be lost.';
"""
_WRITE = (
    "INSERT INTO ancla.canary (written_at) VALUES (clock_timestamp())"
    " ON CONFLICT (one) DO UPDATE SET written_at = excluded.written_at RETURNING written_at"
)


def write_canary(database: Endpoint, reader: str) -> datetime:
    """Write the row, creating its table if needed; returns its time.

    Args:
        database: a role that may create a schema there.
        reader: the app's role, which dumps the database and must be able to read all of it.

    Raises:
        SourceError: no connection, or no permission.
    """
    role = sql.Identifier(reader)
    with database.connect(autocommit=False) as connection:
        try:
            if connection.execute("SELECT pg_catalog.to_regclass(%s)", [TABLE]).fetchone() == (None,):
                connection.execute(_MAKE)
                connection.execute(sql.SQL("GRANT USAGE ON SCHEMA ancla TO {}").format(role))
                connection.execute(sql.SQL("GRANT SELECT ON ancla.canary TO {}").format(role))
            row = connection.execute(_WRITE).fetchone()
        except psycopg.Error as error:
            raise SourceError(f"{database}: the canary cannot be written: {one_line(error)}") from None
    if row is None:
        raise SourceError(f"{database}: the canary was not written")
    return row[0]


def read_canary(connection: Connection) -> datetime | None:
    """Return the row's time; None if there is none."""
    if connection.execute("SELECT pg_catalog.to_regclass(%s)", [TABLE]).fetchone() == (None,):
        return None
    row = connection.execute("SELECT max(written_at) FROM ancla.canary").fetchone()
    return None if row is None else row[0]
