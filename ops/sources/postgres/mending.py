"""Interpret a server's refusal of one object: whether it stops everything, and what would fix it."""

from __future__ import annotations

import re

import psycopg

SCRIPT_NOISE = ("--", "SET ", "SELECT pg_catalog.set_config(", "\\restrict", "\\unrestrict")
"""Prefixes of lines in pg_restore's script that are not part of the object itself."""

_FUNCTION = re.compile(r'(?:PL/pgSQL function|SQL function) "?(?P<name>[^"\s(]+(?:\([^)]*\))?)')
_NOT_FOUND = ("does not exist",)
_SUPERUSER = ("must be superuser", "superuser", "permission denied", "must be owner", "must be member")
LONGEST = 300
"""Maximum characters of a statement in a message."""


def stops_everything(error: psycopg.Error) -> bool:
    """Return True if the connection, the server or its resources failed, rather than one object."""
    code = error.sqlstate or ""
    return not code or code[:2] in ("08", "53", "57", "58")


def is_there(error: psycopg.Error) -> bool:
    """Return True if the object exists already, so only a part of its entry failed before."""
    return isinstance(
        error,
        psycopg.errors.DuplicateTable
        | psycopg.errors.DuplicateObject
        | psycopg.errors.DuplicateFunction
        | psycopg.errors.DuplicateSchema,
    )


def is_violation(error: psycopg.Error) -> bool:
    """Return True if rows violate the constraint that is added."""
    return isinstance(error, psycopg.errors.CheckViolation | psycopg.errors.ForeignKeyViolation)


def advice(why: str, statement: str) -> str:
    """Return the statement or action that would fix what the server refused with the message `why`."""
    called = _FUNCTION.search(why)
    if called and any(words in why for words in _NOT_FOUND):
        name = called["name"]
        return f"run `ALTER FUNCTION {name} SET search_path = public` (the schemas it needs) in the source"
    shown = " ".join(statement.split())
    shown = f"{shown[:LONGEST]}…" if len(shown) > LONGEST else shown
    if not shown:
        return ""
    if any(words in why for words in _SUPERUSER):
        return f"run as a role that may: {shown}"
    return f"when that is mended, run: {shown}"
