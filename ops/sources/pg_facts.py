"""What a PostgreSQL database holds, read in the transaction of the caller: definitions by name, content by hash.

Traps that are avoided here: a row filtered by row-level security would be missed without a word (`row_security = off`
makes it an error); a row's text depends on session settings (they are fixed); an enum hashes by its OID, which differs
after a restore, and an OID column likewise (such tables are hashed as text); a column may be called like the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, LiteralString, cast

from psycopg import sql
from psycopg.rows import dict_row

from ops.backup.records import Grant, SequenceState, TableFingerprint
from ops.sources.pg_tools import Connection

SESSION = """
SET row_security = off; SET statement_timeout = 0; SET lock_timeout = '60s';
SET idle_in_transaction_session_timeout = 0;
SET search_path = ''; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres';
SET extra_float_digits = 1; SET bytea_output = 'hex'; SET xmloption = 'content'; SET quote_all_identifiers = off;
"""

HASHABLE = (
    "bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "bpchar", "name", "char", "uuid",
    "bytea", "date", "time", "timetz", "timestamp", "timestamptz", "interval", "inet", "cidr", "macaddr", "macaddr8",
    "jsonb", "pg_lsn",
)  # fmt: skip  # a list, not a module
"""Types whose hash is the same on every server for the same value, and their arrays."""

_OWN_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_NOT_OF_EXTENSION = (
    "NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    " AND d.objid = c.oid AND d.deptype = 'e')"
)

_TABLES: LiteralString = f"""
SELECT n.nspname, c.relname, c.relkind::text AS kind,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AS readable,
       NOT EXISTS (
         SELECT FROM pg_catalog.pg_attribute a
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
         LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
           AND (coalesce(e.typname, t.typname)::text <> ALL (%(hashable)s)
                OR coalesce(e.typnamespace, t.typnamespace) <> 'pg_catalog'::pg_catalog.regnamespace
                OR NOT coalesce(l.collisdeterministic, true))
       ) AS hashable,
       pg_catalog.pg_table_size(c.oid) AS bytes
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'f') AND c.relpersistence <> 't' AND {_OWN_SCHEMA} AND {_NOT_OF_EXTENSION}
ORDER BY 1, 2
"""  # noqa: S608  # made of constants of this module


class Table:
    """A table as the catalogue shows it. `name` is quoted where PostgreSQL would quote it."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.schema: str = row["nspname"]
        self.table: str = row["relname"]
        self.kind: str = row["kind"]
        self.readable: bool = row["readable"]
        self.hashable: bool = row["hashable"]
        self.bytes: int = row["bytes"]

    @property
    def name(self) -> str:
        """The name with its schema."""
        return f"{self.schema}.{self.table}"


def tables(connection: Connection) -> list[Table]:
    """List ordinary tables and partitions ("r"), materialized views ("m") and foreign tables ("f") of the users."""
    return [Table(row) for row in _rows(connection, _TABLES, {"hashable": list(HASHABLE)})]


def fingerprint(connection: Connection, table: Table, server_major: int) -> TableFingerprint:
    """Count and hash one table, in any order of its rows."""
    as_record = table.hashable and server_major >= 14  # hash_record_extended came with 14
    row = sql.Identifier("ancla:row")  # `row.*` is the whole row even where a column has that very name
    expression = (
        sql.SQL("pg_catalog.hash_record_extended({row}.*, 0)")
        if as_record
        else sql.SQL("pg_catalog.hashtextextended(({row}.*)::pg_catalog.text, 0)")
    ).format(row=row)
    query = sql.SQL(
        "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum({hash}), 0)::pg_catalog.text FROM ONLY {table} AS {row}"
    ).format(hash=expression, table=sql.Identifier(table.schema, table.table), row=row)
    counted = connection.execute(query).fetchone()
    assert counted is not None  # noqa: S101  # an aggregate always gives a row
    return TableFingerprint(
        table=table.name, rows=counted[0], method="record" if as_record else "text", hash=str(counted[1])
    )


def large_objects(connection: Connection) -> TableFingerprint | None:
    """Count and hash the large objects; None when there are none."""
    counted = connection.execute(
        "SELECT count(*), coalesce(sum(hashtextextended(oid::text || md5(lo_get(oid)), 0)), 0)::text"
        " FROM pg_catalog.pg_largeobject_metadata"
    ).fetchone()
    if counted is None or counted[0] == 0:
        return None
    return TableFingerprint(table="(large objects)", rows=counted[0], method="text", hash=str(counted[1]))


def sequences(connection: Connection) -> list[SequenceState]:
    """Read the sequences of the users."""
    query: LiteralString = f"""
    SELECT n.nspname || '.' || c.relname AS name, s.seqincrement AS increment,
           pg_catalog.pg_sequence_last_value(c.oid) AS last
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
    WHERE {_OWN_SCHEMA} AND {_NOT_OF_EXTENSION} AND c.relpersistence <> 't' ORDER BY 1
    """  # noqa: S608  # made of constants of this module
    return [
        SequenceState(sequence=row["name"], last_value=row["last"], increment=row["increment"])
        for row in _rows(connection, query)
    ]


