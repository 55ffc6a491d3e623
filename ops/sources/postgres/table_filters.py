"""Choose the tables whose rows are dumped, by the patterns of a stack file. All definitions are dumped.

So a copy can always be made with stock tools only, and has every table, type, view and index; those left out are
empty in it. This requires that no dumped row refers to a row that is not dumped: other patterns are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from psycopg.sql import Identifier

from ops.core.errors import SourceError
from ops.repository.records import takes
from ops.sources.postgres.catalog_queries import Table
from ops.sources.postgres.tools import Connection, Endpoint

_LINKS: LiteralString = """
SELECT k.conrelid, k.confrelid, k.conname FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class t ON t.oid = k.conrelid JOIN pg_catalog.pg_class r ON r.oid = k.confrelid
WHERE k.contype = 'f' AND k.convalidated AND t.relkind = 'r' AND r.relkind = 'r' ORDER BY 1, 2
"""
"""Foreign keys as (table, table it refers to, name), each partition separately."""


def is_taken(table: Table, only: Sequence[str], without: Sequence[str]) -> bool:
    """Return True if the rows of a table or partition are dumped: a pattern may match it or its root."""
    names = (table.name, table.root)
    return (not only or any(takes(name, only, ()) for name in names)) and all(
        takes(name, (), without) for name in names
    )


def taken(
    connection: Connection, endpoint: Endpoint, found: Sequence[Table], only: Sequence[str], without: Sequence[str]
) -> list[Table]:
    """Return the tables and partitions whose rows are dumped; see `ops.repository.records.takes`.

    Raises:
        SourceError: a pattern of `only` matches no table, or a table refers to one whose rows are left out.
    """
    tables = [table for table in found if table.kind == "r"]
    for pattern in only:
        if not any(is_taken(table, (pattern,), ()) for table in found if table.kind in "rp"):
            raise SourceError(
                f"{endpoint}: there is no table {pattern}: correct `include` under backup.tables of the stack file"
            )
    kept = {table.oid: table for table in tables if is_taken(table, only, without)}
    if len(kept) < len(tables):
        left = {table.oid: table for table in tables if table.oid not in kept}
        for table, other, link in connection.execute(_LINKS).fetchall():
            if table in kept and other in left:
                raise SourceError(
                    f"{endpoint}: backup.tables of the stack file leaves the rows of {left[other].name} out, and "
                    f"{kept[table].name} refers to them ({link}), so no restore could be complete: "
                    f"back {left[other].name} up too, or leave {kept[table].name} out"
                )
    return list(kept.values())


def options(left: Sequence[Table], only: Sequence[str]) -> list[str]:
    """Return pg_dump's options to omit the rows of these tables, and large objects if `only` names tables."""
    return [f"--exclude-table-data={Identifier(table.schema, table.table).as_string()}" for table in left] + (
        ["--no-blobs"] if only else []
    )
