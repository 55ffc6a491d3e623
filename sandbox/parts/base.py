"""The plain values that the API and its services (`sandbox.parts.services`) exchange."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


class PartError(RuntimeError):
    """A part could not do what it was asked; the message says which part and why (an action becomes `errored`)."""


class RangeTakenError(PartError):
    """Another Docker network of this computer has the range, or a part of it."""


@dataclass(frozen=True, kw_only=True)
class VpcSpec:
    """A VPC is one network. `ip_range` is a CIDR."""

    id: str
    name: str
    ip_range: str

    def interface(self, address: str) -> str:
        """Return an address with the prefix length of the range, as an interface is given it."""
        return f"{address}/{self.ip_range.partition('/')[2]}"


@dataclass(frozen=True, kw_only=True)
class DropletSpec:
    """A droplet. `memory` in MiB, `disk` in GiB. The API chooses the addresses."""

    id: int
    name: str
    image: str
    vcpus: int
    memory: int
    disk: int
    region: str
    vpc: VpcSpec
    public_ip: str
    private_ip: str
    authorized_keys: tuple[str, ...] = ()
    user_data: str | None = field(default=None, repr=False)
    powered: bool = True
    reserved_ips: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PortRule:
    """Traffic let through. `protocol` is tcp, udp or icmp; `ports` "22", "8000-9000", or "0": all."""

    protocol: str
    ports: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FirewallRules:
    """The union of the cloud firewalls of one droplet. Everything not listed is dropped, both ways."""

    inbound: tuple[PortRule, ...]
    outbound: tuple[PortRule, ...]


@dataclass(frozen=True, kw_only=True)
class DatabaseUser:
    """A login role. `password` is its password in clear."""

    name: str
    password: str = field(repr=False)
    replication: bool = False


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """A PgBouncer pool, on 25061 under its own name."""

    name: str
    mode: str
    size: int
    database: str
    user: str | None


@dataclass(frozen=True, kw_only=True)
class RestoreSpec:
    """Where the data of a fork comes from: the base backup `backup` of the cluster `source`, and its WAL up to `time`.

    Every transaction that was committed at `time` (ISO 8601, UTC) or before is in it, and no later one.
    """

    source: str
    backup: str
    time: str


@dataclass(frozen=True, kw_only=True)
class BaseBackup:
    """A base backup. `finished` in POSIX seconds: it can be restored to any time from then on. `size` in bytes."""

    name: str
    finished: float
    size: int


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a server itself says is in it: databases, and roles that may log in."""

    databases: frozenset[str]
    users: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class ClusterSpec:
    """A PostgreSQL cluster with all that is in it. Listens with TLS on 25060 at `private_ip` and `public_ip`.

    `trusted` is a list of CIDRs; None means no rule (open, as at DigitalOcean). An address outside gets no answer.
    The first user is `doadmin`. `host` and `private_host` are the names the certificate carries and DNS answers for.
    `restore` is set until a fork has its data. `monitored` keeps a superuser's session on every database.
    """

    id: str
    name: str
    version: str
    nodes: int
    vcpus: int
    memory: int
    host: str
    private_host: str
    vpc: VpcSpec
    public_ip: str
    private_ip: str
    users: tuple[DatabaseUser, ...]
    databases: tuple[str, ...]
    pools: tuple[PoolSpec, ...] = ()
    trusted: tuple[str, ...] | None = None
    config: dict[str, str] = field(default_factory=dict)
    restore: RestoreSpec | None = None
    monitored: bool = False


@dataclass(frozen=True, kw_only=True)
class SpacesKey:
    """A key pair of Spaces. `grants` is (bucket, permission) pairs: read, readwrite, or fullaccess with bucket ""."""

    access_key: str
    secret_key: str = field(repr=False)
    grants: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class CdnSpec:
    """A CDN endpoint. `origin` is <bucket>.<region>.digitaloceanspaces.com; `ttl` in seconds; a custom domain's PEM."""

    id: str
    origin: str
    endpoint: str
    ttl: int
    custom_domain: str | None = None
    certificate: str | None = None
    private_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class RegistryLogin:
    """A login of the registry, until `expires` (POSIX seconds; None is never)."""

    username: str
    password: str = field(repr=False)
    expires: float | None = None


@dataclass(frozen=True, kw_only=True)
class DnsRecord:
    """One record of a zone, in presentation form: absolute owner name, `data` as in a zone file."""

    name: str
    type: str
    data: str
    ttl: int


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """A product that is one container without data in a VPC: its spec is of a subclass, beside its part.

    `kind` names it in jobs and problems.
    """

    kind: ClassVar[str]
    id: str
    vpc: VpcSpec


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that should exist, for `Parts.reconcile`.

    `leaving_droplets` and `leaving_clusters` are being deleted: a job removes what is there of them.
    """

    leaving_droplets: frozenset[int] = frozenset()
    leaving_clusters: frozenset[str] = frozenset()
    vpcs: tuple[VpcSpec, ...] = ()
    droplets: tuple[DropletSpec, ...] = ()
    firewalls: dict[int, FirewallRules | None] = field(default_factory=dict)
    clusters: tuple[ClusterSpec, ...] = ()
    spaces_keys: tuple[SpacesKey, ...] = ()
    cdns: tuple[CdnSpec, ...] = ()
    registry_logins: tuple[RegistryLogin, ...] = ()
    zones: dict[str, tuple[DnsRecord, ...]] = field(default_factory=dict)
    services: tuple[ServiceSpec, ...] = ()
