"""Clusters are PostgreSQL as DigitalOcean gives it: TLS only, no superuser, pools, trusted sources that hold."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from ops.core.errors import SourceError
from ops.sources.postgres.source import PostgresDatabase
from ops.sources.postgres.tools import Endpoint
from sandbox.parts.base import ClusterSpec, DatabaseUser
from sandbox.parts.containers import ContainerParts
from sandbox.parts.docker import File
from tests.sandbox.parts.conftest import eventually

pytestmark = pytest.mark.containers
Connect = Callable[..., "psycopg.Connection[Any]"]


@pytest.fixture(scope="session")
def connect(parts: ContainerParts, cluster: ClusterSpec, tmp_path_factory: pytest.TempPathFactory) -> Connect:
    authority = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.write_text(parts.authority.certificate())

    def open_(user: str = "doadmin", port: int = 25060, dbname: str = "defaultdb", **options: Any) -> Any:
        passwords = {each.name: each.password for each in cluster.users}
        settings: dict[str, Any] = {
            "host": cluster.host,
            "hostaddr": cluster.public_ip,
            "connect_timeout": 60,
            "sslmode": "verify-full",
            "sslrootcert": str(authority),
            "password": passwords.get(user, "nonsense"),
            **options,
        }
        return psycopg.connect(user=user, port=port, dbname=dbname, **settings)

    return open_


def test_doadmin_may_do_much_but_is_no_superuser(cluster: ClusterSpec, connect: Connect) -> None:
    with connect() as session:
        role = session.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        assert role == (False, True, True, True)
        owner = session.execute(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'defaultdb'"
        ).fetchone()
        assert owner == ("doadmin",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("COPY (SELECT 1) TO PROGRAM 'id'")


def test_settings_are_applied_and_data_is_safe(connect: Connect) -> None:
    with connect() as session:
        shown = {
            name: session.execute(f"SHOW {name}").fetchone()[0]  # type: ignore[index]
            for name in ("fsync", "synchronous_commit", "work_mem", "ssl")
        }
    assert shown == {"fsync": "on", "synchronous_commit": "on", "work_mem": "8MB", "ssl": "on"}


@pytest.mark.parametrize("port", [25060, 25061])
def test_only_tls_is_answered(connect: Connect, port: int) -> None:
    database = {25060: "app", 25061: "app-pool"}[port]
    with connect("app", port, database):
        pass
    with pytest.raises(psycopg.OperationalError):
        connect("app", port, database, sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match=r"password|SASL|auth"):
        connect("app", port, database, password="wrong")


def test_the_superuser_does_not_come_by_the_network(connect: Connect) -> None:
    with pytest.raises(psycopg.OperationalError, match="rejects connection"):
        connect("postgres")


def test_the_certificate_carries_the_clusters_names_alone(connect: Connect, cluster: ClusterSpec) -> None:
    with connect(host=cluster.private_host):
        pass
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        connect(host="db-2.a.db.ondigitalocean.com")


def test_the_pool_is_a_pool(connect: Connect) -> None:
    with connect("app", 25061, "app-pool") as session:
        assert session.execute("SELECT current_user, current_database()").fetchone() == ("app", "app")


def test_a_backup_through_the_pool_is_refused(parts: ContainerParts, cluster: ClusterSpec) -> None:
    direct = Endpoint(
        host=cluster.host,
        hostaddr=cluster.public_ip,
        port=25060,
        user="app",
        password=SecretStr(next(user.password for user in cluster.users if user.name == "app")),
        database="app",
        ca_certificate=parts.authority.certificate(),
    )
    PostgresDatabase(endpoint=direct).plan()
    with pytest.raises(SourceError, match=r"a connection pooler answers there.*use the direct port \(25060\)"):
        PostgresDatabase(endpoint=replace(direct, port=25061, database="app-pool")).plan()


@pytest.mark.long
def test_trusted_sources_give_strangers_no_answer(
    parts: ContainerParts, cluster: ClusterSpec, connect: Connect
) -> None:
    with connect() as open_before:
        try:
            parts.databases.apply(replace(cluster, trusted=(cluster.vpc.ip_range,)))
            for port, database in ((25060, "app"), (25061, "app-pool")):
                with pytest.raises(psycopg.OperationalError, match="timeout expired"):
                    connect("app", port, database, connect_timeout=3)
            host = str(next(parts.instance.plan.public.hosts()))
            parts.databases.apply(replace(cluster, trusted=(f"{host}/32",)))
            connect().close()
            parts.docker.run("restart", parts.databases.container(cluster.id))
            parts.databases.apply(replace(cluster, trusted=("192.0.2.0/24",)))
            restarted = parts.databases.container(cluster.id)
            parts.docker.run("restart", restarted)
            eventually(lambda: "accepting" in parts.docker.execute(restarted, "pg_isready", "-p", "25060", check=False))
            with pytest.raises(psycopg.OperationalError, match="timeout expired"):
                connect(connect_timeout=3)
        finally:
            parts.databases.apply(cluster)
    assert open_before.closed
    connect().close()


def test_users_passwords_and_databases_follow_the_spec(
    parts: ContainerParts, cluster: ClusterSpec, connect: Connect
) -> None:
    more = replace(
        cluster,
        users=(*cluster.users, DatabaseUser(name="extra", password="first")),
        databases=("defaultdb", "app", "x"),
    )
    parts.databases.apply(more)
    connect("extra", password="first", dbname="x").close()
    rotated = replace(more, users=(*cluster.users, DatabaseUser(name="extra", password='it\'s "second"')))
    parts.databases.apply(rotated)
    with pytest.raises(psycopg.OperationalError):
        connect("extra", password="first", dbname="x")
    with connect("extra", password='it\'s "second"', dbname="x") as session:
        session.execute("CREATE TEMP TABLE t (a int)")
    with connect(dbname="x") as admin:
        admin.execute("CREATE SCHEMA owned; GRANT ALL ON SCHEMA owned TO extra")
    with connect("extra", password='it\'s "second"', dbname="x") as session:
        session.execute("CREATE TABLE owned.t AS SELECT 1 AS a")
    parts.databases.drop_user(rotated, "extra")
    parts.databases.drop_user(rotated, "extra")
    with connect(dbname="x") as admin:
        assert admin.execute("SELECT a FROM owned.t").fetchone() == (1,)  # doadmin has inherited it
    parts.databases.drop_database(rotated, "x")
    parts.databases.drop_database(rotated, "x")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        connect(dbname="x")
    parts.databases.apply(cluster)


@pytest.mark.long
def test_rows_survive_a_kill(parts: ContainerParts, cluster: ClusterSpec, connect: Connect) -> None:
    with connect() as session:
        session.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer")
    name = parts.databases.container(cluster.id)
    parts.docker.run("restart", name)
    parts.databases.apply(cluster)
    pooler = parts.docker.execute(name, "pgrep", "-x", "pgbouncer")
    parts.docker.run("kill", name)
    # The numbers of processes begin anew: what was PostgreSQL's may be PgBouncer's, whom it takes for another server.
    lock = f"{pooler}\n/var/lib/postgresql/data\n{int(time.time())}\n25060\n/run/postgresql\n*\n 1 1\nready   \n"
    parts.docker.put(name, [File(path="/var/lib/postgresql/data/postmaster.pid", text=lock)])
    parts.databases.apply(cluster)
    with connect() as session:
        assert session.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_no_password_is_in_the_log_or_the_process_list(parts: ContainerParts, cluster: ClusterSpec) -> None:
    name = parts.databases.container(cluster.id)
    seen = (
        parts.docker.run("logs", name)
        + parts.docker.execute(name, "ps", "axww")
        + str(parts.docker.inspect("container", name))
    )
    assert "app-secret" not in seen
    file = Path("/etc/cluster/users.txt")
    assert parts.docker.execute(name, "stat", "--format", "%a %U", str(file)) == "600 postgres"
    assert "app-secret" in parts.docker.execute(name, "cat", str(file))  # the search above would have found it
