"""Settings of a stack file: one frozen model, the same for the engine, `ops`, the editor and CI.

Keys are camelCase in the stack file (`ancla:droplet: {size: …}`) and snake_case here.
Everything the five plans name parses; keys that are not implemented yet are refused by name (see `not_built`).

Reading a stack file or the engine's configuration is `blueprint.pulumi_config`'s work.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator
from pydantic.alias_generators import to_camel

from blueprint.backup import BackupSettings
from blueprint.dns_records import (
    FIELDS,
    NULL,
    TTL,
    UNKNOWN,
    Claim,
    RecordType,
    canonical,
    check_value,
    conflicts,
    describe,
    is_outside,
    relative,
)
from blueprint.fields import (
    AbsolutePath,
    Authority,
    BucketName,
    Cidr,
    ClusterDatabase,
    ClusterMajor,
    DatabaseSize,
    Domain,
    DropletSize,
    EnvironmentVariable,
    OneOf,
    Percent,
    Port,
    PostgresName,
    RecordName,
    Region,
    RegistryRegion,
    Slug,
    SshPublicKey,
    TrustedSource,
    UrlPath,
    Written,
)
from blueprint.model import Settings
from blueprint.schedule import DAYS, WEEK, hours_of_week
from blueprint.sizes import DATABASE_SIZES, REGISTRY_TIERS, SMALLEST_WITH_STANDBY

DISPOSABLE_ENVIRONMENTS = frozenset({"staging", "development"})
"""Environments whose data may go; every other one is treated as production."""


class DropletTopology(Settings):
    """One droplet runs the whole app (plans 000, 001, 003, 004)."""

    kind: Literal["droplet"] = "droplet"


class LoadBalancedTopology(Settings):
    """A load balancer and N droplets (plan 002, production)."""

    kind: Literal["load-balanced"]
    droplets: int = Field(ge=2, le=50)
    load_balancer_nodes: int = Field(default=1, ge=1, le=100)


class ClusterTopology(Settings):
    """DOKS (plan 002, enterprise)."""

    kind: Literal["cluster"]
    node_size: DropletSize
    min_nodes: int = Field(ge=1)
    max_nodes: int = Field(ge=1)


class AppPlatformTopology(Settings):
    """App Platform (plan 000, option B)."""

    kind: Literal["app-platform"]
    instance_size: str = "apps-s-1vcpu-1gb"


Topology = Annotated[
    DropletTopology | LoadBalancedTopology | ClusterTopology | AppPlatformTopology, Field(discriminator="kind")
]


class DropletSettings(Settings):
    """The machine. `backups` is DigitalOcean's own image backup of the droplet (plan 000: weekly)."""

    size: DropletSize
    image: Annotated[str, OneOf(("ubuntu-22-04-x64", "ubuntu-24-04-x64", "ubuntu-26-04-x64"), "droplet image")] = (
        "ubuntu-24-04-x64"
    )
    backups: Literal["none", "weekly", "daily"] = "none"
    monitoring: bool = True
    reserved_ip: bool = True


class ServiceSettings(Settings):
    """One container of the app. `route` is its public path on the app's domain; none keeps it private."""

    name: Slug
    image: Annotated[
        str,
        Written(
            r"[a-z0-9][a-z0-9._/-]*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?",
            "is not an image: write its repository in the environment's registry, in lower case, and a tag, "
            "such as web:1.2.0",
        ),
    ] = Field(description="repository in the environment's registry and tag, such as web:1.2.0")
    port: Port
    health_path: UrlPath = "/health"
    route: (
        Annotated[
            str,
            Written(
                r"/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?",
                "is not a route: it begins with /, does not end with one, and has letters, digits, -, _, . and ~ "
                "between, such as /api/v1",
            ),
        ]
        | None
    ) = None
    environment: dict[EnvironmentVariable, str] = Field(default_factory=dict)
    secrets: tuple[EnvironmentVariable, ...] = Field(
        default=(), description="names of variables whose values are in secrets.app"
    )
    replicas: int = Field(default=1, ge=1, le=8)


