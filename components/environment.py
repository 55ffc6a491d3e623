"""A whole environment of the droplet topology: every component, in an order that never leaves anything exposed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pulumi

from blueprint.fields import REGISTRY_REGIONS, Duration, Size
from blueprint.machine import backup_timer_settings, machine_settings
from blueprint.settings.backup import BackupDestination
from blueprint.settings.buckets import BucketSettings
from blueprint.settings.database import ManagedPostgresql
from blueprint.settings.environment import EnvironmentSettings
from blueprint.settings.registry import RegistrySettings
from blueprint.settings.topology import DropletTopology
from components.app_droplet import SSH_PORT, USER, AppDroplet, AppDropletArgs
from components.asset_bucket import (
    AssetBucketWithCDN,
    AssetBucketWithCDNArgs,
    CdnTtl,
    CorsRuleArgs,
    LifecycleRuleArgs,
)
from components.component import AnclaComponent
from components.converge import Grants, GrantsArgs, OpsInstall, OpsInstallArgs
from components.credentials import credentials_of
from components.dns_zone import DnsRecordArgs, DnsZone, DnsZoneArgs
from components.exports import BackupPlace, Built, build_exports, build_machine_outputs, build_machine_secrets
from components.guard import Account, pinned_provider
from components.host_plan import plan_digests
from components.lifecycle import DISPOSABLE, PRODUCTION, Kind
from components.managed_database import ManagedDatabase, ManagedDatabaseArgs, PoolArgs
from components.monitoring import Monitoring, MonitoringArgs
from components.network import Network, NetworkArgs
from components.project import Project, ProjectArgs
from components.registry import Registry, RegistryArgs

_FOREIGN_REGION = "auto"
"""Of a bucket outside DigitalOcean whose region is not said; R2 wants exactly this, others ignore it."""
_ABORT_UPLOADS_DAYS = 2  # parts of an upload that was cut off cost money and belong to no backup


@dataclass(frozen=True, kw_only=True)
class EnvironmentArgs:
    """The settings, and the account to build in."""

    settings: EnvironmentSettings
    account: Account


def registry_region(registry: RegistrySettings, region: str) -> str | None:
    """Return the registry's region; None lets DigitalOcean pick, where the environment's has no registries."""
    return registry.region or (region if region in REGISTRY_REGIONS else None)


def _days(duration: Duration | None) -> int | None:
    return None if duration is None else duration // Duration("1d")


class Environment(AnclaComponent):
    """Network, registry, database, buckets, droplet, zone, monitoring, and the project that holds them.

    `name` is the stem of every name a person sees at DigitalOcean, such as `nextgentech-prod`: a resource made again
    after an interruption meets the first one by its name, instead of becoming a second one.
    `exports` are the stack's outputs.
    """

    exports: dict[str, Any]

    def __init__(self, name: str, args: EnvironmentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        provider = pulumi.ResourceOptions(providers=[pinned_provider(name, args.account)])
        super().__init__("ancla:index:Environment", name, pulumi.ResourceOptions.merge(opts, provider))
        settings = args.settings
        if not isinstance(settings.topology, DropletTopology):
            # `load_program` refuses the other kinds before.
            raise TypeError(f"topology.kind: {settings.topology.kind} is not built yet")
        self._name, self._settings, self._topology = name, settings, settings.topology
        self._endpoint = args.account.endpoint
        self._lifecycle = DISPOSABLE if settings.is_disposable else PRODUCTION
        self._credentials = credentials_of(settings)
        self._machine = machine_settings(
            settings, hostname=name, user=USER, port=SSH_PORT, deploy_key=self._credentials.deploy_public
        )
        # Here, so that the droplet finds the answer about its machine: a preview asks `host` once.
        self._timers = backup_timer_settings(settings)
        self._plan = plan_digests(self._topology.image, self._machine, self._timers).ops
        self._backup_urns: list[pulumi.Output[str]] = []
        self._network = self._build_network()
        droplet = self._droplet()
        built = Built(
            settings=settings,
            account=args.account.uuid,
            credentials=self._credentials,
            droplets=[droplet],
            database=self._database(),
            buckets={title: self._bucket(title, bucket) for title, bucket in settings.buckets.items()},
            backups=self._backups(),
            registry=self._registry(),
        )
        self._finish(droplet, built)
        zone = self._zone(droplet)
        Monitoring(
            f"{name}-monitoring",
            MonitoringArgs(
                name=name,
                settings=settings.alerts,
                domain=settings.edge.canonical,
                tag=self._network.tag,
                webhooks=self._credentials.channels,
            ),
            self._child(),
        )
        self._project(built, zone)
        self.exports = build_exports(built)
        self.register_outputs({})

    def _build_network(self) -> Network:
        settings = self._settings
        return Network(
            f"{self._name}-network",
            NetworkArgs(
                name=self._name,
                region=settings.region.value,
                ssh_sources=settings.access.ssh_from,
                ip_range=self._topology.ip_range,
            ),
            self._child(),
        )

    def _droplet(self) -> AppDroplet:
        settings = self._settings
        return AppDroplet(
            f"{self._name}-app",
            AppDropletArgs(
                name=self._name,
                region=settings.region.value,
                size=self._topology.size,
                image=self._topology.image,
                grow_disk=self._topology.grow_disk,
                backups=self._topology.backups,
                vpc_id=self._network.vpc_id,
                tags=[self._network.tag],
                deploy_key=self._credentials.deploy_key,
                bootstrap_host_key=self._credentials.bootstrap_host_key,
                host_key=self._credentials.host_key,
                machine=self._machine,
                protected=self._lifecycle.protects(Kind.MACHINE),
            ),
            # The firewall is there first: a droplet is never reachable without it.
            pulumi.ResourceOptions(parent=self, depends_on=[self._network.firewall]),
        )

    def _database(self) -> ManagedDatabase | None:
        settings, database = self._settings, self._settings.database
        if not isinstance(database, ManagedPostgresql):
            return None
        return ManagedDatabase(
            f"{self._name}-database",
            ManagedDatabaseArgs(
                name=self._name,
                region=settings.region.value,
                version=database.version,
                size=database.size,
                nodes=database.nodes,
                storage=None if database.storage is None else database.storage // Size("1G"),
                databases=database.databases,
                user=database.user,
                pools={name: PoolArgs(**pool.model_dump()) for name, pool in database.pools.items()},
                maintenance_day=settings.maintenance.day,
                maintenance_hour=settings.maintenance.hour,
                vpc_id=self._network.vpc_id,
                tags=[self._network.tag],
                trusted_tags=[self._network.tag],
                trusted_sources=database.trusted_sources,
                protected=self._lifecycle.protects(Kind.DATABASE),
            ),
            self._child(),
        )

    def _extensions(self) -> tuple[str, ...]:
        database = self._settings.database
        return database.extensions if isinstance(database, ManagedPostgresql) else ()

    def _bucket(self, name: str, bucket: BucketSettings) -> AssetBucketWithCDN:
        cdn = bucket.cdn
        return AssetBucketWithCDN(
            f"{self._name}-bucket-{name}",
            AssetBucketWithCDNArgs(
                bucket=bucket.bucket,
                region=self._settings.region.value,
                cdn=cdn is not None,
                ttl=cast("CdnTtl", int(cdn.ttl)) if cdn else 3600,
                cors=[
                    CorsRuleArgs(
                        origins=rule.origins, methods=rule.methods, headers=rule.headers, max_age=int(rule.max_age)
                    )
                    for rule in bucket.cors
                ],
                lifecycle_rules=[
                    LifecycleRuleArgs(
                        prefix=rule.prefix, expire_days=_days(rule.expire), abort_uploads_days=_days(rule.abort_uploads)
                    )
                    for rule in bucket.lifecycle
                ],
                versioning=bucket.versioning,
                force_destroy=self._lifecycle.force_destroy,
                protected=self._lifecycle.protects(Kind.BUCKET),
            ),
            self._child(),
        )

    def _backups(self) -> list[BackupPlace]:
        return [self._backup_place(name, each) for name, each in self._settings.backup.destinations.items()]

    def _backup_place(self, name: str, destination: BackupDestination) -> BackupPlace:
        settings = self._settings
        if destination.bucket is None:
            raise ValueError(f"backup.destinations.{name}: a folder cannot be built")
        if destination.endpoint is not None:
            key = settings.secrets.backup_keys[name]
            return BackupPlace(
                name=name,
                bucket=destination.bucket,
                region=destination.region or _FOREIGN_REGION,
                endpoint=destination.endpoint,
                prefix=destination.prefix,
                keep_last=destination.keep_last,
                access_key=key.access_key,
                secret_key=pulumi.Output.secret(key.secret_key.get_secret_value()),
            )
        region = destination.region or settings.region.value
        # By the bucket, not by the destination's name: who renames a destination renames nothing at DigitalOcean.
        # Retention is the work of ops, which knows the objects of one restore point.
        made = AssetBucketWithCDN(
            f"{self._name}-backups-{destination.bucket}",
            AssetBucketWithCDNArgs(
                bucket=destination.bucket,
                region=region,
                cdn=False,
                lifecycle_rules=[LifecycleRuleArgs(abort_uploads_days=_ABORT_UPLOADS_DAYS)],
                force_destroy=self._lifecycle.force_destroy,
                protected=self._lifecycle.protects(Kind.BACKUPS),
            ),
            self._child(),
        )
        self._backup_urns.append(made.bucket_urn)
        return BackupPlace(
            name=name,
            bucket=made.bucket,
            region=region,
            endpoint=made.endpoint,
            prefix=destination.prefix,
            keep_last=destination.keep_last,
            access_key=made.access_key,
            secret_key=made.secret_key,
        )

    def _registry(self) -> Registry | None:
        registry = self._settings.registry
        if registry is None:
            return None
        return Registry(
            f"{self._name}-images",
            RegistryArgs(
                name=registry.name,
                tier=registry.tier,
                region=registry_region(registry, self._settings.region.value),
                shared=registry.shared,
                endpoint=self._endpoint,
                protected=self._lifecycle.protects(Kind.REGISTRY),
            ),
            self._child(),
        )

    def _finish(self, droplet: AppDroplet, built: Built) -> None:
        database = built.database
        OpsInstall(
            f"{self._name}-ops",
            OpsInstallArgs(
                login=droplet.login,
                plan=self._plan,
                timers=self._timers,
                outputs=build_machine_outputs(built),
                secrets=build_machine_secrets(built),
            ),
            # After the bootstrap, which installs the packages that ops needs.
            pulumi.ResourceOptions(parent=self, depends_on=droplet.ready),
        )
        if database is None:
            return
        Grants(
            f"{self._name}-grants",
            GrantsArgs(
                login=droplet.login,
                cluster_id=database.cluster_id,
                private_host=database.cluster.private_host,
                database_port=database.cluster.port,
                admin_user=database.admin_user,
                admin_password=database.admin_password,
                ca_certificate=database.ca_certificate,
                databases=database.databases,
                extensions=self._extensions(),
                app_user=database.user,
            ),
            # After the bootstrap, which installs psql on the droplet.
            pulumi.ResourceOptions(parent=self, depends_on=[*droplet.ready, *database.ready]),
        )

    def _zone(self, droplet: AppDroplet) -> DnsZone | None:
        settings = self._settings
        if not settings.edge.dns.manage:
            return None
        return DnsZone(
            f"{self._name}-dns",
            DnsZoneArgs(
                domain=settings.edge.domain,
                names=dict.fromkeys(settings.edge.names, droplet.address),
                authorities=settings.edge.authorities,
                records=[
                    DnsRecordArgs(**record.model_dump(exclude={"ttl"}), ttl=int(record.ttl or settings.edge.dns.ttl))
                    for record in settings.edge.dns.records.values()
                ],
                ttl=int(settings.edge.dns.ttl),
                protected=self._lifecycle.protects(Kind.ZONE),
            ),
            self._child(),
        )

    def _project(self, built: Built, zone: DnsZone | None) -> None:
        urns = [droplet.droplet_urn for droplet in built.droplets]
        urns += [built.database.urn_of_cluster] if built.database else []
        urns += [bucket.bucket_urn for bucket in built.buckets.values()]
        urns += self._backup_urns
        urns += [zone.domain_urn] if zone else []
        Project(
            f"{self._name}-project",
            ProjectArgs(
                name=self._name,
                environment=self._settings.environment,
                description=f"{self._settings.edge.canonical}, made by Ancla",
                resources=urns,
            ),
            self._child(),
        )
