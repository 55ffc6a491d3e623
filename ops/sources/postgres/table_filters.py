"""Of which tables the rows are dumped: by the patterns that a stack file gives. What is defined is dumped of all.

So a copy can always be made with the tools alone, and it has every table, type, view and index; those left out are
empty in it. That holds while no row that is dumped refers to one that is not: such patterns are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from psycopg.sql import Identifier

from ops.core.errors import SourceError
from ops.repository.records import TableFingerprint, takes
from ops.sources.postgres.catalog_queries import Table
from ops.sources.postgres.tools import Connection, Endpoint

_LINKS: LiteralString = """
SELECT a.nspname || '.' || t.relname, b.nspname || '.' || r.relname, k.conname
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class t ON t.oid = k.conrelid JOIN pg_catalog.pg_namespace a ON a.oid = t.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = k.confrelid JOIN pg_catalog.pg_namespace b ON b.oid = r.relnamespace
WHERE k.contype = 'f' AND k.convalidated AND t.relkind = 'r' AND r.relkind = 'r' ORDER BY 1, 2
"""
"""Foreign keys as (table, table it refers to, name), of partitions each by itself."""


def taken(
    connection: Connection, endpoint: Endpoint, found: Sequence[Table], only: Sequence[str], without: Sequence[str]
) -> list[Table]:
    """Return the tables whose rows are dumped; see `ops.repository.records.takes`.

    Raises:
        SourceError: a pattern of `only` fits no table, or a table refers to one whose rows stay out.
    """
    tables = [table for table in found if table.kind == "r"]
    for pattern in only:
        if not any(takes(table.name, (pattern,), ()) for table in tables):
            raise SourceError(
                f"{endpoint}: there is no table {pattern}: correct `include` under backup.tables of the stack file"
            )
    kept = [table for table in tables if takes(table.name, only, without)]
    names = {table.plain for table in kept}
    if len(kept) < len(tables):
        all_names = {table.plain for table in tables}
        for table, other, link in connection.execute(_LINKS).fetchall():
            if table in names and other in all_names - names:
                raise SourceError(
                    f"{endpoint}: backup.tables of the stack file leaves the rows of {other} out, and {table} "
                    f"refers to them ({link}), so no restore could be whole: back {other} up too, or leave {table} out"
                )
    return kept


def options(left: Sequence[Table], only: Sequence[str]) -> list[str]:
    """Return what tells pg_dump to dump no rows of these tables, and no large objects where `only` names tables."""
    return [f"--exclude-table-data={Identifier(table.schema, table.table).as_string()}" for table in left] + (
        ["--no-blobs"] if only else []
    )


def empty(table: Table, *, as_record: bool) -> TableFingerprint:
    """Return what a table is like in a copy without its rows."""
    return TableFingerprint(table=table.name, rows=0, method="record" if as_record else "text", hash="0")
