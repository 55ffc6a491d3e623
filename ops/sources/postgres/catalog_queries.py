"""Read what a PostgreSQL database holds in the transaction of the caller: definitions by name, content by hash.

Traps that are avoided here: a row filtered by row-level security would be missed silently (`row_security = off`
makes it an error); a row's text depends on session settings (they are fixed); an enum hashes by its OID, which differs
after a restore, and an OID column likewise (such tables are hashed as text); a column may be called like the table;
which partition holds a row, and the order of columns, may change in a restore (rows are compared by the root of the
partition tree and by the columns' names); a table's own row type may have a cast of its owner's (rows are anonymous).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, LiteralString, NamedTuple, cast

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from ops.repository.records import SequenceState, TableFingerprint
from ops.sources.postgres.tools import Connection, timeouts

SESSION: LiteralString = """
SET row_security = off; SET lock_timeout = '60s'; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres'; SET extra_float_digits = 1; SET bytea_output = 'hex'; SET xmloption = 'content';
SET quote_all_identifiers = off
"""
"""Settings of sessions that read, in addition to the timeouts."""

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

_CATALOGS: tuple[tuple[LiteralString, LiteralString, LiteralString, LiteralString], ...] = (
    (
        "pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relpersistence <> 't'",
        "relowner",
        "relacl",
        "false",
    ),
    ("pg_namespace WHERE nspname !~ '^pg_'", "nspowner", "nspacl", "false"),
    (
        "pg_proc p JOIN pg_catalog.pg_language l ON l.oid = prolang",
        "proowner",
        "proacl",
        "NOT lanpltrusted",
    ),
    ("pg_type p", "typowner", "typacl", "typtype = 'b' AND typelem = 0"),
    ("pg_largeobject_metadata", "lomowner", "lomacl", "false"),
    ("pg_default_acl", "defaclrole", "defaclacl", "true"),
    ("pg_foreign_data_wrapper", "fdwowner", "fdwacl", "true"),
    ("pg_foreign_server", "srvowner", "srvacl", "true"),
    ("pg_language", "lanowner", "lanacl", "true"),
    ("pg_operator", "oprowner", "NULL", "false"),
    ("pg_opclass", "opcowner", "NULL", "true"),
    ("pg_opfamily", "opfowner", "NULL", "true"),
    ("pg_collation", "collowner", "NULL", "false"),
    ("pg_conversion", "conowner", "NULL", "false"),
    ("pg_ts_config", "cfgowner", "NULL", "false"),
    ("pg_ts_dict", "dictowner", "NULL", "false"),
    ("pg_statistic_ext", "stxowner", "NULL", "false"),
    ("pg_publication", "pubowner", "NULL", "true"),
)
"""Where the server stores objects with owners: catalogue, owner, grants, and which a restore can do without.

Only a superuser can often make these: no rows depend on a publication or on a foreign server.
"""

_OBJECTS: LiteralString = " UNION ALL ".join(
    f"SELECT {'p.' if ' p' in catalog else ''}tableoid AS class, {'p.' if ' p' in catalog else ''}oid AS oid,"  # noqa: S608  # made of constants
    f" {owner} AS owner, {acl}::pg_catalog.aclitem[] AS acl, {special} AS special FROM pg_catalog.{catalog}"
    for catalog, owner, acl, special in _CATALOGS
)

_MADE_BY_USERS = (
    "o.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"
    " WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype IN ('e', 'i'))"
)
"""Objects made by users: not the server's, an extension's (whose owner often differs), or a part of another object."""

_OWNERS: LiteralString = f"""
SELECT r.rolname::text AS name, bool_and(o.special) AS special,
       array_agg(pg_catalog.pg_describe_object(o.class, o.oid, 0) ORDER BY 1) FILTER (WHERE o.special) AS objects
