"""Check the app's assertions on the restored copy: SQL queries, each of which must return true."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from ops.sources.postgres.tools import Connection, one_line

SECONDS = 300
"""Seconds that one query may take."""


def ask(connection: Connection, assertions: Sequence[str]) -> list[str]:
    """Run each query in a read-only transaction; return those that are not true, named by the query."""
    problems: list[str] = []
    connection.execute("SELECT pg_catalog.set_config('statement_timeout', %s, false)", [f"{SECONDS}s"])
    for query in assertions:
        try:
            with connection.transaction():
                connection.execute("SET TRANSACTION READ ONLY")
                answer = connection.execute(query.encode()).fetchmany(2)
        except psycopg.Error as error:
            problems.append(f"{one_line(query)}: {one_line(error)}")
            continue
        if len(answer) != 1 or answer[0][0] is not True:
            found = f"returned {answer[0][0]}" if len(answer) == 1 else f"returned {len(answer) or 'no'} rows"
            problems.append(f"{one_line(query)}: {found.replace('None', 'null')}, not true")
    return problems
