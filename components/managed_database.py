"""Managed PostgreSQL: the cluster, who may reach it, its databases, the app's user and its pools."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import AnclaComponent


@dataclass(frozen=True, kw_only=True)
class PoolArgs:
    """A PgBouncer pool, which gives many clients few server connections."""

    database: str | None = None
    """Name of the database that it leads to; default: the first."""
    size: int = 10
    """Server connections."""
    mode: Literal["transaction", "session", "statement"] = "transaction"
    """When a client gives its server connection back."""


@dataclass(frozen=True, kw_only=True)
class ManagedDatabaseArgs:
    """Inputs of `ManagedDatabase`. One of the `trusted_` fields is needed: a cluster without any is open to all."""

    region: pulumi.Input[str]
    """Region of the cluster, such as `nyc3`."""
    name: pulumi.Input[str] | None = None
    """Name of the cluster; default: the component's name."""
    version: pulumi.Input[str] = "17"
    """Major version of PostgreSQL."""
    size: pulumi.Input[str] = "db-s-1vcpu-1gb"
    """Size of each node."""
    nodes: pulumi.Input[int] = 1
    """Nodes: with two or more, a standby takes over (from 2 GB of memory on)."""
    storage: pulumi.Input[int] | None = None
    """GiB of the disk of each node, in steps of 10; default: what the size includes. It never shrinks."""
    vpc_id: pulumi.Input[str] | None = None
    """Network of the cluster; default: the region's default VPC."""
    tags: Sequence[pulumi.Input[str]] = ()
    """Tags of the cluster itself."""
    trusted_tags: Sequence[pulumi.Input[str]] = ()
    """Droplets with these tags may connect."""
    trusted_droplets: Sequence[pulumi.Input[str]] = ()
    """Droplets with these ids may connect."""
    trusted_sources: Sequence[pulumi.Input[str]] = ()
    """Addresses and CIDRs that may connect (IPv4)."""
    databases: Sequence[str] = ("app",)
    """Databases."""
    user: pulumi.Input[str] = "app"
    """User of the app."""
    pools: Mapping[str, PoolArgs] = field(default_factory=dict[str, PoolArgs])
    """Pools by name."""
    maintenance_day: str = "sunday"
    """Day on which DigitalOcean may update the cluster."""
    maintenance_hour: str = "07:00"
    """Hour (UTC) from which it may."""
    cluster_id: pulumi.Input[str] | None = None
    """A cluster that is there already: databases, user and pools are made in it; the cluster and the list of who may
    connect are left alone."""
    protected: bool = False
    """Protect the cluster and its databases, and let the rest be replaced. A `protect=True` in the options protects
    every part."""
    project_id: pulumi.Input[str] | None = None
    """Project of the account to put the cluster into; default: the account's default project."""


def known_password(password: str, user: str) -> str:
    """Return the password.

    Raises:
        pulumi.RunError: it is empty, as the API shows it to a token that may not see it.
    """
    if not password:
        raise pulumi.RunError(
            f"DigitalOcean shows no password of {user}: the token lacks the scope database:view_credentials; set "
            "DIGITALOCEAN_TOKEN to one with full access, then `pulumi up --refresh`"
        )
    return password


def pool_name(title: str, pool: PoolArgs, database: str, user: str) -> str:
    """Return the name of a pool in its cluster: it changes with whatever replaces the pool.

    The new pool is made before the old one goes, and no two pools of a cluster have one name.
    """
    digest = hashlib.sha256(json.dumps([database, pool.mode, pool.size, user]).encode()).hexdigest()
    return f"{title}-{digest[:6]}"


def _mib(gib: int) -> str:
    return str(gib * 1024)


def _secret(password: pulumi.Output[str], user: pulumi.Output[str]) -> pulumi.Output[str]:
    return pulumi.Output.secret(pulumi.Output.all(password, user).apply(lambda both: known_password(*both)))


