"""Everything a stack file may say: one frozen model, the same for the engine, `ops`, the editor and CI.

Keys are camelCase in the stack file (`ancla:topology: {size: …}`) and snake_case here; each group has a module beside
this one. Everything the five plans name parses; keys that are not implemented yet are refused by name (see
`blueprint.settings.built`).

Reading a stack file or the engine's configuration is `blueprint.pulumi_config`'s work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from blueprint.dns_records import UNKNOWN, Claim, conflicts, describe, is_outside, relative
from blueprint.fields import Region, Slug
from blueprint.model import Settings
from blueprint.references import known, nearest, problem_of
from blueprint.settings.access import AccessSettings
from blueprint.settings.alerts import AlertsSettings
from blueprint.settings.backup import BackupSettings, backup_problems
from blueprint.settings.buckets import BucketSettings
from blueprint.settings.database import Cache, Database, MaintenanceSettings, ManagedPostgresql, NoDatabase
from blueprint.settings.edge import EdgeSettings, identity_of
from blueprint.settings.exemptions import Exemptions
from blueprint.settings.extras import ExtrasSettings, login_problems
from blueprint.settings.growth import GrowthSettings, RecoverySettings
from blueprint.settings.registry import RegistrySettings
from blueprint.settings.secrets import Secrets
from blueprint.settings.services import ReleaseSettings, ServiceSettings, parse_image, service_conflicts
from blueprint.settings.topology import Topology

DISPOSABLE_ENVIRONMENTS = frozenset({"staging", "development"})
"""Environments whose data may go where `disposable` is not written; every other one is treated as production."""


def stem_of(project: object, environment: object) -> str:
    """Return the stem of the names that people see, which is also the tag of its resources: `nextgentech-prod`."""
    return f"{project}-{environment}"


class EnvironmentSettings(Settings):
    """Everything a stack file may say."""

    environment: Slug = Field(
        description="Name of the environment and of its stack. It cannot change: another name is another stack."
    )
    project: Slug = Field(
        description="Name of the project, in the names of all that is made. It cannot change: everything would be made "
        "again."
    )
    region: Region = Field(
        description="Slug of the DigitalOcean region. It cannot change: data would stay behind in the old one."
    )
    disposable: bool | None = Field(
        default=None,
        description="Its data may go: nothing but the backups is protected, and `destroy` takes the buckets' objects "
        "along; default: true for `staging` and `development`. A change protects or unprotects in place.",
    )
    topology: Topology
    edge: EdgeSettings = Field(description="By which names the environment is reached, and how strictly.")
    services: dict[Slug, ServiceSettings] = Field(
        min_length=1, description="What of the team's runs, by name; a change is applied by the next `ops deploy`."
    )
    release: ReleaseSettings = Field(
        default=ReleaseSettings(),
        description="How a release is brought about; a change is applied by the next `ops deploy`.",
    )
    database: Database = NoDatabase()
    cache: Cache | None = Field(default=None, discriminator="kind")
    buckets: dict[Slug, BucketSettings] = Field(
        default_factory=dict, description="Buckets for files of the app, by name; default: none; each is by itself."
    )
    registry: RegistrySettings | None = Field(
        default=None,
        description="The registry of the images that name no other; default: none, where no image needs one.",
    )
    access: AccessSettings = Field(default=AccessSettings(), description="Who may log in, and from where.")
    alerts: AlertsSettings = Field(default=AlertsSettings(), description="When somebody is notified, and where.")
    backup: BackupSettings = Field(default=BackupSettings(), description="What is backed up, when, and where to.")
    extras: ExtrasSettings = Field(
        default=ExtrasSettings(), description="What stands beside the app (default: nothing)."
    )
    growth: GrowthSettings | None = Field(
        default=None, description="What the environment is planned for (default: nothing is reported)."
    )
    recovery: RecoverySettings | None = Field(
        default=None, description="How fast a lost machine must be back (default: as fast as it can)."
    )
    account: str | None = Field(
        default=None,
        description="UUID of the team at DigitalOcean, written by `ops stack init`; another one's token is refused.",
    )
    budget: int | None = Field(
        default=None,
        ge=1,
        description="US dollars a month above which `ops cost` and the policy fail (default: no limit).",
    )
    costs: dict[Slug, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="US dollars a month that others bill, by name, such as `sendgrid: 20`; they count in `budget`.",
    )
    exemptions: Exemptions = Field(
        default_factory=dict,
        description=(
            "Rules of the policy that resources may break, and why: by rule, then by resource (default: none)."
        ),
    )
    secrets: Secrets = Field(default=Secrets(), description="Values that are encrypted (default: none).")

    @property
    def stem(self) -> str:
        """The stem of the names that people see, and the environment's tag."""
        return stem_of(self.project, self.environment)

    @property
    def is_disposable(self) -> bool:
        """Return True if its data may go: as written, or by the environment's name."""
        return self.environment in DISPOSABLE_ENVIRONMENTS if self.disposable is None else self.disposable

    @property
    def maintenance(self) -> MaintenanceSettings:
        """When DigitalOcean may begin to update the managed cluster: as written, or clear of the backups."""
        written = self.database.maintenance if isinstance(self.database, ManagedPostgresql) else None
        usual = MaintenanceSettings()
        return written or usual.clear_of(self.backup.schedule) or usual

    @model_validator(mode="after")
    def _consistent(self) -> EnvironmentSettings:
        for why in (*service_conflicts(self.services, self.release), *unknown_names(self)):
            raise ValueError(why)
        managed = self.database if isinstance(self.database, ManagedPostgresql) else None
        window = managed.maintenance if managed else None
        if window is not None and (why := window.clash_with(self.backup.schedule)):
            raise ValueError(f"database.maintenance: {why}")
        databases = managed.databases if managed else ()
        logins = login_problems(self.extras, self.access.logins)
        for problem in (*backup_problems(self.backup, databases, self.buckets), *logins, *dns_conflicts(self)):
            raise ValueError(problem)
        self._refuse_spaces_of_one_name()
        return self

    def _refuse_spaces_of_one_name(self) -> None:
        spaces = [(f"buckets.{name}", bucket.bucket) for name, bucket in self.buckets.items()]
        spaces += [
            (f"backup.destinations.{name}", destination.space)
            for name, destination in self.backup.destinations.items()
            if destination.space
        ]
        seen: dict[str, str] = {}
        for where, space in spaces:
            if space in seen:
                raise ValueError(f"{where}: {seen[space]} has the bucket {space} already; give each its own")
            seen[space] = where