LONGEST_POOL_NAME = 60
"""Characters (API reference, connection pools)."""
MAINTENANCE_HOURS = 4
BACKUP_HOURS = 1
"""Hours that a backup is given before an update may begin."""


class PoolSettings(Settings):
    """A PgBouncer pool of the cluster, on port 25061. `size` counts server connections."""

    mode: Literal["transaction", "session", "statement"] = "transaction"
    size: int = Field(default=10, ge=1, le=1000)


class MaintenanceSettings(Settings):
    """When DigitalOcean may begin to update the cluster: in the four hours from `hour` (UTC) on.

    An update moves the cluster to another address, so connections break; it cannot be refused.
    """

    day: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = "sunday"
    hour: Annotated[
        str, Written(r"([01][0-9]|2[0-3]):00", 'is not an hour of the day: write it in quotes, such as "07:00"')
    ] = "07:00"

    def hours_of_week(self, *, before: int = 0) -> set[int]:
        """Return the hours in which an update may begin, and so many before."""
        begin = DAYS.index(self.day) * 24 + int(self.hour[:2])
        return {(begin + number) % WEEK for number in range(-before, MAINTENANCE_HOURS)}

    def clash_with(self, schedule: str) -> str | None:
        """Return why backups of this schedule do not go with it; None if they do, or if none would."""
        free = self.clear_of(schedule)
        if free is None or free == self:
            return None
        return (
            f"may begin from {self.hour} until {MAINTENANCE_HOURS} hours later (UTC) on {self.day}, "
            f'and breaks a backup that runs then: backup.schedule is "{schedule}"; '
            f'choose another hour, such as "{free.hour}"'
        )

    def clear_of(self, schedule: str) -> MaintenanceSettings | None:
        """Return the first such window of its day, from its own hour on, that breaks no backup of this schedule."""
        runs = hours_of_week(schedule)
        hours = (f"{(int(self.hour[:2]) + later) % 24:02}:00" for later in range(24))
        windows = (self.model_copy(update={"hour": hour}) for hour in hours)
        return next((one for one in windows if one.hours_of_week(before=BACKUP_HOURS).isdisjoint(runs)), None)


class ManagedPostgresql(Settings):
    """DigitalOcean Managed PostgreSQL. `nodes` above 1 adds standbys (high availability)."""

    kind: Literal["managed-postgresql"] = "managed-postgresql"
    version: ClusterMajor = "15"
    size: DatabaseSize
    nodes: int = Field(default=1, ge=1, le=3)
    databases: tuple[ClusterDatabase, ...] = Field(default=("app",), min_length=1)
    user: PostgresName = "app"
    pool: PoolSettings | None = None
    read_replicas: int = Field(default=0, ge=0, le=5)
    extensions: tuple[str, ...] = ()
    maintenance: MaintenanceSettings | None = Field(
        default=None, description="default: on Sunday, the first hour from 07:00 UTC on that keeps clear of backups"
    )
    trusted_sources: tuple[TrustedSource, ...] = Field(
        default=(),
        max_length=98,  # DigitalOcean takes 100, and the environment's droplet counts two
        description="IPv4 addresses let in beside the environment's droplets",
    )

    @property
    def pool_name(self) -> str | None:
        """A name that changes with whatever replaces the pool, so that the new one is made before the old one goes."""
        return f"{self.databases[0]}-{self.pool.mode}-{self.pool.size}" if self.pool else None

    @model_validator(mode="after")
    def _standby_needs_memory(self) -> ManagedPostgresql:
        if self.nodes > 1 and DATABASE_SIZES[self.size].memory < SMALLEST_WITH_STANDBY:
            raise ValueError(f"nodes: {self.nodes} needs a size of 2 GB or more; {self.size} takes no standby")
        return self

    @model_validator(mode="after")
    def _name_of_the_pool(self) -> ManagedPostgresql:
        if (name := self.pool_name) is not None and len(name) > LONGEST_POOL_NAME:
            raise ValueError(
                f"databases[0]: its pool would be called {name}, of {len(name)} characters, and DigitalOcean takes "
                f"{LONGEST_POOL_NAME}; shorten the database's name, or leave pool out"
            )
        return self


