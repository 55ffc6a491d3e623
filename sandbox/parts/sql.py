"""The SQL and the settings that make a PostgreSQL server look like DigitalOcean's: pure functions."""

# ruff: noqa: S608 - every value goes through `literal` or `identifier`

from __future__ import annotations

from collections.abc import Iterable

from sandbox.parts.base import ClusterSpec, DatabaseUser, PoolSpec

ADMIN = "doadmin"
PORT = 25060
POOL_PORT = 25061
SOCKET = "/run/postgresql"
CONNECTIONS_PER_GIB = 25
"""DigitalOcean's limit; three of them are kept for its own maintenance (docs: "Connection limits")."""
RESERVED_CONNECTIONS = 3


WAL_ARCHIVE = "/var/lib/postgresql/backups/wal"
ARCHIVE_COMMAND = (
    # A segment that is there already is right when it is the same: after a crash PostgreSQL asks again.
    f"mkdir -p {WAL_ARCHIVE} && if test -e {WAL_ARCHIVE}/%f.gz; then gzip -dc {WAL_ARCHIVE}/%f.gz | cmp -s - %p; "
    f"else gzip -1 <%p >{WAL_ARCHIVE}/.%f && sync {WAL_ARCHIVE}/.%f && mv {WAL_ARCHIVE}/.%f {WAL_ARCHIVE}/%f.gz; fi"
)
"""Keeps each WAL segment, compressed, whole or not at all."""


def literal(value: str) -> str:
    """An SQL string constant, with any quote or backslash in it harmless."""
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


def identifier(name: str) -> str:
    """A quoted SQL name."""
    return '"' + name.replace('"', '""') + '"'


def postgresql_conf(cluster: ClusterSpec) -> str:
    """Settings of the server. Safe as a managed one (fsync on); small, as many may run on one machine."""
    memory = max(cluster.memory, 1024)
    return "".join(
        f"{name} = {value}\n"
        for name, value in {
            "data_directory": "'/var/lib/postgresql/data'",
            "hba_file": "'/etc/cluster/pg_hba.conf'",
            "listen_addresses": "'*'",
            "port": PORT,
            "unix_socket_directories": f"'{SOCKET}'",
            "max_connections": memory // 1024 * CONNECTIONS_PER_GIB,
            "superuser_reserved_connections": RESERVED_CONNECTIONS,
            "shared_buffers": f"{min(memory // 8, 256)}MB",
            "dynamic_shared_memory_type": "posix",
            "password_encryption": "scram-sha-256",
            "ssl": "on",
            "ssl_cert_file": "'/etc/cluster/tls/cert.pem'",
            "ssl_key_file": "'/etc/cluster/tls/key.pem'",
            "ssl_min_protocol_version": "'TLSv1.2'",
            "wal_level": "logical",
            "max_wal_senders": 10,
            "max_wal_size": "512MB",
            "archive_mode": "on",
            "archive_command": f"'{ARCHIVE_COMMAND}'",
            "timezone": "'UTC'",
            "log_timezone": "'UTC'",
            "log_line_prefix": "'%m [%p] %q%u@%d '",
            # A failing statement may hold a password.
            "log_min_error_statement": "panic",
        }.items()
    )


PG_HBA = """\
# The superuser comes by the socket alone; PgBouncer by the socket with each user's own password; the rest by TLS.
local    all          postgres                peer
local    replication  postgres                peer
local    all          all                     scram-sha-256
hostssl  all          postgres    0.0.0.0/0   reject
hostssl  all          all         0.0.0.0/0   scram-sha-256
hostssl  all          all         ::/0        scram-sha-256
hostssl  replication  all         0.0.0.0/0   scram-sha-256
"""