FROM ({_OBJECTS}) o JOIN pg_catalog.pg_roles r ON r.oid = o.owner
WHERE {_MADE_BY_USERS} AND r.rolname !~ '^pg_' GROUP BY 1 ORDER BY 1
"""  # noqa: S608  # made of constants of this module

_ROLES: LiteralString = f"""
WITH o AS (SELECT * FROM ({_OBJECTS}) o WHERE {_MADE_BY_USERS}),
named (role) AS (
  SELECT refobjid FROM pg_catalog.pg_shdepend
  WHERE dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    AND refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
    AND classid NOT IN (  -- never restored, or without an owner in a dump
      'pg_catalog.pg_event_trigger'::pg_catalog.regclass, 'pg_catalog.pg_extension'::pg_catalog.regclass
    )
  UNION ALL SELECT owner FROM o
  UNION ALL SELECT x.grantee FROM o, pg_catalog.aclexplode(o.acl) x
  UNION ALL SELECT x.grantee FROM o JOIN pg_catalog.pg_attribute a ON a.attrelid = o.oid,
    pg_catalog.aclexplode(a.attacl) x WHERE o.class = 'pg_catalog.pg_class'::pg_catalog.regclass
  UNION ALL SELECT unnest(polroles) FROM pg_catalog.pg_policy
  UNION ALL SELECT umuser FROM pg_catalog.pg_user_mappings
  UNION ALL SELECT x.grantee FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) x
    WHERE n.nspname = 'public' AND x.grantee <> n.nspowner
)
SELECT DISTINCT r.rolname::text AS name FROM named JOIN pg_catalog.pg_roles r ON r.oid = named.role
WHERE r.rolname !~ '^pg_' ORDER BY 1
"""  # noqa: S608  # made of constants of this module

_TABLES: LiteralString = f"""
SELECT c.oid, n.nspname, c.relname, c.relkind::text AS kind, rn.nspname AS root_schema, r.relname AS root_table,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AS readable,
       NOT EXISTS (
         SELECT FROM pg_catalog.pg_attribute a
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
         LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
           AND (coalesce(e.typname, t.typname)::text <> ALL (%(hashable)s)
                OR coalesce(e.typnamespace, t.typnamespace) <> 'pg_catalog'::pg_catalog.regnamespace
                OR NOT coalesce(l.collisdeterministic, true))
       ) AS hashable,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') AS columns,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> '') AS generated,
       coalesce(pg_catalog.pg_table_size(c.oid), 0) AS bytes
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)
JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND c.relpersistence <> 't' AND {_OWN_SCHEMA} AND {_NOT_OF_EXTENSION}
ORDER BY 2, 3
"""  # noqa: S608  # made of constants of this module


_CLOSED: LiteralString = f"""
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) || CASE
         WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN ' (its schema)'
         WHEN w.hidden THEN ' (row-level security hides rows)' ELSE '' END AS name,
       CASE WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
              THEN pg_catalog.format('GRANT USAGE ON SCHEMA %I TO ', n.nspname)
            WHEN w.hidden AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
              THEN pg_catalog.format('GRANT %I TO ', pg_catalog.pg_get_userbyid(c.relowner))
            ELSE pg_catalog.format('GRANT SELECT ON %s %I.%I TO ', w.kind, n.nspname, c.relname) END AS mend
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
  AND d.objsubid = 0 AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid,
LATERAL (SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
                c.relkind = 'r' AND pg_catalog.row_security_active(c.oid) AS hidden) w
WHERE {_OWN_SCHEMA} AND c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'S')
  AND (d.objid IS NULL OR c.oid = ANY (e.extconfig))
  AND (NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') OR w.hidden
       OR NOT CASE c.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
                             ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END)