def unreadable(connection: Connection) -> list[str]:
    """Name what this role cannot read, so that pg_dump would stop there."""
    found = [table.name for table in tables(connection) if table.kind == "r" and not table.readable]
    query: LiteralString = f"""
    SELECT n.nspname || '.' || c.relname AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('S', 'p') AND {_OWN_SCHEMA} AND {_NOT_OF_EXTENSION} AND c.relpersistence <> 't'
      AND NOT CASE c.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
                             ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END
    UNION ALL
    SELECT n.nspname || ' (schema)' FROM pg_catalog.pg_namespace n
    WHERE {_OWN_SCHEMA} AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') ORDER BY 1
    """  # noqa: S608  # made of constants of this module
    return found + [row["name"] for row in _rows(connection, query)]


def roles(connection: Connection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (owners, all roles) that objects of this database name; PostgreSQL's own roles are left out."""
    query: LiteralString = """
    SELECT r.rolname AS name, bool_or(d.deptype = 'o') AS owner
    FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
    WHERE d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      AND d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND r.rolname !~ '^pg_'
    GROUP BY 1 ORDER BY 1
    """
    found = list(_rows(connection, query))
    return tuple(row["name"] for row in found if row["owner"]), tuple(row["name"] for row in found)


def extensions(connection: Connection) -> tuple[str, ...]:
    """Name the extensions beside plpgsql."""
    query: LiteralString = "SELECT extname AS name FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql' ORDER BY 1"
    return tuple(row["name"] for row in _rows(connection, query))


def unsound(connection: Connection) -> tuple[str, ...]:
    """Name constraints that were never validated, and indexes that are not valid."""
    query: LiteralString = f"""
    SELECT 'constraint ' || n.nspname || '.' || c.relname || '.' || k.conname || ' is not validated' AS name
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE NOT k.convalidated AND {_OWN_SCHEMA}
    UNION ALL
    SELECT 'index ' || n.nspname || '.' || c.relname || ' is not valid'
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND {_OWN_SCHEMA} ORDER BY 1
    """  # noqa: S608  # made of constants of this module
    return tuple(row["name"] for row in _rows(connection, query))


def database_facts(connection: Connection) -> dict[str, Any]:
    """Read what pg_dump leaves out without --create: locale, grants and options of the database itself."""
    query: LiteralString = """
    SELECT pg_catalog.pg_encoding_to_char(encoding) AS encoding, datcollate::text AS "collate", datctype::text AS ctype,
           pg_catalog.pg_database_size(oid) AS bytes
    FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
    """
    facts = next(_rows(connection, query))
    grants: LiteralString = """
    SELECT coalesce(r.rolname, '') AS grantee, array_agg(x.privilege_type::text ORDER BY 1) AS privileges
    FROM pg_catalog.pg_database d, pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) x
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee
    WHERE d.datname = pg_catalog.current_database() AND x.grantee <> d.datdba GROUP BY 1 ORDER BY 1
    """
    options: LiteralString = """
    SELECT unnest(s.setconfig) AS option FROM pg_catalog.pg_db_role_setting s
    JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
    WHERE s.setrole = 0 AND d.datname = pg_catalog.current_database() ORDER BY 1
    """
    facts["grants"] = tuple(
        Grant(grantee=row["grantee"], privileges=tuple(row["privileges"])) for row in _rows(connection, grants)
    )
    facts["options"] = tuple(row["option"] for row in _rows(connection, options))
    return facts


def free_connections(connection: Connection) -> tuple[int, int]:
    """Return how many more connections this role may open to this database, and how many the server allows in all."""
    query: LiteralString = """
    SELECT pg_catalog.current_setting('max_connections')::int AS most,
           least(
             pg_catalog.current_setting('max_connections')::int
               - pg_catalog.current_setting('superuser_reserved_connections')::int
               - (SELECT sum(numbackends) FROM pg_catalog.pg_stat_database),
             CASE WHEN d.datconnlimit >= 0 THEN d.datconnlimit - s.numbackends END,
             CASE WHEN r.rolconnlimit >= 0
                  THEN r.rolconnlimit - (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid)
             END
           )::int AS free
    FROM pg_catalog.pg_database d JOIN pg_catalog.pg_stat_database s ON s.datid = d.oid
    JOIN pg_catalog.pg_roles r ON r.rolname = current_user
    WHERE d.datname = pg_catalog.current_database()
    """
    row = next(_rows(connection, query))
    return row["free"], row["most"]


def is_empty(connection: Connection) -> bool:
    """Say whether the database holds no table, view, sequence, function, type or schema of a user."""
    query: LiteralString = f"""
    SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                       WHERE {_OWN_SCHEMA} AND {_NOT_OF_EXTENSION})
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE {_OWN_SCHEMA} AND n.nspname <> 'public')
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata) AS empty
    """  # noqa: S608  # made of constants of this module
    return bool(next(_rows(connection, query))["empty"])


def _rows(
    connection: Connection, query: LiteralString, parameters: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        yield from cast("Iterator[dict[str, Any]]", cursor.execute(query, parameters))
