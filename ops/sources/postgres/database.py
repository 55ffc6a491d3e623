"""Record and restore the database itself, which pg_dump omits without --create: locale, owner, grants, limit, options.

Properties that the restoring role may not set, or the server does not support, are left out and named.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import replace
from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql

from ops.core.errors import RestoreError
from ops.repository.records import Grant, Membership, PostgresRecord, RoleOption
from ops.sources.base import Skipped
from ops.sources.postgres.catalog_queries import rows_as_dicts
from ops.sources.postgres.mending import stops_everything
from ops.sources.postgres.owner_roles import SPLIT_SINCE
from ops.sources.postgres.tools import Connection, Endpoint, one_line

_PRIVILEGES: dict[str, LiteralString] = {name: name for name in ("CONNECT", "CREATE", "TEMPORARY")}

_LISTS = frozenset({"search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries"})
"""Options whose value is a list of quoted names; pg_dump's `variable_is_guc_list_quote` lists those of a server too."""

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}

_NO_LOCALE = (
    psycopg.errors.WrongObjectType,
    psycopg.errors.InvalidParameterValue,
    psycopg.errors.FeatureNotSupported,
)
"""Server messages for an unknown locale or locale provider."""

_FACTS: LiteralString = """
SELECT pg_catalog.pg_encoding_to_char(d.encoding) AS encoding,
       d.datcollate::text AS "collate", d.datctype::text AS ctype,
       r.rolname::text AS owner, d.datconnlimit AS connection_limit,
       pg_catalog.shobj_description(d.oid, 'pg_database') AS comment, pg_catalog.to_jsonb(d) AS more
FROM pg_catalog.pg_database d LEFT JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
WHERE d.datname = pg_catalog.current_database()
"""
_GRANTS: LiteralString = """
SELECT coalesce(r.rolname, '') AS grantee, array_agg(x.privilege_type::text ORDER BY 1) AS privileges
FROM pg_catalog.pg_database d, pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) x
LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee
WHERE d.datname = pg_catalog.current_database() GROUP BY 1 ORDER BY 1
"""
_OPTIONS: LiteralString = """
SELECT coalesce(r.rolname, '') AS role, unnest(s.setconfig) AS option FROM pg_catalog.pg_db_role_setting s
JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
WHERE d.datname = pg_catalog.current_database() ORDER BY 1, 2
"""
_TABLESPACES: LiteralString = """
SELECT DISTINCT t.spcname::text AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
WHERE t.spcname <> 'pg_global' ORDER BY 1
"""


_MEMBERSHIPS: LiteralString = """
SELECT m.rolname::text AS member, g.rolname::text AS role FROM pg_catalog.pg_roles m, pg_catalog.pg_roles g
WHERE m.oid <> g.oid AND NOT m.rolsuper AND g.rolname !~ '^pg_' AND m.rolname !~ '^pg_'
  AND EXISTS (SELECT FROM pg_catalog.pg_auth_members a WHERE a.member = m.oid AND a.roleid = g.oid
              AND (a.admin_option OR pg_catalog.pg_has_role(m.oid, g.oid, {right}))) ORDER BY 1, 2
"""
_SUPERUSERS: LiteralString = "SELECT rolname::text AS name FROM pg_catalog.pg_roles WHERE rolsuper ORDER BY 1"
_SUPERUSER_EXTENSIONS: LiteralString = """
SELECT e.extname::text AS name FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_available_extension_versions v ON v.name = e.extname AND v.version = e.extversion
WHERE v.superuser AND NOT v.trusted AND e.extname <> 'plpgsql'
  AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
  AND e.extname <> ALL(string_to_array(
    replace(coalesce(current_setting('extwlist.extensions', true), ''), ' ', ''), ',')) ORDER BY 1
"""


