"""Managed PostgreSQL: the cluster, who may reach it, its databases, the app's user and its pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import AnclaComponent


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
    """Databases; the pool is of the first."""
    user: pulumi.Input[str] = "app"
    """User of the app."""
    pool_size: int | None = None
    """Server connections of a PgBouncer pool; default: no pool."""
    pool_mode: Literal["transaction", "session", "statement"] = "transaction"
    """When a client gives its server connection back."""
    pool_name: str | None = None
    """Name of the pool; default: one that changes with database, mode and size, because a new pool comes before the
    old one goes."""
    maintenance_day: str = "sunday"
    """Day on which DigitalOcean may update the cluster."""
    maintenance_hour: str = "07:00"
    """Hour (UTC) from which it may."""
    cluster_id: pulumi.Input[str] | None = None
    """A cluster that is there already: databases, user and pool are made in it; the cluster and the list of who may
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


def _secret(password: pulumi.Output[str], user: pulumi.Output[str]) -> pulumi.Output[str]:
    return pulumi.Output.secret(pulumi.Output.all(password, user).apply(lambda both: known_password(*both)))


class ManagedDatabase(AnclaComponent):
    """A PostgreSQL cluster that is closed to other clients before it has any data; its databases, user and pool."""

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
    pool_name: pulumi.Output[str] | None
    """Name of the pool, by which clients connect as to a database; None without one."""
    pool_port: pulumi.Output[int] | None
    """Port of the pool; None without one."""

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
        self.pool_name = self.pool_port = None
        if args.pool_size is not None:
            pool = digitalocean.DatabaseConnectionPool(
                f"{name}-pool",
                name=args.pool_name or f"{args.databases[0]}-{args.pool_mode}-{args.pool_size}",
                cluster_id=self.cluster.id,
                mode=args.pool_mode,
                size=args.pool_size,
                db_name=databases[0].name,
                user=user.name,
                opts=inside,
            )
            self.pool_name, self.pool_port = pool.name, pool.port
            self.ready = [*self.ready, pool]
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
                "pool_name": self.pool_name,
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