ORDER BY c.relkind DESC, n.nspname, c.relname
"""  # noqa: S608  # made of constants of this module
"""Tables that pg_dump locks and reads, also those that an extension marks for dumps, and sequences, we may not read."""

_LARGE_OBJECTS: LiteralString = """
SELECT count(*), coalesce(sum(hashtextextended(oid::text || md5(lo_get(oid)), 0)), 0)::text
FROM pg_catalog.pg_largeobject_metadata
"""

WHOLE_BYTES = 0x3FFFFFFF - 4
"""Largest value of PostgreSQL in bytes: lo_get refuses to read a larger object at once."""

PIECE_BYTES = 1 << 26
"""Bytes of the pieces in which such an object is read."""

_HUGE_OBJECTS: LiteralString = """
SELECT count(*), coalesce(sum(hashtextextended(oid::text || CASE
  WHEN lo_get(oid, %(whole)s, 1) = '' THEN md5(lo_get(oid))
  ELSE (SELECT md5(string_agg(md5(lo_get(m.oid, begins, %(piece)s)), '' ORDER BY begins))
        FROM lo_open(m.oid, 262144) AS opened,  -- INV_READ; closed with the transaction
             generate_series(0, lo_lseek64(opened, 0, 2) - 1, %(piece)s) AS begins)  -- SEEK_END
END, 0)), 0)::text
FROM pg_catalog.pg_largeobject_metadata m
"""


def full_name(schema: str, name: str) -> str:
    """Return a name with its schema; a part with a dot or a quote in it is quoted, so that all names differ."""
    return ".".join(
        '"' + part.replace('"', '""') + '"' if "." in part or '"' in part else part for part in (schema, name)
    )


def plain_name(name: str) -> str:
    """Return the name without the quotes of `full_name`: as pg_restore lists it."""
    return ".".join(name_parts(name))


def name_parts(name: str) -> tuple[str, str]:
    """Split a name from `full_name` into schema and name."""
    parts = _PARTS.fullmatch(name)
    assert parts is not None  # noqa: S101  # it fits any text
    schema, table = parts["quoted"] or parts["plain"], parts["name"]
    return unquoted(schema), unquoted(table)


_PARTS = re.compile(r'(?:(?P<quoted>"(?:[^"]|"")*")|(?P<plain>[^.]*))(?:\.|$)(?P<name>.*)', re.DOTALL)


def unquoted(part: str) -> str:
    """Return a name without the quotes that SQL puts around it."""
    whole = len(part) > 1 and part.startswith('"') and part.endswith('"')
    return part[1:-1].replace('""', '"') if whole else part


class Table:
    """A table, view or partition of the catalogue.

    `root` is the table a person knows: the root of a partition tree, or the table itself. `columns` are those with data
    of their own, by name; `generated` are computed from them.
    """

    def __init__(self, row: dict[str, Any]) -> None:
        self.oid: int = row["oid"]
        self.schema: str = row["nspname"]
        self.table: str = row["relname"]
        self.kind: str = row["kind"]
        self.readable: bool = row["readable"]
        self.hashable: bool = row["hashable"]
        self.columns: list[str] = sorted(row["columns"])
        self.generated: list[str] = sorted(row["generated"])
        self.bytes: int = row["bytes"]
        self.name = full_name(self.schema, self.table)
        self.root = full_name(row["root_schema"], row["root_table"])


def prepare_session(connection: Connection) -> None:
    """Prepare a session for reading: fixed formats of values, no timeout, no rows hidden by policies."""
    for name in timeouts(connection):
        connection.execute("SELECT pg_catalog.set_config(%s, '0', false)", [name])
    connection.execute(SESSION)


def tables(connection: Connection) -> list[Table]:
    """List the users' tables and partitions ("r"), partitioned tables ("p"), materialized views and foreign tables."""
    return [Table(row) for row in rows_as_dicts(connection, _TABLES, {"hashable": list(HASHABLE)})]


def fingerprint(connection: Connection, table: Table, *, as_record: bool) -> TableFingerprint:
    """Count and hash the rows of one table or partition, in any order: as anonymous records, or their text.

    The result has the name of the root, and the hash is a sum: those of a partition tree's leaves add up to its own.
    """
    row = sql.Identifier("ancla:row")
    record = sql.SQL("ROW({})").format(
        sql.SQL(", ").join(sql.SQL("{}.{}").format(row, sql.Identifier(column)) for column in table.columns)
    )
    expression = (
        sql.SQL("pg_catalog.hash_record_extended({}, 0)")
        if as_record
        else sql.SQL("pg_catalog.hashtextextended({}::pg_catalog.text, 0)")
    ).format(record)
    query = sql.SQL(
        "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum({hash}), 0)::pg_catalog.text FROM ONLY {table} AS {row}"
    ).format(hash=expression, table=sql.Identifier(table.schema, table.table), row=row)
    with connection.transaction(force_rollback=True):  # in a subtransaction: releases the locks, but keeps the snapshot
        counted = connection.execute(query).fetchone()
    assert counted is not None  # noqa: S101  # an aggregate always gives a row
    return TableFingerprint(
        table=table.root, rows=counted[0], method="record" if as_record else "text", hash=str(counted[1])
    )