def database_facts(connection: Connection) -> dict[str, Any]:
    """Read its properties, by the names of the fields of a `PostgresRecord`."""
    facts = next(rows_as_dicts(connection, _FACTS))
    more: dict[str, Any] = facts.pop("more")
    facts["locale_provider"] = _PROVIDERS.get(more.get("datlocprovider", "c"))
    facts["locale"] = more.get("datlocale") or more.get("daticulocale")  # the former since 17
    facts["icu_rules"] = more.get("daticurules")
    if (facts["comment"] or "").startswith("ancla: "):
        facts["comment"] = None  # written by a restore or a swap
    facts["grants"] = tuple(
        Grant(grantee=row["grantee"], privileges=tuple(row["privileges"])) for row in rows_as_dicts(connection, _GRANTS)
    )
    options = list(rows_as_dicts(connection, _OPTIONS))
    facts["options"] = tuple(row["option"] for row in options if not row["role"])
    facts["role_options"] = tuple(RoleOption(role=row["role"], option=row["option"]) for row in options if row["role"])
    right: LiteralString = "'SET'" if connection.info.server_version >= SPLIT_SINCE else "'MEMBER'"
    memberships = rows_as_dicts(connection, _MEMBERSHIPS.replace("{right}", right))
    facts["memberships"] = tuple(Membership(member=row["member"], role=row["role"]) for row in memberships)
    facts["superusers"] = tuple(row["name"] for row in rows_as_dicts(connection, _SUPERUSERS))
    facts["superuser_extensions"] = tuple(row["name"] for row in rows_as_dicts(connection, _SUPERUSER_EXTENSIONS))
    facts["tablespaces"] = tuple(row["name"] for row in rows_as_dicts(connection, _TABLESPACES))
    return facts


def create_database(admin: Endpoint, name: str, record: PostgresRecord, *, any_locale: bool = False) -> list[str]:
    """Create an empty database with the encoding and locale of the source; returns the differences.

    Args:
        admin: a role that may create databases.
        name: the new database.
        record: describes the source.
        any_locale: use another locale if the server lacks the source's (a scratch server).

    Raises:
        RestoreError: the server refused.
    """
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(
        sql.Identifier(name), sql.Literal(record.encoding)
    )
    with admin.connect() as connection:
        provider = _provider(connection, record)
        ways = [(_collation(record) + provider, "")]
        if any_locale:
            lacks, plain = "locale: the server here has no", sql.SQL(" LC_COLLATE 'C' LC_CTYPE 'C'")
            if record.locale:
                ways.append((plain + provider, f"{lacks} {record.collate}, only {record.locale}"))
            ways.append((plain + _provider(connection, None), f"{lacks} {_locale_name(record)}; the copy has C"))
        while True:
            way, lacking = ways.pop(0)
            try:
                connection.execute(statement + way)
            except psycopg.Error as error:
                if not ways or not isinstance(error, _NO_LOCALE):
                    raise RestoreError(f"{admin}: cannot create the database {name}: {one_line(error)}") from None
            else:
                return [lacking] if lacking else []


def unavailable_extensions(connection: Connection, record: PostgresRecord) -> list[Skipped]:
    """List the extensions that this server does not have, or that the connected role may not create."""
    query = (
        "SELECT wanted, a.name IS NOT NULL, coalesce(bool_or(NOT v.superuser OR v.trusted), false)"
        " OR (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)"
        " OR wanted = ANY(string_to_array(replace(coalesce("
        "current_setting('extwlist.extensions', true), ''), ' ', ''), ','))"
        " FROM unnest(%s::text[]) wanted LEFT JOIN pg_catalog.pg_available_extensions a ON a.name = wanted"
        " LEFT JOIN pg_catalog.pg_available_extension_versions v"
        " ON v.name = wanted AND v.version = a.default_version GROUP BY 1, 2 ORDER BY 1"
    )
    result: list[Skipped] = []
    for name, available, may in connection.execute(query, [list(record.extensions)]).fetchall():
        make = sql.SQL("CREATE EXTENSION {}").format(sql.Identifier(name)).as_string(connection)
        if not available:
            why, mend = "the server does not have it", f"install it on the server, then run as a superuser: {make}"
        elif not may:
            why, mend = "only a superuser may create it there", f"run as a superuser: {make}"
        else:
            continue
        result.append(Skipped(what=f"extension {name}", why=why, mend=f"{mend}, and restore into that database"))
    return result