def pgbouncer_ini(pools: Iterable[PoolSpec]) -> str:
    """PgBouncer's settings. A pool is a database under the pool's own name."""
    lines = ["[databases]"]
    for pool in pools:
        user = f" user={pool.user}" if pool.user else ""
        lines.append(
            f"{pool.name} = host={SOCKET} port={PORT} dbname={pool.database}{user} "
            f"pool_mode={pool.mode} pool_size={pool.size}"
        )
    lines += [
        "[pgbouncer]",
        "listen_addr = 0.0.0.0",
        f"listen_port = {POOL_PORT}",
        "unix_socket_dir =",
        "auth_type = scram-sha-256",
        "auth_file = /etc/cluster/users.txt",
        "client_tls_sslmode = require",
        "client_tls_cert_file = /etc/cluster/tls/cert.pem",
        "client_tls_key_file = /etc/cluster/tls/key.pem",
        "max_client_conn = 500",
        "ignore_startup_parameters = extra_float_digits,search_path",
        "server_reset_query = DISCARD ALL",
    ]
    return "\n".join(lines) + "\n"


def pgbouncer_users(users: Iterable[DatabaseUser]) -> str:
    """PgBouncer's password file; a double quote is doubled (its documentation, "Authentication file format")."""

    def quoted(value: str) -> str:
        return '"' + value.replace('"', '""') + '"'

    return "".join(f"{quoted(user.name)} {quoted(user.password)}\n" for user in users)


def roles_sql(users: Iterable[DatabaseUser]) -> str:
    """Make the roles, or set their passwords. `doadmin` may do all but be a superuser."""
    # An error must not carry the statement, and with it the password, into the log.
    statements = ["SET client_min_messages = warning"]
    for user in users:
        name, password = identifier(user.name), literal(user.password)
        options = (
            "CREATEDB CREATEROLE REPLICATION"
            if user.name == ADMIN
            else ("REPLICATION" if user.replication else "NOREPLICATION")
        )
        statements.append(
            f"DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(user.name)}) "
            f"THEN CREATE ROLE {name}; END IF; END $do$"
        )
        statements.append(f"ALTER ROLE {name} WITH LOGIN NOSUPERUSER {options} PASSWORD {password}")
        if user.name == ADMIN:
            statements.append(f"GRANT pg_monitor, pg_signal_backend TO {name} WITH ADMIN OPTION")
    return "".join(f"{statement};\n" for statement in statements)


def databases_sql(databases: Iterable[str]) -> str:
    """Make the databases that are missing, owned by `doadmin`."""
    return "".join(
        f"SELECT format('CREATE DATABASE %I OWNER {ADMIN}', {literal(name)}) "
        f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = {literal(name)})\\gexec\n"
        for name in databases
    )


def config_sql(config: dict[str, str]) -> str:
    """Set exactly these server settings; names PostgreSQL does not have (PgBouncer's, say) are passed over."""
    lines = ["ALTER SYSTEM RESET ALL;\n"]
    for name, value in config.items():
        lines.append(
            f"SELECT format('ALTER SYSTEM SET %I = %L', name, {literal(value)}) "
            f"FROM pg_settings WHERE name = {literal(name)}\\gexec\n"
        )
    lines.append("SELECT pg_reload_conf();\n")
    return "".join(lines)


def recovery_conf(archive: str, time: str) -> str:
    """Settings of a server that replays WAL from a folder up to a time, and then begins a timeline of its own."""
    return "".join(
        f"{name} = {value}\n"
        for name, value in {
            "restore_command": f"'test -f {archive}/%f.gz && gzip -dc {archive}/%f.gz >%p'",
            "recovery_target_time": f"'{time}'",
            "recovery_target_action": "promote",
            "hot_standby": "off",  # nobody gets in before the asked time is reached
        }.items()
    )


def drop_user_sql(name: str) -> str:
    """Drop a role; what it owned in the current database goes to `doadmin`."""
    return (
        f"SELECT format('REASSIGN OWNED BY %I TO {ADMIN}; DROP OWNED BY %I', rolname, rolname) "
        f"FROM pg_roles WHERE rolname = {literal(name)}\\gexec\n"
    )
