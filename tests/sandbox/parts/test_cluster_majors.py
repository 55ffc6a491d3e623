"""The version that is asked for is the one that runs, with all that a cluster has: pools, backups, forks, its roles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from sandbox.parts.base import ClusterSpec, RestoreSpec
from sandbox.parts.containers import ContainerParts
from tests.sandbox.parts.conftest import eventually, inside
from tests.sandbox.parts.test_backups import connect, moment, one

pytestmark = [pytest.mark.containers, pytest.mark.all]


@pytest.fixture(scope="module", params=["17", "18"])
def newer(
    request: pytest.FixtureRequest, parts: ContainerParts, cluster: ClusterSpec, taken: set[str]
) -> Iterator[ClusterSpec]:
    public = parts.free_public_ip(frozenset(taken))
    taken.add(public)
    host = f"db-{request.param}.a.db.ondigitalocean.com"
    spec = replace(
        cluster, id=f"c-{request.param}", version=request.param, host=host, private_host=f"private-{host}",
        public_ip=public, private_ip=inside(cluster.vpc, 100 + int(request.param)),
    )  # fmt: skip
    parts.databases.apply(spec)
    yield spec
    parts.databases.delete(spec.id)


def test_a_newer_cluster_is_one_and_doadmin_may_not_give_to_roles_of_the_provider(newer: ClusterSpec) -> None:
    with connect(newer) as session:
        assert one(session, "SHOW server_version").startswith(f"{newer.version}.")
        assert one(session, "SELECT count(*) FROM pg_auth_members WHERE roleid = 'app'::regrole") == 0
        session.execute("CREATE TABLE given (a int)")
        for name, rights in (("app", "may not"), ("made", "own")):
            if rights == "own":
                session.execute(f"CREATE ROLE {name}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be able to SET ROLE"):
                session.execute(f"ALTER TABLE given OWNER TO {name}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="ADMIN option"):
            session.execute("GRANT app TO doadmin")
        session.execute("GRANT made TO doadmin WITH SET TRUE")
    with psycopg.connect(
        host=newer.host, hostaddr=newer.public_ip, port=25061, user="app", password="app-secret", dbname="app-pool",
        sslmode="require", connect_timeout=60,
    ) as pooled:  # fmt: skip
        assert pooled.execute("SELECT current_user").fetchone() == ("app",)


def test_it_is_backed_up_and_forked_at_a_time(parts: ContainerParts, newer: ClusterSpec, taken: set[str]) -> None:
    assert parts.databases.take_backup(newer, "first") is not None
    with connect(newer) as session:
        session.execute("CREATE TABLE two AS SELECT 1 AS row")
        asked = moment(session)
        session.execute("INSERT INTO two VALUES (2)")
    public = parts.free_public_ip(frozenset(taken))
    taken.add(public)
    fork = replace(
        newer, id=f"fork-{newer.version}", host="f.a.db.ondigitalocean.com",
        private_host="private-f.a.db.ondigitalocean.com", public_ip=public, pools=(),
        private_ip=inside(newer.vpc, 130 + int(newer.version)), databases=("defaultdb",), users=newer.users[:1],
        restore=RestoreSpec(source=newer.id, backup="first", time=asked),
    )  # fmt: skip
    try:
        parts.databases.apply(fork)
        with connect(fork) as session:
            assert one(session, "SELECT array_agg(row) FROM two") == [1]
            assert one(session, "SHOW server_version").startswith(f"{newer.version}.")
    finally:
        parts.databases.delete(fork.id)


def test_a_monitored_cluster_has_a_superuser_on_each_database_who_comes_back(
    parts: ContainerParts, cluster: ClusterSpec
) -> None:
    query = "SELECT pid FROM pg_stat_activity WHERE datname = 'app' AND usename = 'postgres'"

    def there() -> set[int]:
        return {pid for (pid,) in session.execute(query).fetchall()}

    with connect(cluster) as session:
        assert there() == set()
        try:
            parts.databases.apply(replace(cluster, monitored=True))
            eventually(lambda: len(there()) == 1, 30)
            (first,) = there()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(f"SELECT pg_terminate_backend({first})")
            parts.docker.execute(
                parts.databases.container(cluster.id), "psql", "-h", "/run/postgresql", "-p", "25060",
                "-c", f"SELECT pg_terminate_backend({first})", user="postgres",
            )  # fmt: skip
            eventually(lambda: len(there() - {first}) == 1, 30)
        finally:
            parts.databases.apply(cluster)
        eventually(lambda: there() == set(), 30)