def unlike(connection: Connection, record: PostgresRecord) -> list[str]:
    """Return how an existing database differs from the source in ways that cannot be changed."""
    facts = database_facts(connection)
    found = record.model_copy(update={name: facts[name] for name in ("collate", "ctype", "locale_provider", "locale")})
    result: list[str] = []
    if facts["encoding"] != record.encoding:
        result.append(f"encoding: the database there has {facts['encoding']}, the source had {record.encoding}")
    if _locale_name(found) != _locale_name(record) and record.locale_provider:
        result.append(f"locale: the database there has {_locale_name(found)}, the source had {_locale_name(record)}")
    return result


def left_out(connection: Connection, record: PostgresRecord) -> list[str]:
    """Return the properties of the database that the connected role cannot restore on this server."""
    user, result = connection.info.user, list[str]()
    if record.owner and not _may_give(connection, record.owner):
        result.append(
            f"owner {record.owner}: {user} may not give the database away, and keeps it"
            + (", with the same grants" if _exists(connection, record.owner) else "; there is no such role")
        )
    known = {option.role for option in record.role_options}
    result += [f"options of role {role} here: there is no such role" for role in missing_roles(connection, known)]
    lacking = missing_tablespaces(connection, record)
    if lacking:
        result.append(f"tablespaces: {user} may not use {', '.join(lacking)} there; all goes into the default one")
    if record.comment:
        result.append(f"comment of the database, in whose place the restore says what it is: {record.comment}")
    return result


def not_in_scratch(record: PostgresRecord) -> list[str]:
    """Return what a drill does not restore in its scratch database, which belongs to the drill."""
    of_database = f"owner {record.owner} of the database, and its limit of connections: the scratch one is the drill's"
    lacking = sorted({option.role for option in record.role_options} - {*record.named_roles})
    of_roles = [f"options of role {role} in the database: the scratch server has no such role" for role in lacking]
    of_tables = f"tablespaces {', '.join(record.tablespaces)}: the scratch server has its default one"
    return [of_database] * bool(record.owner) + of_roles + [of_tables] * bool(record.tablespaces)


def keeps_tablespaces(connection: Connection, record: PostgresRecord) -> bool:
    """Return True if this server has the tablespaces of the source; an older manifest does not name them."""
    query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tablespace WHERE spcname !~ '^pg_')"
    return connection.execute(query).fetchone() == (True,) and not missing_tablespaces(connection, record)


def missing_tablespaces(connection: Connection, record: PostgresRecord) -> list[str]:
    """List the source's tablespaces that this server lacks, or the connected role may not use."""
    query = (
        "SELECT name FROM unnest(%s::text[]) name LEFT JOIN pg_catalog.pg_tablespace t ON t.spcname = name"
        " WHERE t.oid IS NULL OR NOT pg_catalog.has_tablespace_privilege(t.oid, 'CREATE') ORDER BY 1"
    )
    return [row[0] for row in connection.execute(query, [list(record.tablespaces)])]


def missing_roles(connection: Connection, names: set[str]) -> list[str]:
    """List those of these roles that the server does not have."""
    query = "SELECT name FROM unnest(%s::text[]) name WHERE name NOT IN (SELECT rolname FROM pg_catalog.pg_roles)"
    return sorted(row[0] for row in connection.execute(query, [list(names)]))