def large_objects(connection: Connection) -> TableFingerprint | None:
    """Count and hash the large objects; None if there are none.

    Each is hashed by its MD5 or, if it is too large to be read at once, by the MD5 of the MD5s of its pieces.
    """
    try:
        with connection.transaction():
            counted = connection.execute(_LARGE_OBJECTS).fetchone()
    except psycopg.errors.ProgramLimitExceeded:
        counted = connection.execute(_HUGE_OBJECTS, {"whole": WHOLE_BYTES, "piece": PIECE_BYTES}).fetchone()
    if counted is None or counted[0] == 0:
        return None
    return TableFingerprint(table="(large objects)", rows=counted[0], method="text", hash=str(counted[1]))


def sequences(connection: Connection) -> list[SequenceState]:
    """Read the sequences of the users. Each stays locked until the transaction ends, so call it outside of one."""
    query: LiteralString = f"""
    SELECT n.nspname, c.relname, s.seqincrement AS increment,
           pg_catalog.pg_sequence_last_value(c.oid) AS last
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
    WHERE {_OWN_SCHEMA} AND {_NOT_OF_EXTENSION} AND c.relpersistence <> 't' ORDER BY 1, 2
    """  # noqa: S608  # made of constants of this module
    return [
        SequenceState(
            sequence=full_name(row["nspname"], row["relname"]), last_value=row["last"], increment=row["increment"]
        )
        for row in rows_as_dicts(connection, query)
    ]


def sequence_names(connection: Connection) -> set[str]:
    """Return the names of all sequences visible to the transaction."""
    query: LiteralString = """
    SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S'
    """
    return {full_name(row["nspname"], row["relname"]) for row in rows_as_dicts(connection, query)}


def unreadable(connection: Connection) -> dict[str, str]:
    """List what pg_dump reads or locks and this role may not, each with the statement that would help."""
    query: LiteralString = """
    SELECT 'large object ' || l.oid AS name, 'GRANT SELECT ON LARGE OBJECT ' || l.oid || ' TO ' AS mend, l.oid AS object
    FROM pg_catalog.pg_largeobject_metadata l
    WHERE NOT pg_catalog.pg_has_role(l.lomowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(l.lomacl) x WHERE x.privilege_type = 'SELECT'
                      AND (x.grantee = 0 OR pg_catalog.pg_has_role(x.grantee, 'USAGE')))
    ORDER BY 3
    """
    user = next(rows_as_dicts(connection, "SELECT pg_catalog.quote_ident(current_user) AS name"))["name"]
    found = {row["name"]: f"{row['mend']}{user}" for row in rows_as_dicts(connection, _CLOSED)}
    suspects = list(rows_as_dicts(connection, query))
    if suspects and not _may_open(connection, suspects[0]["object"]):  # the server may allow everybody
        found |= {row["name"]: f"{row['mend']}{user}" for row in suspects}
    return found


def _may_open(connection: Connection, large_object: int) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SELECT pg_catalog.lo_get(%s::pg_catalog.oid, 0, 1)", [large_object])
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


class Owners(NamedTuple):
    """Roles that objects of a database name; see `PostgresRecord`."""

    required: tuple[str, ...]
    special: dict[str, tuple[str, ...]]
    roles: tuple[str, ...]


def owners(connection: Connection) -> Owners:
    """Return the roles that objects of this database name, except PostgreSQL's own roles.

    PostgreSQL records who depends on a role, except on the cluster's creator, so the objects are queried too,;
    except the schema `public`, which belongs to that role unless somebody has changed it.
    """
    found = list(rows_as_dicts(connection, _OWNERS))
    return Owners(
        required=tuple(row["name"] for row in found if not row["special"]),
        special={row["name"]: tuple(row["objects"]) for row in found if row["special"]},
        roles=tuple(row["name"] for row in rows_as_dicts(connection, _ROLES)),
    )


def extensions(connection: Connection) -> tuple[str, ...]:
    """List the extensions except plpgsql."""
    query: LiteralString = "SELECT extname AS name FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql' ORDER BY 1"
    return tuple(row["name"] for row in rows_as_dicts(connection, query))


def unsound(connection: Connection) -> tuple[str, ...]:
    """List constraints that were never validated, and invalid indexes."""
    query: LiteralString = f"""
    SELECT 'constraint ' || n.nspname || '.' || c.relname || '.' || k.conname || ' is not validated' AS name
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE NOT k.convalidated AND {_OWN_SCHEMA}
    UNION ALL
    SELECT 'index ' || n.nspname || '.' || c.relname || ' is not valid'
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND {_OWN_SCHEMA} ORDER BY 1
    """  # noqa: S608  # made of constants of this module
    return tuple(row["name"] for row in rows_as_dicts(connection, query))


