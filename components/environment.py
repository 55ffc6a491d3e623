"""A whole environment of the droplet topology: every component, in an order that never leaves anything exposed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi

from blueprint.backup import BackupDestination
from blueprint.fields import REGISTRY_REGIONS
from blueprint.machine import backup_timer_settings, machine_settings
from blueprint.settings import EnvironmentSettings, ManagedPostgresql
from components.app_droplet import SSH_PORT, USER, AppDroplet, AppDropletArgs
from components.asset_bucket import AssetBucketWithCDN, AssetBucketWithCDNArgs
from components.backup_bucket import BackupBucket, BackupBucketArgs, BackupPlace
from components.converge import Converge, ConvergeArgs, Grants, GrantsArgs, OpsInstall, OpsInstallArgs
from components.credentials import credentials_of
from components.dns_zone import AssetsHost, DnsZone, DnsZoneArgs
from components.exports import Built, build_exports, build_machine_outputs, build_machine_secrets
from components.guard import Account, pinned_provider
from components.host_plan import plan_digests
from components.lifecycle import lifecycle_of
from components.managed_database import ManagedDatabase, ManagedDatabaseArgs, PoolArgs
from components.monitoring import Monitoring, MonitoringArgs
from components.network import Network, NetworkArgs
from components.project import Project, ProjectArgs
from components.registry import Registry, RegistryArgs

_FOREIGN_REGION = "auto"
"""Of a bucket outside DigitalOcean whose region is not said; R2 wants exactly this, others ignore it."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentArgs:
    """The settings, and the account to build in."""

    settings: EnvironmentSettings
    account: Account


def registry_region(settings: EnvironmentSettings) -> str | None:
    """Return the registry's region; None lets DigitalOcean pick, where the environment's has no registries."""
    own = settings.region.value
    return settings.registry.region or (own if own in REGISTRY_REGIONS else None)