def grants(database: sql.Composable, record: PostgresRecord, absent: Container[str] = ()) -> list[sql.Composed]:
    """Return the statements that grant the source's privileges on a new database, except those for `absent` roles.

    Unknown database privileges are left out.
    """
    result = [sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database)]
    for grant in record.grants:
        if not grant.grantee or grant.grantee not in absent:
            grantee = sql.Identifier(grant.grantee) if grant.grantee else sql.SQL("PUBLIC")
            privileges = sql.SQL(", ").join(
                sql.SQL(_PRIVILEGES[name]) for name in grant.privileges if name in _PRIVILEGES
            )
            result.append(sql.SQL("GRANT {} ON DATABASE {} TO {}").format(privileges, database, grantee))
    return result


def options(
    database: sql.Composable, record: PostgresRecord, absent: Container[str] = ()
) -> Iterator[tuple[str, list[sql.Composed]]]:
    """Yield each option of the source with a name for people and the statements, for one transaction, that set it."""
    yield from database_options(database, record)
    yield from role_options(database, record, absent)


def database_options(database: sql.Composable, record: PostgresRecord) -> Iterator[tuple[str, list[sql.Composed]]]:
    """Yield the options of the database, which its owner may set."""
    for option in record.options:
        name, _, value = option.partition("=")
        yield f"option {name}", _setting(sql.SQL("ALTER DATABASE {}").format(database), name, value)


def role_options(
    database: sql.Composable, record: PostgresRecord, absent: Container[str] = ()
) -> Iterator[tuple[str, list[sql.Composed]]]:
    """Yield the options of roles in the database; setting them needs the right to create roles."""
    for one in record.role_options:
        if one.role not in absent:
            yield _role_option(database, one)


def _role_option(database: sql.Composable, one: RoleOption) -> tuple[str, list[sql.Composed]]:
    name, _, value = one.option.partition("=")
    alter = sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(one.role), database)
    return f"of role {one.role}: option {name}", _setting(alter, name, value)


def _setting(alter: sql.Composed, name: str, value: str) -> list[sql.Composed]:
    setting = sql.SQL(".").join(sql.Identifier(part) for part in name.split("."))
    if name not in _LISTS:
        return [alter + sql.SQL(" SET {} TO {}").format(setting, sql.Literal(value))]
    # only the server can parse such a value
    local = sql.SQL("SELECT pg_catalog.set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(value))
    return [local, alter + sql.SQL(" SET {} FROM CURRENT").format(setting)]


def restore_settings(target: Endpoint, record: PostgresRecord, *, by: Endpoint | None = None) -> list[Skipped]:
    """Set the database's own settings before its rows: a CHECK or a generated column may depend on them.

    Args:
        target: the database.
        record: describes the source.
        by: a superuser of a scratch server, whose login may not alter roles as the role of a restore may. Unless a
            superuser dumped it, and so may restore it, it sets nothing that only a superuser may: a login that may
            not set a parameter for itself may not set it for others.

    Returns:
        The settings that the server refused, each with its message.
    """
    database, result = sql.Identifier(target.database), list[Skipped]()
    own = by if by is not None and record.dumped_as in record.superusers else target
    with own.connect() as connection:
        for name, statements in database_options(database, record):
            result += _attempt(connection, name, statements)
    with (by or target).connect() as connection, own.connect() as trying:
        absent = set(missing_roles(connection, {option.role for option in record.role_options}))
        for one in (each for each in record.role_options if each.role not in absent):
            name, statements = _role_option(database, one)
            _, mine = _role_option(database, one.model_copy(update={"role": own.user}))
            refused = _attempt(trying, name, mine, keep=False) if by is not None else []
            mend = _mend(connection, statements)
            result += [replace(each, mend=mend) for each in refused] or _attempt(connection, name, statements)
    return result


def restore_grants(target: Endpoint, record: PostgresRecord) -> list[Skipped]:
    """Restore the grants on the database, and its owner; after the rows, because they may lock out the restoring role.

    Returns:
        What the server refused, each with its message, in addition to `left_out`.
    """
    database, result = sql.Identifier(target.database), list[Skipped]()
    with target.connect() as connection:
        absent = set(missing_roles(connection, {record.owner or "", *(grant.grantee for grant in record.grants)}))
        for statement in grants(database, record, absent - {""}):
            result += _attempt(connection, "grants on the database", [statement])
        if record.owner and _may_give(connection, record.owner):
            owner = sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, sql.Identifier(record.owner))
            result += _attempt(connection, f"owner {record.owner} of the database", [owner])
    return result