def never_restored(connection: Connection) -> tuple[str, ...]:
    """List what is not in a dump, or never restored from it."""
    query: LiteralString = """
    SELECT 'event trigger ' || t.evtname || ': it needs a superuser, and would fire meanwhile' AS name
    FROM pg_catalog.pg_event_trigger t WHERE NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend d WHERE d.classid = t.tableoid AND d.objid = t.oid AND d.deptype = 'e')
    UNION ALL
    SELECT 'subscription ' || subname || ': its copy would take over the slot'
    FROM pg_catalog.pg_subscription
    WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    UNION ALL
    SELECT 'tablespace ' || t.spcname || ' of the database itself: a copy is in the default one of its server'
    FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace
    WHERE d.datname = pg_catalog.current_database() AND t.spcname <> 'pg_default'
    UNION ALL
    SELECT pg_catalog.format(
      'options of user mapping for %s on server %s: this role may not see them; '
      'after a restore run `ALTER USER MAPPING FOR %s SERVER %I OPTIONS (ADD user …, ADD password …)`',
      usename, m.srvname, CASE umuser WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(usename) END, m.srvname)
    FROM pg_catalog.pg_user_mappings m JOIN pg_catalog.pg_foreign_server s ON s.oid = m.srvid
    WHERE umoptions IS NULL AND NOT CASE
      WHEN (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN true
      WHEN umuser = 0 THEN pg_catalog.pg_has_role(s.srvowner, 'USAGE')
      ELSE usename = current_user AND (pg_catalog.pg_has_role(s.srvowner, 'USAGE')
                                       OR pg_catalog.has_server_privilege(s.oid, 'USAGE')) END
    UNION ALL
    SELECT pg_catalog.format('security label of the database, by %s: pg_dump leaves it out', provider)
    FROM pg_catalog.pg_shseclabel WHERE classoid = 'pg_catalog.pg_database'::pg_catalog.regclass
      AND objoid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    ORDER BY 1
    """
    return tuple(row["name"] for row in rows_as_dicts(connection, query))


def never_compared(connection: Connection) -> tuple[str, ...]:
    """List the extensions' tables whose rows pg_dump dumps: they are restored, but not compared."""
    query: LiteralString = """
    SELECT pg_catalog.format('%s.%s: rows of a table of the extension %s', n.nspname, c.relname, e.extname) AS name
    FROM pg_catalog.pg_extension e, unnest(e.extconfig) t JOIN pg_catalog.pg_class c ON c.oid = t
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') ORDER BY 1
    """
    return tuple(row["name"] for row in rows_as_dicts(connection, query))


def free_connections(connection: Connection) -> tuple[int, int]:
    """Return how many more connections this role may open to this database, and the server's maximum."""
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
    row = next(rows_as_dicts(connection, query))
    return row["free"], row["most"]


def is_empty(connection: Connection) -> bool:
    """Return True if the database has no table, view, sequence, function, type or schema of a user."""
    query: LiteralString = f"""
    SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                       WHERE {_OWN_SCHEMA} AND {_NOT_OF_EXTENSION})
       AND NOT EXISTS (SELECT FROM (SELECT tableoid AS class, oid, pronamespace AS namespace FROM pg_catalog.pg_proc
                                    UNION ALL SELECT tableoid, oid, typnamespace FROM pg_catalog.pg_type) o
                       JOIN pg_catalog.pg_namespace n ON n.oid = o.namespace WHERE {_OWN_SCHEMA} AND {_MADE_BY_USERS})
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE {_OWN_SCHEMA} AND n.nspname <> 'public')
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata) AS empty
    """  # noqa: S608  # made of constants of this module
    return bool(next(rows_as_dicts(connection, query))["empty"])


def rows_as_dicts(
    connection: Connection, query: LiteralString, parameters: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Run a query, and yield each row by its columns' names."""
    with connection.cursor(row_factory=dict_row) as cursor:
        yield from cast("Iterator[dict[str, Any]]", cursor.execute(query, parameters))