class ManagedDatabase(AnclaComponent):
    """A PostgreSQL cluster that is closed to other clients before it has any data; its databases, user and pools."""

    cluster: digitalocean.DatabaseCluster
    """The cluster; a resource that needs its databases and users depends on `ready`."""
    ready: Sequence[pulumi.Resource]
    """Everything in the cluster."""
    databases: Sequence[str]
    """Names of the databases."""
    cluster_id: pulumi.Output[str]
    """Id of the cluster."""
    urn_of_cluster: pulumi.Output[str]
    """URN of the cluster, as a project lists it."""
    version: pulumi.Output[str]
    """Version of PostgreSQL."""
    host: pulumi.Output[str]
    """Public host name."""
    private_host: pulumi.Output[str]
    """Host name within the VPC."""
    port: pulumi.Output[int]
    """Port of the server."""
    user: pulumi.Output[str]
    """User of the app."""
    password: pulumi.Output[str]
    """Password of the user."""
    admin_user: pulumi.Output[str]
    """Administrator of the cluster."""
    admin_password: pulumi.Output[str]
    """Password of the administrator."""
    ca_certificate: pulumi.Output[str]
    """Certificate authority of the cluster, for `sslmode=verify-full`."""
    pools: Mapping[str, Mapping[str, pulumi.Output[str]]]
    """Pools by name: the `name` by which clients connect as to a database, and the `database` that they get to."""
    pool_port: pulumi.Output[int] | None
    """Port of the pools; None without one."""

    def __init__(self, name: str, args: ManagedDatabaseArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:index:ManagedDatabase", name, opts)
        if not args.databases:
            raise ValueError(f"{name}: databases is empty; name one")
        self.cluster = self._cluster(name, args)
        trusted = [] if args.cluster_id is not None else [self._trusted_sources(name, args)]
        # What is in the cluster goes with it: no call for each, and none that finds the cluster gone.
        holder = self._holder(args)
        # One after the other: beside other changes of its cluster, what was just made is not found for a moment, and
        # the provider then takes it for never made (terraform-provider-digitalocean#493).
        databases: list[digitalocean.DatabaseDb] = []
        for database in args.databases:
            before = [*trusted, *databases[-1:]]
            databases.append(
                digitalocean.DatabaseDb(
                    f"{name}-{database}",
                    name=database,
                    cluster_id=self.cluster.id,
                    opts=self._child(protected=args.protected, depends_on=before, deleted_with=holder),
                )
            )
        inside = self._child(depends_on=[*trusted, databases[-1]], deleted_with=holder)
        user = digitalocean.DatabaseUser(f"{name}-user", name=args.user, cluster_id=self.cluster.id, opts=inside)
        self.ready = [*trusted, user, *databases]
        pools = self._pools(name, args, dict(zip(args.databases, databases, strict=True)), user)
        self.pools = {title: {"name": pool.name, "database": pool.db_name} for title, pool in pools.items()}
        self.pool_port = next((pool.port for pool in pools.values()), None)
        self.ready = [*self.ready, *pools.values()]
        certificate = digitalocean.get_database_ca_output(
            cluster_id=self.cluster.id, opts=pulumi.InvokeOutputOptions(parent=self)
        )
        self._join(name, args.project_id, [self.cluster.cluster_urn])
        self.databases = tuple(args.databases)
        self.cluster_id = self.cluster.id
        self.urn_of_cluster = self.cluster.cluster_urn
        self.version, self.port = self.cluster.version.apply(str), self.cluster.port
        self.host, self.private_host = self.cluster.host, self.cluster.private_host
        self.user, self.admin_user = user.name, self.cluster.user
        self.password = _secret(user.password, self.user)
        self.admin_password = _secret(self.cluster.password, self.admin_user)
        self.ca_certificate = certificate.certificate
        self.register_outputs(
            {
                "databases": list(self.databases),
                "cluster_id": self.cluster_id,
                "urn_of_cluster": self.urn_of_cluster,
                "version": self.version,
                "host": self.host,
                "private_host": self.private_host,
                "port": self.port,
                "user": self.user,
                "password": self.password,
                "admin_user": self.admin_user,
                "admin_password": self.admin_password,
                "ca_certificate": self.ca_certificate,
                "pools": {title: dict(pool) for title, pool in self.pools.items()},
                "pool_port": self.pool_port,
            }
        )

    def _holder(self, args: ManagedDatabaseArgs) -> pulumi.Resource | None:
        return None if args.cluster_id is not None else self._goes_with(self.cluster, protected=args.protected)

    def _cluster(self, name: str, args: ManagedDatabaseArgs) -> digitalocean.DatabaseCluster:
        if args.cluster_id is not None:
            return digitalocean.DatabaseCluster.get(f"{name}-cluster", args.cluster_id, opts=self._child())
        return digitalocean.DatabaseCluster(
            f"{name}-cluster",
            name=args.name or name,
            engine="pg",
            version=args.version,
            region=args.region,
            size=args.size,
            node_count=args.nodes,
            storage_size_mib=None if args.storage is None else pulumi.Output.from_input(args.storage).apply(_mib),
            private_network_uuid=args.vpc_id,
            tags=list(args.tags) or None,
            maintenance_windows=[
                digitalocean.DatabaseClusterMaintenanceWindowArgs(day=args.maintenance_day, hour=args.maintenance_hour)
            ],
            # No `project_id`: it replaces the cluster. The project lists the cluster instead.
            opts=self._child(
                protected=args.protected, custom_timeouts=pulumi.CustomTimeouts(create="60m", update="60m")
            ),
        )

    def _pools(
        self,
        name: str,
        args: ManagedDatabaseArgs,
        databases: Mapping[str, digitalocean.DatabaseDb],
        user: digitalocean.DatabaseUser,
    ) -> dict[str, digitalocean.DatabaseConnectionPool]:
        """Make the pools, one after the other, as the databases are."""
        made: dict[str, digitalocean.DatabaseConnectionPool] = {}
        for title, pool in args.pools.items():
            database = pool.database or args.databases[0]
            if database not in databases:
                raise ValueError(f"{name}: the pool {title} leads to {database}, which is not one of databases")
            made[title] = digitalocean.DatabaseConnectionPool(
                f"{name}-pool-{title}",
                name=pulumi.Output.from_input(args.user).apply(
                    lambda owner, title=title, pool=pool, database=database: pool_name(title, pool, database, owner)
                ),
                cluster_id=self.cluster.id,
                mode=pool.mode,
                size=pool.size,
                db_name=databases[database].name,
                user=user.name,
                opts=self._child(depends_on=[*self.ready, *list(made.values())[-1:]], deleted_with=self._holder(args)),
            )
        return made

    def _trusted_sources(self, name: str, args: ManagedDatabaseArgs) -> digitalocean.DatabaseFirewall:
        """Close the cluster to all but these; one resource holds the whole list, because every write replaces it.

        It is always retained. Its deletion writes an empty list, which lets everybody in who has the password, and is
        the first thing that a destroy or a replacement would do. The list goes with its cluster instead.
        """
        kinds = {"tag": args.trusted_tags, "droplet": args.trusted_droplets, "ip_addr": args.trusted_sources}
        rules = [
            digitalocean.DatabaseFirewallRuleArgs(type=kind, value=value)
            for kind, values in kinds.items()
            for value in values
        ]
        if not rules:
            raise ValueError(
                f"{name}: nobody may connect; a cluster without trusted sources is open to all. "
                "Give trusted_tags, trusted_droplets or trusted_sources"
            )
        return digitalocean.DatabaseFirewall(
            f"{name}-trusted-sources",
            cluster_id=self.cluster.id,
            rules=rules,
            opts=self._child(retained=True, deleted_with=self._holder(args)),
        )