class Environment(pulumi.ComponentResource):
    """Network, registry, database, buckets, droplet, zone, monitoring, and the project that holds them.

    `name` is the stem of every name a person sees at DigitalOcean, such as `nextgentech-prod`: a resource made again
    after an interruption meets the first one by its name, instead of becoming a second one.
    `exports` are the stack's outputs.
    """

    exports: dict[str, Any]

    def __init__(self, name: str, args: EnvironmentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        provider = pulumi.ResourceOptions(providers=[pinned_provider(name, args.account)])
        super().__init__("ancla:environment:Environment", name, None, pulumi.ResourceOptions.merge(opts, provider))
        settings = args.settings
        self._name, self._settings = name, settings
        self._lifecycle = lifecycle_of(settings.environment)
        self._credentials = credentials_of(settings)
        self._child = pulumi.ResourceOptions(parent=self)
        self._backup_urns: list[pulumi.Output[str]] = []
        self._network = self._build_network()
        droplet = self._droplet()
        built = Built(
            settings=settings,
            account=args.account.uuid,
            credentials=self._credentials,
            droplets=[droplet],
            database=self._database(),
            assets=self._assets(),
            backups=self._backups(),
            registry=self._registry(),
        )
        self._converge(droplet, built)
        zone = self._zone(droplet, built.assets)
        Monitoring(
            f"{name}-monitoring",
            MonitoringArgs(
                name=name,
                settings=settings.monitoring,
                domain=settings.domain,
                tag=self._network.tag,
                slack_webhook=self._credentials.slack_webhook,
            ),
            self._child,
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
                ssh_sources=settings.access.ssh_sources,
                ip_range=settings.network.ip_range,
            ),
            self._child,
        )

    def _droplet(self) -> AppDroplet:
        settings = self._settings
        return AppDroplet(
            f"{self._name}-app",
            AppDropletArgs(
                name=self._name,
                region=settings.region.value,
                size=settings.droplet.size,
                image=settings.droplet.image,
                backups=settings.droplet.backups,
                monitoring=settings.droplet.monitoring,
                reserved_ip=settings.droplet.reserved_ip,
                vpc_id=self._network.vpc_id,
                tag=self._network.tag,
                credentials=self._credentials,
                lifecycle=self._lifecycle,
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
                databases=database.databases,
                user=database.user,
                pool=PoolArgs(name=database.pool_name, mode=database.pool.mode, size=database.pool.size)
                if database.pool and database.pool_name
                else None,
                maintenance=(settings.maintenance.day, settings.maintenance.hour),
                vpc_id=self._network.vpc_id,
                tag=self._network.tag,
                trusted_sources=database.trusted_sources,
                lifecycle=self._lifecycle,
            ),
            self._child,
        )

    def _assets(self) -> AssetBucketWithCDN | None:
        settings = self._settings
        if settings.assets is None:
            return None
        return AssetBucketWithCDN(
            f"{self._name}-assets",
            AssetBucketWithCDNArgs(
                settings=settings.assets,
                region=settings.region.value,
                key_name=f"{self._name}-assets",
                lifecycle=self._lifecycle,
            ),
            self._child,
        )

    def _backups(self) -> list[BackupPlace]:
        return [self._backup_place(destination) for destination in self._settings.backup.destinations]

    def _backup_place(self, destination: BackupDestination) -> BackupPlace:
        settings = self._settings
        if destination.endpoint is not None:
            key = settings.secrets.backup_keys[destination.bucket]
            return BackupPlace(
                bucket=destination.bucket,
                region=destination.region or _FOREIGN_REGION,
                endpoint=destination.endpoint,
                prefix=destination.prefix,
                access_key=key.access_key,
                secret_key=pulumi.Output.secret(key.secret_key.get_secret_value()),
            )
        made = BackupBucket(
            f"{self._name}-backups-{destination.bucket}",
            BackupBucketArgs(
                bucket=destination.bucket,
                region=destination.region or settings.region.value,
                prefix=destination.prefix,
                key_name=f"{self._name}-backups-{destination.bucket}",
                lifecycle=self._lifecycle,
            ),
            self._child,
        )
        self._backup_urns.append(made.bucket_urn)
        return made.place

    def _registry(self) -> Registry:
        settings = self._settings
        return Registry(
            f"{self._name}-images",
            RegistryArgs(
                name=settings.registry.name,
                tier=settings.registry.tier,
                region=registry_region(settings),
                create=settings.registry.create,
                lifecycle=self._lifecycle,
            ),
            self._child,
        )

    def _converge(self, droplet: AppDroplet, built: Built) -> None:
        settings, database = self._settings, built.database
        machine = machine_settings(
            settings, hostname=self._name, user=USER, port=SSH_PORT, deploy_key=self._credentials.deploy_public
        )
        timers = backup_timer_settings(settings)
        plans = plan_digests(settings.droplet.image, machine, timers)
        converge = Converge(
            f"{self._name}-converge",
            ConvergeArgs(
                login=droplet.login,
                machine=machine,
                plan=plans.machine,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=[droplet.first_contact.command]),
        )
        OpsInstall(
            f"{self._name}-ops",
            OpsInstallArgs(
                login=droplet.login,
                plan=plans.ops,
                timers=timers,
                outputs=build_machine_outputs(built),
                secrets=build_machine_secrets(built),
            ),
            # After the converge, which installs the packages that ops needs.
            pulumi.ResourceOptions(parent=self, depends_on=[converge.command]),
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
                app_user=database.user,
            ),
            # After the converge, which installs psql on the droplet.
            pulumi.ResourceOptions(parent=self, depends_on=[converge.command, *database.ready]),
        )

    def _zone(self, droplet: AppDroplet, assets: AssetBucketWithCDN | None) -> DnsZone | None:
        settings = self._settings
        if not settings.dns.manage:
            return None
        host = None
        cdn = settings.assets.cdn if settings.assets else None
        if cdn is not None and cdn.domain is not None and assets is not None and assets.cdn_endpoint is not None:
            host = AssetsHost(domain=cdn.domain, endpoint=assets.cdn_endpoint)
        return DnsZone(
            f"{self._name}-dns",
            DnsZoneArgs(
                domain=settings.domain,
                address=droplet.address,
                hosts=settings.dns.hosts,
                authorities=settings.dns.caa,
                records=settings.dns.records,
                assets=host,
                lifecycle=self._lifecycle,
            ),
            self._child,
        )

    def _project(self, built: Built, zone: DnsZone | None) -> None:
        urns = [urn for droplet in built.droplets for urn in droplet.urns]
        urns += [built.database.urn_of_cluster] if built.database else []
        urns += [built.assets.bucket_urn] if built.assets else []
        urns += self._backup_urns
        urns += [zone.domain_urn] if zone else []
        Project(
            f"{self._name}-project",
            ProjectArgs(
                name=self._name,
                environment=self._settings.environment,
                description=f"{self._settings.domain}, made by Ancla",
                resources=urns,
            ),
            self._child,
        )
