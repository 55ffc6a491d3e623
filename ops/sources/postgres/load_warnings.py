"""Find what a restore may fail to make: functions in columns, indexes and checks that work in the live database only.

pg_restore has an empty `search_path`, and loads tables in any order. A function that calls another by its bare name
then fails to find it, and a check that reads another table may find it empty.
"""

from __future__ import annotations

import re
from typing import LiteralString

from ops.sources.postgres.tools import Connection

_USES: LiteralString = """
SELECT 'generated column ' || pg_catalog.quote_ident(a.attname) || ' of ' || a.attrelid::pg_catalog.regclass AS what,
       '' AS mend, d.refobjid AS function, a.attrelid AS relation
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef v ON v.oid = d.objid
JOIN pg_catalog.pg_attribute a ON a.attrelid = v.adrelid AND a.attnum = v.adnum AND a.attgenerated <> ''
WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
  AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
UNION ALL
SELECT 'index ' || d.objid::pg_catalog.regclass, '', d.refobjid, i.indrelid
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_index i ON i.indexrelid = d.objid
WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
UNION ALL
SELECT 'constraint ' || pg_catalog.quote_ident(k.conname)
         || CASE WHEN k.conrelid <> 0 THEN ' of ' || k.conrelid::pg_catalog.regclass
                 ELSE ' of domain ' || k.contypid::pg_catalog.regtype END,
       CASE WHEN k.conrelid <> 0 AND k.contype = 'c' AND k.convalidated THEN pg_catalog.format(
         'ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s NOT VALID',
         k.conrelid::pg_catalog.regclass, k.conname, k.conname, pg_catalog.pg_get_constraintdef(k.oid)) ELSE '' END,
       d.refobjid, k.conrelid
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_constraint k ON k.oid = d.objid AND k.convalidated
WHERE d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
  AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
ORDER BY 1
"""
_FUNCTIONS: LiteralString = """
SELECT p.oid, n.nspname::text, p.proname::text, p.oid::pg_catalog.regprocedure::text, p.prosrc,
       l.lanname NOT IN ('c', 'internal') AND p.prosrc <> '' AS readable,
       EXISTS (SELECT FROM unnest(p.proconfig) setting WHERE setting LIKE 'search_path=%') AS pinned,
       ARRAY(SELECT d.refobjid FROM pg_catalog.pg_depend d WHERE d.classid = p.tableoid AND d.objid = p.oid
             AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass) AS reads
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang WHERE n.nspname !~ '^pg_|^information_schema$'
"""
_RELATIONS: LiteralString = """
SELECT c.oid, n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_|^information_schema$'
"""
_NOISE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)
_CALL = re.compile(r'(?:("[^"]+"|\w+)\s*\.\s*)?("[^"]+"|\w+)\s*\(')
_READ = re.compile(
    r'\b(?:from|join|into|update|only)\s+(?:("[^"]+"|\w+)\s*\.\s*)?("[^"]+"|\w+)\b(?!\s*[(.])', re.IGNORECASE
)


class _Function:
    """A user's function and the names in its text, as far as the catalogue and plain words show them."""

    def __init__(self, row: tuple[object, ...]) -> None:
        self.schema, self.name, self.signature = str(row[1]), str(row[2]), str(row[3])
        self.text = _NOISE.sub(" ", str(row[4])) if row[5] else ""
        self.pinned = bool(row[6])
        self.reads: list[int] = list(row[7]) if isinstance(row[7], list) else []


def load_warnings(connection: Connection) -> tuple[str, ...]:
    """List generated columns, indexes and constraints that a restore may fail to make, each with its fix.

    It uses the catalogue and the functions' text: statements that a function builds at run time stay unknown.
    """
    uses = connection.execute(_USES).fetchall()
    functions = {row[0]: _Function(row) for row in connection.execute(_FUNCTIONS).fetchall()} if uses else {}
    relations = {row[0]: (row[1], row[2]) for row in connection.execute(_RELATIONS).fetchall()} if uses else {}
    found: dict[str, None] = {}
    for what, mend, oid, own in uses:
        if oid not in functions:
            continue
        for function in _called(functions, functions[oid]):
            bare = _bare(function, functions, relations)
            if bare and not function.pinned:
                path = ", ".join(sorted({function.schema, *bare.values()}))
                found[
                    f"{what}: {function.signature} uses {', '.join(bare)} without a schema, which a restore does not "
                    f"find; run `ALTER FUNCTION {function.signature} SET search_path = {path}`"
                ] = None
            others = sorted(_read(function, relations) - {own}) if what.startswith("constraint") else []
            for other in others:
                found[
                    f"{what}: {function.signature} reads {'.'.join(relations[other])}, which may be empty while a "
                    "restore loads rows; " + (f"run `{mend}`" if mend else "use a trigger instead")
                ] = None
    return tuple(found)


def _called(functions: dict[int, _Function], first: _Function) -> list[_Function]:
    """Return a function and all functions it calls, as far as their text shows."""
    found, todo = list[_Function](), [first]
    while todo:
        function = todo.pop()
        if function in found:
            continue
        found.append(function)
        calls = {(_plain(schema), _plain(name)) for schema, name in _CALL.findall(function.text)}
        todo += [
            other for other in functions.values() if (other.schema, other.name) in calls or ("", other.name) in calls
        ]
    return found


def _bare(
    function: _Function, functions: dict[int, _Function], relations: dict[int, tuple[str, str]]
) -> dict[str, str]:
    """Return the users' functions and tables that a text names without a schema, with the schema they are in."""
    calls = {_plain(name) for schema, name in _CALL.findall(function.text) if not schema}
    reads = {_plain(name) for schema, name in _READ.findall(function.text) if not schema}
    found = {other.name: other.schema for other in functions.values() if other.name in calls}
    return dict(sorted({**found, **{name: schema for schema, name in relations.values() if name in reads}}.items()))


def _read(function: _Function, relations: dict[int, tuple[str, str]]) -> set[int]:
    reads = {(_plain(schema), _plain(name)) for schema, name in _READ.findall(function.text)}
    named = {oid for oid, (schema, name) in relations.items() if (schema, name) in reads or ("", name) in reads}
    return named | {oid for oid in function.reads if oid in relations}


def _plain(name: str) -> str:
    return name[1:-1] if name.startswith('"') else name.lower()