def restore_limit(target: Endpoint, record: PostgresRecord) -> None:
    """Restore the connection limit; last, because the comparison needs connections too.

    Raises:
        RestoreError: the server refused.
    """
    if record.connection_limit < 0:
        return
    statement = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
        sql.Identifier(target.database), sql.Literal(record.connection_limit)
    )
    with target.connect() as connection:
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            raise RestoreError(f"{target}: cannot limit the connections: {one_line(error)}") from None


def _attempt(connection: Connection, name: str, statements: list[sql.Composed], *, keep: bool = True) -> list[Skipped]:
    """Execute statements in one transaction, which is rolled back without `keep`; return what the server refused."""
    try:
        with connection.transaction(force_rollback=not keep):
            for statement in statements:
                connection.execute(statement)
    except psycopg.Error as error:
        if stops_everything(error):
            raise RestoreError(f"the server gave up: {one_line(error)}") from None
        return [Skipped(what=name, why=one_line(error), mend=_mend(connection, statements))]
    return []


def _mend(connection: Connection, statements: list[sql.Composed]) -> str:
    text = "; ".join(statement.as_string(connection) for statement in statements)
    return f"run as a role that may, or with another value: {text}"


def _may_give(connection: Connection, owner: str) -> bool:
    """Return True if the connected role may give its database to `owner`, and still work on it afterwards."""
    right = "SET" if connection.info.server_version >= SPLIT_SINCE else "MEMBER"
    query = (
        "SELECT pg_catalog.pg_has_role(o.oid, 'USAGE') AND pg_catalog.pg_has_role(o.oid, %s)"
        " AND (u.rolsuper OR u.rolcreatedb) FROM pg_catalog.pg_roles o, pg_catalog.pg_roles u"
        " WHERE o.rolname = %s AND u.rolname = current_user"
    )
    return connection.execute(query, [right, owner]).fetchone() == (True,)


def _exists(connection: Connection, role: str) -> bool:
    return not missing_roles(connection, {role})


def _provider(connection: Connection, record: PostgresRecord | None) -> sql.Composed:
    """Return the provider of the locale for CREATE DATABASE; the C library's if there is no record.

    Return nothing for an older manifest, which does not name it, and for a server that has none.
    """
    provider = record.locale_provider if record else "libc"
    if provider is None or connection.info.server_version < 150000:
        return sql.Composed([])
    if record is None or provider == "libc":
        return sql.Composed([sql.SQL(" LOCALE_PROVIDER libc")])
    name = sql.SQL("BUILTIN_LOCALE") if provider == "builtin" else sql.SQL("ICU_LOCALE")
    clause = sql.SQL(" LOCALE_PROVIDER {} {} {}").format(
        sql.SQL(cast("LiteralString", provider)), name, sql.Literal(record.locale)
    )
    return clause + sql.SQL(" ICU_RULES {}").format(sql.Literal(record.icu_rules)) if record.icu_rules else clause


def _collation(record: PostgresRecord) -> sql.Composed:
    return sql.SQL(" LC_COLLATE {} LC_CTYPE {}").format(sql.Literal(record.collate), sql.Literal(record.ctype))


def _locale_name(record: PostgresRecord) -> str:
    names = [record.collate] + ([record.ctype] if record.ctype != record.collate else [])
    return f"{record.locale_provider} {record.locale}" if record.locale else " and ".join(names)