class SelfHostedPostgresql(Settings):
    """PostgreSQL in a container of the droplet (plans 001 and 004)."""

    kind: Literal["self-hosted-postgresql"]
    version: str = "15"
    databases: tuple[ClusterDatabase, ...] = ("app",)
    extensions: tuple[str, ...] = ()


class Sqlite(Settings):
    """A SQLite file on the droplet (plan 003)."""

    kind: Literal["sqlite"]
    path: AbsolutePath


class NoDatabase(Settings):
    """The environment has no database."""

    kind: Literal["none"]


Database = Annotated[ManagedPostgresql | SelfHostedPostgresql | Sqlite | NoDatabase, Field(discriminator="kind")]


class CacheSettings(Settings):
    """Redis or Valkey (plans 001, 002, 004)."""

    kind: Literal["managed-valkey", "self-hosted-valkey", "self-hosted-redis"]
    size: DatabaseSize | None = None


class CorsRule(Settings):
    """One CORS rule of the bucket. `max_age` in seconds."""

    origins: tuple[str, ...] = Field(min_length=1)
    methods: tuple[Literal["GET", "HEAD", "PUT", "POST", "DELETE"], ...] = ("GET", "HEAD")
    headers: tuple[str, ...] = ("*",)
    max_age: int = Field(default=3600, ge=0)


class LifecycleRule(Settings):
    """Objects under `prefix` go after `expire_days`; broken uploads after `abort_uploads_days`."""

    prefix: str = ""
    expire_days: int | None = Field(default=None, ge=1)
    abort_uploads_days: int | None = Field(default=1, ge=1)


class CdnSettings(Settings):
    """The CDN before the bucket. `ttl` in seconds; the custom domain needs a certificate by that name."""

    ttl: Literal[60, 600, 3600, 86400, 604800] = 3600
    domain: Domain | None = None
    certificate: str | None = None

    @model_validator(mode="after")
    def _domain_with_certificate(self) -> CdnSettings:
        if (self.domain is None) != (self.certificate is None):
            raise ValueError("domain and certificate go together: give both, or neither")
        return self


class AssetsSettings(Settings):
    """A Space for public assets. Its objects are world-readable, never world-writable."""

    bucket: BucketName
    cdn: CdnSettings | None = CdnSettings()
    cors: tuple[CorsRule, ...] = ()
    lifecycle: tuple[LifecycleRule, ...] = ()
    versioning: bool = False


class DnsRecordSettings(Settings):
    """One record beside those Ancla makes. `name` is relative to the domain (`@` is the domain itself).

    `value` has the form of its type: an address for A and AAAA, the name of a host for CNAME, MX, NS and SRV (`.` where
    there is no such service), text without quotes for TXT, an authority or `;` for CAA. Names are in ASCII (`xn--…`).
    `ttl` is in seconds. MX needs `priority`, SRV `priority`, `weight` and `port`, CAA `flags` and `tag`.
    """

    type: RecordType
    name: RecordName
    value: str
    ttl: int = Field(default=TTL, ge=30)
    priority: int | None = Field(default=None, ge=0, le=65535)
    flags: int | None = Field(default=None, ge=0, le=255)
    tag: Literal["issue", "issuewild", "iodef"] | None = None
    port: int | None = Field(default=None, ge=0, le=65535)
    weight: int | None = Field(default=None, ge=0, le=65535)

    @model_validator(mode="after")
    def _form_of_the_type(self) -> DnsRecordSettings:
        needed = FIELDS.get(self.type, ())
        kind = f"{'an' if self.type in ('A', 'AAAA', 'MX', 'SRV', 'NS') else 'a'} {self.type} record"
        for field in ("priority", "weight", "port", "flags", "tag"):
            if field in needed and getattr(self, field) is None:
                raise ValueError(f"{kind} needs {' and '.join(needed)}")
            if field not in needed and getattr(self, field) is not None:
                raise ValueError(f"{kind} takes no {field}; remove it")
        try:
            check_value(self.type, self.value, self.tag)
        except ValueError as error:
            raise ValueError(f"value: {describe(self.value)} {error}") from None
        if self.type == "MX" and self.value == NULL and self.priority != 0:
            raise ValueError('priority: an MX "." (no mail is taken here) has priority 0')
        if self.type == "SRV" and self.value != NULL and self.port == 0:
            raise ValueError('port: 0 goes with the value "." (there is no such service here); name the port')
        return self


