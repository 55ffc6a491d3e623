"""Managed PostgreSQL: a container with PostgreSQL and PgBouncer, TLS only, trusted sources enforced in its network."""

from __future__ import annotations

import os

from sandbox.parts import sql
from sandbox.parts.authority import Authority
from sandbox.parts.backups import RESTORE, Backups
from sandbox.parts.base import BaseBackup, ClusterSpec, Contents, PartError
from sandbox.parts.docker import Docker, File, eventually, label_options
from sandbox.parts.firewall import trusted_sources
from sandbox.parts.images import Images
from sandbox.parts.instance import Instance
from sandbox.parts.network import Networks

SETTINGS = "/etc/cluster"
DATA = "/var/lib/postgresql"
READY_SECONDS = 300
"""Seconds. After a kill the server first syncs every file it has, on a disk that others may be busy with."""

REPLAY_SECONDS = 900


class Databases:
    """The clusters of one instance."""

    def __init__(
        self, instance: Instance, docker: Docker, images: Images, networks: Networks, authority: Authority
    ) -> None:
        self.instance, self.docker, self.images = instance, docker, images
        self.networks, self.authority = networks, authority
        self.backups = Backups(docker, self._query)

    def container(self, cluster_id: str) -> str:
        """Return the name of the cluster's container."""
        return self.instance.thing("database", cluster_id)

    def volume(self, cluster_id: str) -> str:
        """Return the name of its data volume."""
        return self.instance.thing("database", cluster_id, "data")

    def apply(self, cluster: ClusterSpec) -> None:
        """Create the cluster or bring it to the spec; returns once it takes connections."""
        name = self.container(cluster.id)
        if self.docker.inspect("container", name) is None:
            self._make(cluster)
        else:
            self.docker.run("update", *self._limits(cluster), name)
            self.docker.put(name, [self._trusted(cluster)])
        if self.docker.running(name):
            # Closed before anything else changes.
            self.docker.execute(name, "nft", "-f", f"{SETTINGS}/trusted.nft")
        else:
            self.docker.start(name)
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

    def _make(self, cluster: ClusterSpec) -> None:
        name = self.container(cluster.id)
        self.networks.create_vpc(cluster.vpc)
        self.docker.ensure_volume(self.volume(cluster.id), self.instance.labels)
        draft = f"{name}-draft"
        self.docker.create(
            draft,
            self.images.image(f"cluster-{cluster.version}"),
            [
                *label_options({**self.instance.labels, "ancla.sandbox.database": cluster.id}),
                *self._limits(cluster),
                "--cap-add", "NET_ADMIN", "--hostname", cluster.host.split(".")[0][:63], "--restart", "unless-stopped",
                "--shm-size", "256m", "--network", self.networks.public, "--ip", cluster.public_ip,
                "--volume", f"{self.volume(cluster.id)}:{DATA}",
            ],
            ["cluster"],
        )  # fmt: skip
        self.docker.run("network", "connect", "--ip", cluster.private_ip, self.networks.vpc(cluster.vpc.id), draft)
        chain, key = self.authority.issue((cluster.host, cluster.private_host))
        self.docker.put(
            draft,
            [
                File(path=f"{SETTINGS}/tls/cert.pem", text=chain),
                File(path=f"{SETTINGS}/tls/key.pem", text=key, mode=0o600),
                File(path=f"{SETTINGS}/postgresql.conf", text=sql.postgresql_conf(cluster)),
                File(path=f"{SETTINGS}/pg_hba.conf", text=sql.PG_HBA),
                self._trusted(cluster),
                *self._pools(cluster),
            ],
        )
        if cluster.restore:
            source = self.container(cluster.restore.source)
            self._wait(source, READY_SECONDS)
            self.backups.archive_all(source)
            self.backups.fill(
                cluster.restore,
                source=self.volume(cluster.restore.source),
                volume=self.volume(cluster.id),
                image=self.images.image(f"cluster-{cluster.version}"),
                labels=self.instance.labels,
            )
        # Named when whole: one interrupted in the making stays a draft, and is made again.
        self.docker.run("rename", draft, name)

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
            return "accepting" in self.docker.execute(
                name, "pg_isready", "--host", host, "--port", str(port), check=False
            )

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
            user="postgres", stdin=text,
        )  # fmt: skip

    def delete(self, cluster_id: str) -> None:
        """Remove the cluster and its data."""
        name = self.container(cluster_id)
        self.docker.remove(name)
        self.docker.remove(f"{name}-draft")
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
