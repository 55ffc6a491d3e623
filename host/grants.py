"""Grant the app's role its rights: to connect to its databases, and create and use tables in schema public.

From PostgreSQL 15 on only the owner of a database may create in its schema public, so a role made through
DigitalOcean's API can log in and do nothing; and PUBLIC may connect to every database. The role cannot create the
extensions that the app needs either, so they are created before. psql runs on the droplet, a trusted source of the
cluster; the SQL and the password reach it on stdin.
"""

from __future__ import annotations

import shlex

from host.connection import connect, say
from host.documents import DatabaseGrants, Grants
from host.errors import ConvergeError

# stdin: the password in the first line, the PEM certificate up to an empty line, then SQL.
_PSQL = """
set -eu
umask 077
command -v psql >/dev/null || { echo 'psql is not installed' >&2; exit 127; }
IFS= read -r PGPASSWORD
export PGPASSWORD
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 129' HUP INT TERM
while IFS= read -r line && [ -n "$line" ]; do printf '%s\\n' "$line"; done >"$folder/ca.crt"
export PGSSLROOTCERT="$folder/ca.crt" PGCONNECT_TIMEOUT=15 PGAPPNAME=ancla-grants
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --file=- CONNECTION
"""


def quoted(identifier: str) -> str:
    """Quote an identifier for SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a string for SQL; a backslash has no meaning since standard_conforming_strings."""
    return "'" + text.replace("'", "''") + "'"


_DATABASE = """\
BEGIN;
REVOKE ALL ON DATABASE {database} FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {user};
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO {user};
-- what the administrator makes later (a migration, a restore) is the app's to use
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {user};
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO {user};
-- and what the administrator made before
SELECT format('GRANT %s ON %s %I.%I TO %I',
              CASE c.relkind WHEN 'S' THEN 'USAGE, SELECT, UPDATE' ELSE 'SELECT, INSERT, UPDATE, DELETE' END,
              CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
              n.nspname, c.relname, {role})
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner
 WHERE n.nspname = 'public' AND r.rolname = current_user AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
\\gexec
COMMIT;
"""


def build_sql(database: DatabaseGrants) -> str:
    """Return the complete psql script. Safe to repeat: the result does not depend on earlier runs."""
    parts: list[str] = []
    for index, name in enumerate(database.databases):
        if index:
            # The address, the role, the password and TLS stay those of the first connection.
            parts.append(f"\\connect {quoted(name)}\n")
        parts.append("SET client_min_messages = warning;\n")
        # Apart from the grants, and first: some extensions want a session without a transaction. None is dropped.
        parts += [f"CREATE EXTENSION IF NOT EXISTS {quoted(each)} CASCADE;\n" for each in database.extensions]
        parts.append(_DATABASE.format(database=quoted(name), user=quoted(database.user), role=literal(database.user)))
    return "".join(parts)


def grant(document: Grants) -> dict[str, list[str]]:
    """Apply the grants; return {"databases": the names}.

    Raises:
        UnreachableError: no login on the droplet.
        ConvergeError: psql is absent, or the cluster refused; the detail is psql's own line.
    """
    database = document.database
    password = database.admin_password.get_secret_value()
    certificate = "\n".join(line for line in database.ca_certificate.splitlines() if line.strip())
    connection = " ".join(
        f"{key}='{_escaped(str(value))}'"
        for key, value in {
            "host": database.private_host,
            "port": database.port,
            "user": database.admin_user,
            "dbname": database.databases[0],
            "sslmode": "verify-full",
        }.items()
    )
    script = _PSQL.replace("CONNECTION", shlex.quote(connection))
    with connect(document, wait=60) as machine:
        say(f"{machine.where}: grants for {database.user} in {', '.join(database.databases)}")
        stdin = f"{password}\n{certificate}\n\n{build_sql(database)}"
        result = machine.run(script, stdin=stdin)
    if result.code == 127:
        raise ConvergeError(f"{machine.where}: psql is not on the droplet; run `host converge` first")
    if result.code != 0:
        detail = result.stderr.replace(password, "[secret]").strip()
        where = f"{database.private_host}:{database.port}"
        raise ConvergeError(f"{where}: the grants failed (psql exit {result.code}), seen from {machine.where}", detail)
    return {"databases": list(database.databases)}


def _escaped(value: str) -> str:
    """Escape a value of a libpq connection string."""
    return value.replace("\\", "\\\\").replace("'", "\\'")