class DnsSettings(Settings):
    """The zone. Records of the app and of the CDN come by themselves; `records` are added.

    `hosts` are the names that lead to the app; leave one out to give it a record of your own.
    """

    manage: bool = True
    hosts: tuple[Literal["@", "www", "api"], ...] = ("@", "www", "api")
    records: tuple[DnsRecordSettings, ...] = ()
    caa: tuple[Authority, ...] = Field(default=("letsencrypt.org",), description="authorities allowed to issue")


class AccessSettings(Settings):
    """Who may log in, from where. The deploy key is Ancla's own; these are people's."""

    ssh_keys: dict[Slug, SshPublicKey] = Field(default_factory=dict)
    ssh_sources: tuple[Cidr, ...] = Field(default=("0.0.0.0/0", "::/0"), min_length=1)


class Thresholds(Settings):
    """Alert above these, in percent of the droplet, held for `MonitoringSettings.window`."""

    cpu: Percent = 70
    memory: Percent = 80
    disk: Percent = 80


class UptimeSettings(Settings):
    """Outside checks of the public address. `latency_ms` in milliseconds, `period` how long it must hold."""

    enabled: bool = True
    path: UrlPath = "/health"
    regions: tuple[Literal["us_east", "us_west", "eu_west", "se_asia"], ...] = ("us_east", "us_west")
    latency_ms: int = Field(default=500, ge=1)
    period: Literal["2m", "3m", "5m", "10m", "15m", "30m", "1h"] = "5m"


class SlackChannel(Settings):
    """A Slack channel; its webhook address is the secret `secrets.slackWebhook`."""

    channel: Annotated[str, Written(r"[#@]\S+", "is not a channel: it begins with #, such as #ops")]


class MonitoringSettings(Settings):
    """DigitalOcean monitoring. E-mail addresses must be those of verified members of the team."""

    thresholds: Thresholds = Thresholds()
    window: Literal["5m", "10m", "30m", "1h"] = "5m"
    emails: tuple[
        Annotated[str, Written(r"[^@\s]+@[^@\s]+\.[^@\s]+", "is not an e-mail address, such as ops@example.org")], ...
    ] = ()
    slack: SlackChannel | None = None
    uptime: UptimeSettings = UptimeSettings()


class RegistrySettings(Settings):
    """The account's container registry (one per account). `create: false` uses the one that is there.

    Without `region` it is where the environment is; where no registries are, DigitalOcean picks a region.
    """

    name: Annotated[
        str,
        Written(
            r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
            "is not the name of a registry: use 3 to 63 lower-case letters, digits and -, "
            "with a letter or digit at both ends",
        ),
    ]
    tier: Annotated[str, OneOf(tuple(REGISTRY_TIERS), "registry tier")] = "basic"
    region: RegistryRegion | None = None
    create: bool = True


class NetworkSettings(Settings):
    """The VPC. Without `ip_range` DigitalOcean picks a free one."""

    ip_range: Cidr | None = None


class KeyPair(Settings):
    """A key pair of an S3-compatible store."""

    access_key: str
    secret_key: SecretStr


