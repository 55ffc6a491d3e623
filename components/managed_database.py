"""Managed PostgreSQL: the cluster, who may reach it, its databases, the app's user and its pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean

from components.lifecycle import Kind, Lifecycle


@dataclass(frozen=True, kw_only=True)
class PoolArgs:
    """A PgBouncer pool; `size` counts server connections."""

    name: str
    mode: str
    size: int


@dataclass(frozen=True, kw_only=True)
class ManagedDatabaseArgs:
    """`tag` is that of the droplets that may connect, `trusted_sources` are CIDRs beside them.

    `maintenance` is the day and hour (UTC) from which DigitalOcean may update the cluster.
    """

    name: str
    region: str
    version: str
    size: str
    nodes: int
    databases: Sequence[str]
    user: str
    pool: PoolArgs | None
    maintenance: tuple[str, str]
    vpc_id: pulumi.Input[str]
    tag: pulumi.Input[str]
    trusted_sources: Sequence[str]
    lifecycle: Lifecycle


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


class ManagedDatabase(pulumi.ComponentResource):
    """A PostgreSQL cluster that is closed to other clients before it has any data."""

    cluster: digitalocean.DatabaseCluster
    databases: Sequence[str]
    cluster_id: pulumi.Output[str]
    urn_of_cluster: pulumi.Output[str]
    user: pulumi.Output[str]
    password: pulumi.Output[str]
    admin_user: pulumi.Output[str]
    admin_password: pulumi.Output[str]
    ca_certificate: pulumi.Output[str]
    pool_name: pulumi.Output[str] | None
    pool_port: pulumi.Output[int] | None
    ready: Sequence[pulumi.Resource]

    def __init__(self, name: str, args: ManagedDatabaseArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:managed_database:ManagedDatabase", name, None, opts)
        self.cluster = self._cluster(name, args)
        trusted = self._trusted_sources(name, args)
        # What is in the cluster goes with it: no call for each, and none that finds the cluster gone.
        holder = args.lifecycle.goes_with(self.cluster, Kind.DATABASE)
        # One after the other: beside other changes of its cluster, what was just made is not found for a moment, and
        # the provider then takes it for never made (terraform-provider-digitalocean#493).
        databases: list[digitalocean.DatabaseDb] = []
        for database in args.databases:
            before = [trusted, *databases[-1:]]
            databases.append(
                digitalocean.DatabaseDb(
                    f"{name}-{database}",
                    name=database,
                    cluster_id=self.cluster.id,
                    opts=args.lifecycle.options(self, Kind.DATABASE, depends_on=before, deleted_with=holder),
                )
            )
        inside = pulumi.ResourceOptions(parent=self, depends_on=[trusted, databases[-1]], deleted_with=holder)
        user = digitalocean.DatabaseUser(f"{name}-user", name=args.user, cluster_id=self.cluster.id, opts=inside)
        self.ready = [trusted, user, *databases]
        self.pool_name = self.pool_port = None
        if args.pool is not None:
            pool = digitalocean.DatabaseConnectionPool(
                f"{name}-pool",
                name=args.pool.name,
                cluster_id=self.cluster.id,
                mode=args.pool.mode,
                size=args.pool.size,
                db_name=databases[0].name,
                user=user.name,
                opts=inside,
            )
            self.pool_name, self.pool_port = pool.name, pool.port
            self.ready = [*self.ready, pool]
        certificate = digitalocean.get_database_ca_output(
            cluster_id=self.cluster.id, opts=pulumi.InvokeOutputOptions(parent=self)
        )
        self.databases = tuple(args.databases)
        self.cluster_id = self.cluster.id
        self.urn_of_cluster = self.cluster.cluster_urn
        self.user, self.admin_user = user.name, self.cluster.user
        self.password = _secret(user.password, self.user)
        self.admin_password = _secret(self.cluster.password, self.admin_user)
        self.ca_certificate = certificate.certificate
        self.register_outputs({"cluster_id": self.cluster_id, "user": self.user, "pool_name": self.pool_name})

    def _cluster(self, name: str, args: ManagedDatabaseArgs) -> digitalocean.DatabaseCluster:
        day, hour = args.maintenance
        return digitalocean.DatabaseCluster(
            f"{name}-cluster",
            name=args.name,
            engine="pg",
            version=args.version,
            region=args.region,
            size=args.size,
            node_count=args.nodes,
            private_network_uuid=args.vpc_id,
            tags=[args.tag],
            maintenance_windows=[digitalocean.DatabaseClusterMaintenanceWindowArgs(day=day, hour=hour)],
            # No `project_id`: it replaces the cluster. The project lists the cluster instead.
            opts=args.lifecycle.options(
                self, Kind.DATABASE, custom_timeouts=pulumi.CustomTimeouts(create="60m", update="60m")
            ),
        )

    def _trusted_sources(self, name: str, args: ManagedDatabaseArgs) -> digitalocean.DatabaseFirewall:
        """Close the cluster to all but these; one resource holds the whole list, because every write replaces it."""
        rules = [digitalocean.DatabaseFirewallRuleArgs(type="tag", value=args.tag)]
        rules += [digitalocean.DatabaseFirewallRuleArgs(type="ip_addr", value=cidr) for cidr in args.trusted_sources]
        holder = args.lifecycle.goes_with(self.cluster, Kind.DATABASE)
        return digitalocean.DatabaseFirewall(
            f"{name}-trusted-sources",
            cluster_id=self.cluster.id,
            rules=rules,
            opts=args.lifecycle.options(self, Kind.TRUSTED_SOURCES, deleted_with=holder),
        )