def usable(settings: EnvironmentSettings) -> list[str]:
    """Return what a service of the environment may use, as it writes it."""
    database = settings.database
    found = ["database"] if database.kind != "none" else []
    found += (
        [f"database.replicas.{name}" for name in database.replicas] if isinstance(database, ManagedPostgresql) else []
    )
    found += ["cache"] if settings.cache is not None else []
    found += [f"buckets.{name}" for name in settings.buckets]
    found += [f"extras.{name}" for name in settings.extras.on]
    return found + [f"services.{name}" for name in settings.services]


def unknown_names(settings: EnvironmentSettings) -> Iterator[str]:
    """Yield a line for each thing that is used or referred to and that the environment does not have."""
    there = usable(settings)
    reached = {f"services.{name}" for name, service in settings.services.items() if service.port is not None}
    groups = [group for group in there if not group.startswith("services.") or group in reached]
    paths = known(groups)
    policy = settings.edge.headers.content_security_policy or ""
    if (why := problem_of(policy, paths, secret=False)) is not None:
        yield f"edge.headers.contentSecurityPolicy: {why}"
    for name, service in settings.services.items():
        if settings.registry is None and service.image is not None and parse_image(service.image).host is None:
            yield (
                f"services.{name}.image: {service.image} is of the environment's registry, and there is none; "
                "write ancla:registry, or the full reference of an image elsewhere"
            )
        for use in service.uses:
            if use not in there:
                yield f"services.{name}.uses: there is no {use}; {nearest(use, there)}"
        for variable, text in service.environment.items():
            if (why := problem_of(text, paths)) is not None:
                yield f"services.{name}.environment.{variable}: {why}"


def dns_conflicts(settings: EnvironmentSettings) -> Iterator[str]:
    """Yield a line for each record that cannot be beside another one, those that Ancla makes included."""
    edge, domain, dns = settings.edge, settings.edge.domain, settings.edge.dns
    own = [
        Claim(
            type="A",
            name=relative(name, domain),
            identity=UNKNOWN,
            ttl=dns.ttl,
            origin=f"edge.names[{index}]: {name} leads to the app",
            remedy=f"remove {name} from edge.names to make the record yours" if index else "it is the app's address",
        )
        for index, name in enumerate(edge.names)
    ]
    hosts = {name: bucket.cdn.host for name, bucket in settings.buckets.items() if bucket.cdn and bucket.cdn.host}
    for name, host in hosts.items():
        if is_outside(f"{host}.", domain):
            yield f"buckets.{name}.cdn.host: {host} is not in {domain}, where its record is made; write a name in it"
    own += [
        Claim(
            type="CNAME",
            name=relative(host, domain),
            identity=UNKNOWN,
            ttl=dns.ttl,
            origin=f"buckets.{name}.cdn.host",
            remedy=f"give buckets.{name}.cdn.host another name",
        )
        for name, host in hosts.items()
    ]
    own += [
        Claim(
            type="CAA",
            name="@",
            identity=f"issue {authority}",
            ttl=dns.ttl,
            origin=f"edge.dns.caa[{index}]",
            remedy="remove one",
        )
        for index, authority in enumerate(edge.authorities)
    ]
    wanted: list[Claim] = []
    for label, record in dns.records.items():
        origin = f"edge.dns.records.{label}"
        if is_outside(record.name, domain):
            yield f"{origin}.name: {describe(record.name)} is not in {domain}; write one that is, or leave the dot out"
        name = relative(record.name, domain)
        wanted.append(
            Claim(type=record.type, name=name, identity=identity_of(record), ttl=record.ttl or dns.ttl, origin=origin)
        )
    yield from conflicts(own, wanted)