class Secrets(Settings):
    """Values that are encrypted in the stack file, or come by the environment in the sandbox.

    `deploy_key`, `bootstrap_host_key` and `host_key` are OpenSSH ed25519 private keys that `ops stack init` makes:
    who logs in, the host key a droplet is born with, and the host key it keeps after the first contact;
    `backup_signing_key` is another one, by which a manifest proves that it is of this environment. `backup_keys` are of
    the destinations outside Spaces, by bucket. `notifications` are apprise addresses for reports of failed or missing
    backups, `heartbeat` a URL that is requested after each backup (a dead man's switch).
    """

    deploy_key: SecretStr | None = None
    bootstrap_host_key: SecretStr | None = None
    host_key: SecretStr | None = None
    backup_signing_key: SecretStr | None = None
    backup_keys: dict[str, KeyPair] = Field(default_factory=dict)
    notifications: tuple[SecretStr, ...] = ()
    heartbeat: SecretStr | None = None
    slack_webhook: SecretStr | None = None
    app: dict[EnvironmentVariable, SecretStr] = Field(default_factory=dict)


class Exemption(Settings):
    """One policy rule that one resource may break, and why (`python -m policy --rules` lists the rules)."""

    rule: Slug
    resource: str = Field(min_length=1, description="name of the resource, as a preview shows it")
    reason: str = Field(min_length=1)
    until: date | None = Field(default=None, description='last day it holds, in quotes, such as "2027-01-31"')


def stem_of(project: object, environment: object) -> str:
    """Return the stem of the names that people see, which is also the tag of its resources: `nextgentech-prod`."""
    return f"{project}-{environment}"


class EnvironmentSettings(Settings):
    """Everything a stack file may say."""

    environment: Slug
    project: Slug
    domain: Domain
    region: Region
    topology: Topology = DropletTopology()
    droplet: DropletSettings
    services: tuple[ServiceSettings, ...] = Field(min_length=1)
    database: Database
    cache: CacheSettings | None = None
    assets: AssetsSettings | None = None
    registry: RegistrySettings
    network: NetworkSettings = NetworkSettings()
    dns: DnsSettings = DnsSettings()
    access: AccessSettings = AccessSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    backup: BackupSettings = BackupSettings()
    extras: tuple[str, ...] = Field(default=(), description="services switched on by name, such as pgadmin or grafana")
    account: str | None = Field(default=None, description="UUID of the DigitalOcean account this stack belongs to")
    budget: int | None = Field(default=None, ge=1, description="US dollars a month; `ops cost` fails above it")
    exemptions: tuple[Exemption, ...] = Field(
        default=(), description="policy rules this environment may break, and why"
    )
    secrets: Secrets = Secrets()

    @property
    def stem(self) -> str:
        """The stem of the names that people see, and the environment's tag."""
        return stem_of(self.project, self.environment)

    @property
    def maintenance(self) -> MaintenanceSettings:
        """When DigitalOcean may begin to update the managed cluster: as written, or clear of the backups."""
        written = self.database.maintenance if isinstance(self.database, ManagedPostgresql) else None
        usual = MaintenanceSettings()
        return written or usual.clear_of(self.backup.schedule) or usual

    @model_validator(mode="after")
    def _consistent(self) -> EnvironmentSettings:
        names = [service.name for service in self.services]
        routes = [service.route for service in self.services if service.route is not None]
        ports = [str(service.port) for service in self.services]
        for what, values in (("name", names), ("route", routes), ("port", ports)):
            for value in sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"services: two of them have the {what} {value}; each needs its own")
        managed = self.database if isinstance(self.database, ManagedPostgresql) else None
        window = managed.maintenance if managed else None
        if window is not None and (why := window.clash_with(self.backup.schedule)):
            raise ValueError(f"database.maintenance: {why}")
        databases = managed.databases if managed else ()
        sets = [*databases, *(source.name for source in self.backup.sources)]
        for value in sorted({value for value in sets if sets.count(value) > 1}):
            raise ValueError(f"backup.sources: two of what is backed up have the name {value}; each needs its own")
        filtered = {*databases, *(source.name for source in self.backup.sources if source.kind == "postgresql")}
        for value in sorted(self.backup.tables.keys() - filtered):
            known = ", ".join(sorted(filtered)) or "none"
            raise ValueError(f"backup.tables: {value} is no PostgreSQL database that is backed up; there are: {known}")
        for problem in dns_conflicts(self):
            raise ValueError(problem)
        if self.assets is None and any(source.kind == "bucket" for source in self.backup.sources):
            raise ValueError("backup.sources: a bucket is named, and the environment has no assets bucket")
        return self


