"""Managed PostgreSQL: a container with PostgreSQL and PgBouncer, TLS only, trusted sources enforced in its network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cached_property, partial

from sandbox.parts import sql
from sandbox.parts.authority import RENEW_DAYS
from sandbox.parts.backups import RESTORE, Backups
from sandbox.parts.base import BaseBackup, ClusterSpec, Contents, PartError, RestoreSpec, World
from sandbox.parts.container_spec import ContainerSpec, draft_of, is_current, make, start
from sandbox.parts.docker import File, eventually
from sandbox.parts.firewall import trusted_sources
from sandbox.parts.images import POSTGRES_RELEASES
from sandbox.parts.service import PerObject

SETTINGS = "/etc/cluster"
DATA = "/var/lib/postgresql"
READY_SECONDS = 300
"""Seconds. After a kill the server first syncs every file it has, on a disk that others may be busy with."""

REPLAY_SECONDS = 900
SQL_SECONDS = 300
LABEL = "ancla.sandbox.database"


class Databases(PerObject):
    """The clusters of one instance."""

    name = "database"
    data = "data"
    versions = tuple(POSTGRES_RELEASES)

    @cached_property
    def backups(self) -> Backups:
        """The provider's backups."""
        return Backups(self.docker, self._query)

    def ids(self, world: World) -> tuple[Iterable[object], Iterable[object]]:
        """As `PerObject.ids`."""
        return [cluster.id for cluster in world.clusters], world.leaving_clusters

    def steps(self, world: World) -> dict[str, Callable[[], object]]:
        """As `Service.steps`. One that waits for its data needs its source up: its own job goes on with it."""
        clusters = [cluster for cluster in world.clusters if not cluster.restore]
        return {f"cluster:{cluster.id}": partial(self.apply, cluster) for cluster in clusters}

    def apply(self, cluster: ClusterSpec) -> None:
        """Create the cluster or bring it to the spec; returns once it takes connections.

        Where its image or the settings that it starts with have changed, its container is made again over its data.
        """
        name, spec = self.container(cluster.id), self._spec(cluster)
        found = self.docker.inspect("container", name)
        if is_current(spec, found):
            self.docker.run("update", *self._limits(cluster), name)
            self.docker.put(name, [self._trusted(cluster)])
        else:
            self.networks.create_vpc(cluster.vpc)
            restore = None if found else cluster.restore
            make(self.docker, spec, fill=(lambda: self._fill(cluster, restore)) if restore else None)
        if self.docker.running(name):
            # Closed before anything else changes.
            self.docker.execute(name, "nft", "-f", f"{SETTINGS}/trusted.nft")
        else:
            start(self.docker, spec)
        self._wait(name, REPLAY_SECONDS if cluster.restore else READY_SECONDS)
        if cluster.restore:
            self.docker.execute(name, "rm", "-rf", RESTORE)
        self._query(name, "postgres", sql.roles_sql(cluster.users) + sql.databases_sql(cluster.databases))
        self._query(name, "postgres", sql.config_sql(cluster.config))
        monitored = File(path=f"{SETTINGS}/monitored", text="yes\n" if cluster.monitored else "no\n")
        self.docker.put(name, [monitored, *self._pools(cluster)])
        self.docker.execute(name, "sh", "-c", f"cd {SETTINGS} && chown postgres:postgres pgbouncer.ini users.txt")
        self.docker.execute(name, "pkill", "-HUP", "-x", "pgbouncer", check=False)
        self._wait(name, READY_SECONDS, host="127.0.0.1", port=sql.POOL_PORT)

    def _spec(self, cluster: ClusterSpec) -> ContainerSpec:
        names = (cluster.host, cluster.private_host)
        return ContainerSpec(
            name=self.container(cluster.id),
            image=self.images.image(f"cluster-{cluster.version}"),
            labels={**self.instance.labels, LABEL: cluster.id},
            options=(
                "--cap-add", "NET_ADMIN", "--hostname", cluster.host.split(".")[0][:63], "--restart", "unless-stopped",
                "--shm-size", "256m", "--network", self.networks.public, "--ip", cluster.public_ip,
                "--volume", f"{self.volume(cluster.id)}:{DATA}",
            ),
            command=("cluster",),
            networks=(self.networks.join(cluster.vpc, cluster.private_ip),),
            volumes=(self.volume(cluster.id),),
            files=(
                File(path=f"{SETTINGS}/vpc_address", text=f"{cluster.vpc.interface(cluster.private_ip)}\n"),
                File(path=f"{SETTINGS}/postgresql.conf", text=sql.postgresql_conf(cluster)),
                File(path=f"{SETTINGS}/pg_hba.conf", text=sql.PG_HBA),
            ),
            limits=tuple(self._limits(cluster)),
            first_files=lambda: [
                *self.images.authority.files(f"{SETTINGS}/tls", names),
                self._trusted(cluster),
                *self._pools(cluster),
            ],
            renew_days=RENEW_DAYS,
        )  # fmt: skip

    def _fill(self, cluster: ClusterSpec, restore: RestoreSpec) -> None:
        source = self.container(restore.source)
        self._wait(source, READY_SECONDS)
        self.backups.archive_all(source)
        self.backups.fill(
            restore,
            source=self.volume(restore.source),
            volume=self.volume(cluster.id),
            image=self.images.image(f"cluster-{cluster.version}"),
            labels=self.instance.labels,
        )

    @staticmethod
    def _trusted(cluster: ClusterSpec) -> File:
        return File(path=f"{SETTINGS}/trusted.nft", text=trusted_sources(cluster.trusted, (sql.PORT, sql.POOL_PORT)))

    @staticmethod
    def _pools(cluster: ClusterSpec) -> list[File]:
        return [
            File(path=f"{SETTINGS}/pgbouncer.ini", text=sql.pgbouncer_ini(cluster.pools)),
            File(path=f"{SETTINGS}/users.txt", text=sql.pgbouncer_users(cluster.users), mode=0o600),
        ]

    @staticmethod
    def _limits(cluster: ClusterSpec) -> list[str]:
        return ["--cpus", str(min(cluster.vcpus, os.cpu_count() or 1))]

    def _wait(self, name: str, seconds: float, *, host: str = sql.SOCKET, port: int = sql.PORT) -> None:
        def ready() -> bool:
            if not self.docker.running(name):
                logs = self.docker.run("logs", "--tail", "1", name, check=False)
                raise PartError(f"{name}: the server ended: {logs}")
            return self.docker.probe(name, "pg_isready", "--host", host, "--port", str(port))

        try:
            eventually(ready, what=name, seconds=seconds, pause=0.2)
        except PartError as error:
            logs = self.docker.run("logs", "--tail", "3", name, check=False)
            raise PartError(f"{error}: {logs}") from None

    def _query(self, name: str, database: str, text: str) -> str:
        """Run SQL as the superuser, by the socket inside the container; secrets go in by stdin alone."""
        return self.docker.execute(
            name, "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1",
            "--set", "VERBOSITY=terse", "--host", sql.SOCKET, "--port", str(sql.PORT), "--dbname", database,
            user="postgres", stdin=text, timeout=SQL_SECONDS,
        )  # fmt: skip

    def delete(self, cluster_id: str) -> None:
        """Remove the cluster and its data."""
        name = self.container(cluster_id)
        self.docker.remove(name)
        self.docker.remove(draft_of(name))
        self.docker.remove(f"{self.volume(cluster_id)}-fill")
        self.docker.remove_volume(self.volume(cluster_id))

    def take_backup(self, cluster: ClusterSpec, name: str) -> BaseBackup | None:
        """Take a base backup; None when the cluster keeps no WAL."""
        return self.backups.take(self.container(cluster.id), name)

    def keep_backups(self, cluster: ClusterSpec, names: tuple[str, ...]) -> None:
        """Remove every other base backup, and the WAL that only those needed."""
        self.backups.keep(self.container(cluster.id), names)

    def contents(self, cluster: ClusterSpec) -> Contents:
        """Ask the server for its databases and login roles."""
        name = self.container(cluster.id)
        databases = self._query(name, "postgres", "SELECT datname FROM pg_database WHERE datallowconn;\n")
        users = self._query(name, "postgres", "SELECT rolname FROM pg_roles WHERE rolcanlogin;\n")
        return Contents(databases=frozenset(databases.splitlines()), users=frozenset(users.splitlines()))

    def drop_database(self, cluster: ClusterSpec, database: str) -> None:
        """Drop a database; open connections to it are ended."""
        self._query(
            self.container(cluster.id),
            "postgres",
            f"DROP DATABASE IF EXISTS {sql.identifier(database)} WITH (FORCE);\n",
        )

    def drop_user(self, cluster: ClusterSpec, user: str) -> None:
        """Drop a role; what it owns passes to doadmin."""
        name = self.container(cluster.id)
        databases = self._query(name, "postgres", "SELECT datname FROM pg_database WHERE datallowconn;\n").splitlines()
        for database in databases:
            self._query(name, database, sql.drop_user_sql(user))
        end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {sql.literal(user)};\n"  # noqa: S608 - quoted
        self._query(name, "postgres", f"{end}DROP ROLE IF EXISTS {sql.identifier(user)};\n")