def dns_conflicts(settings: EnvironmentSettings) -> Iterator[str]:
    """Yield a line for each record that cannot be beside another one, those that Ancla makes included."""
    domain, dns = settings.domain, settings.dns
    own = [
        Claim(
            type="A",
            name=host,
            identity=UNKNOWN,
            ttl=TTL,
            origin="made by Ancla, leads to the app",
            remedy=f'leave "{host}" out of dns.hosts to make it yours',
        )
        for host in dict.fromkeys(dns.hosts)
    ]
    cdn = settings.assets.cdn.domain if settings.assets and settings.assets.cdn else None
    if cdn is not None and (cdn == domain or cdn.endswith(f".{domain}")):
        own.append(
            Claim(
                type="CNAME",
                name=relative(cdn, domain),
                identity=UNKNOWN,
                ttl=TTL,
                origin="assets.cdn.domain",
                remedy="give assets.cdn.domain another name",
            )
        )
    own += [
        Claim(
            type="CAA",
            name="@",
            identity=f"issue {authority}",
            ttl=TTL,
            origin=f"dns.caa[{index}]",
            remedy="remove one",
        )
        for index, authority in enumerate(dns.caa)
    ]
    wanted: list[Claim] = []
    for index, record in enumerate(dns.records):
        origin = f"dns.records[{index}]"
        if is_outside(record.name, domain):
            yield f"{origin}.name: {describe(record.name)} is not in {domain}; write one that is, or leave the dot out"
        name = relative(record.name, domain)
        wanted.append(Claim(type=record.type, name=name, identity=identity_of(record), ttl=record.ttl, origin=origin))
    yield from conflicts(own, wanted)


def identity_of(record: DnsRecordSettings) -> str:
    """Return what tells a record from others of its name and type: they may share a name, and not this."""
    value = canonical(record.type, record.value)
    return {"SRV": f"{record.port} {value}", "CAA": f"{record.tag} {value}"}.get(record.type, value)


def not_built(settings: EnvironmentSettings) -> list[str]:
    """Name what the settings ask for that Ancla parses but does not build yet; empty when all of it is built."""
    found: list[str] = []
    if settings.topology.kind != "droplet":
        found.append(f"topology.kind: {settings.topology.kind}")
    if settings.database.kind not in ("managed-postgresql", "none"):
        found.append(f"database.kind: {settings.database.kind}")
    if isinstance(settings.database, ManagedPostgresql):
        if settings.database.read_replicas:
            found.append(f"database.readReplicas: {settings.database.read_replicas}")
        if settings.database.extensions:
            found.append(f"database.extensions: {', '.join(settings.database.extensions)}")
    if settings.cache is not None:
        found.append(f"cache.kind: {settings.cache.kind}")
    found += [f"extras: {name}" for name in settings.extras]
    found += [
        f"services[{index}].replicas: {service.replicas}"
        for index, service in enumerate(settings.services)
        if service.replicas > 1
    ]
    return found


def missing_secrets(settings: EnvironmentSettings) -> list[str]:
    """Name each secret (as a path in the stack file) that the settings need and do not have."""
    missing = [
        f"secrets.{to_camel(name)}"
        for name in ("deploy_key", "bootstrap_host_key", "host_key")
        if getattr(settings.secrets, name) is None
    ]
    if settings.backup.destinations and settings.secrets.backup_signing_key is None:
        missing.append("secrets.backupSigningKey")
    missing += [
        f"secrets.backupKeys.{destination.bucket}"
        for destination in settings.backup.destinations
        if destination.endpoint is not None and destination.bucket not in settings.secrets.backup_keys
    ]
    if settings.monitoring.slack is not None and settings.secrets.slack_webhook is None:
        missing.append("secrets.slackWebhook")
    wanted = sorted(
        {name for service in settings.services for name in service.secrets}
        | {source.password for source in settings.backup.sources if source.kind == "postgresql"}
    )
    missing += [f"secrets.app.{name}" for name in wanted if name not in settings.secrets.app]
    return missing
