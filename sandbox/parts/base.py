"""What the API asks of the parts: plain values in, plain values out.

`sandbox.parts.none` answers it with no part at all.

Every method is blocking, may take seconds, is called from a worker thread, and is idempotent: called again after a
crash with the same values it ends in the same place. A part keeps no truth of its own but data (disks, rows, objects,
images): who exists is in the API's store, and `Parts.reconcile` is told all of it when the sandbox starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol


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


class Service(Protocol):
    """The part of such a product."""

    def container(self, ident: str) -> str:
        """Return the name of its container."""
        ...

    def apply(self, spec: Any) -> None:
        """Make it, or bring it to the spec (of its own class)."""
        ...

    def delete(self, ident: str) -> None:
        """Remove it if it is there."""
        ...


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


class Parts(Protocol):
    """The parts, as the API sees them."""

    def free_public_ip(self, taken: frozenset[str], *, reserved: bool = False) -> str:
        """Return an unused public IPv4 address; reserved IPs come from a range of their own."""
        ...

    def free_vpc_range(self, taken: frozenset[str]) -> str:
        """Return an unused /20 inside 10.0.0.0/8, if there is one that no route of this machine overlaps."""
        ...

    def create_vpc(self, vpc: VpcSpec) -> None:
        """Make the network if it is not there. Its range may be in use elsewhere: in another sandbox, say.

        Raises:
            RangeTakenError: another Docker network of this computer has the range, and a way out.
        """
        ...

    def delete_vpc(self, vpc_id: str) -> None:
        """Remove the network; it has no members any more."""
        ...

    def create_droplet(self, droplet: DropletSpec) -> None:
        """Make and boot the droplet; returns once init runs (sshd may come a little later)."""
        ...

    def delete_droplet(self, droplet_id: int) -> None:
        """Remove the droplet with its disk."""
        ...

    def power(self, droplet: DropletSpec, operation: str) -> None:
        """Do power_on, power_off, shutdown, reboot or power_cycle."""
        ...

    def resize_droplet(self, droplet: DropletSpec) -> None:
        """Give the powered-off droplet the size in its spec."""
        ...

    def set_firewall(self, droplet: DropletSpec, rules: FirewallRules | None) -> None:
        """Open and close the ports of one droplet; None removes the cloud firewall."""
        ...

    def set_reserved_ips(self, droplet: DropletSpec) -> None:
        """Make the droplet answer on exactly `droplet.reserved_ips` beside its own addresses."""
        ...

    def apply_cluster(self, cluster: ClusterSpec) -> None:
        """Create the cluster, or bring all that is in it, and its size, to what the spec says."""
        ...

    def delete_cluster(self, cluster_id: str) -> None:
        """Remove the cluster with its data."""
        ...

    def drop_database(self, cluster: ClusterSpec, name: str) -> None:
        """Drop one database."""
        ...

    def drop_user(self, cluster: ClusterSpec, name: str) -> None:
        """Drop one login role."""
        ...

    def take_backup(self, cluster: ClusterSpec, name: str) -> BaseBackup | None:
        """Take a base backup of a running cluster; None when the cluster keeps no WAL (an earlier sandbox made it)."""
        ...

    def keep_backups(self, cluster: ClusterSpec, names: tuple[str, ...]) -> None:
        """Remove every other base backup (`names` are oldest first), and the WAL that only those needed."""
        ...

    def contents(self, cluster: ClusterSpec) -> Contents:
        """Ask the server what is in it."""
        ...

    def apply_service(self, spec: ServiceSpec) -> None:
        """Make the service, or bring it to the spec; returns once it serves by it."""
        ...

    def delete_service(self, kind: str, ident: str) -> None:
        """Remove the service of a kind."""
        ...

    def ca_certificate(self) -> str:
        """Return the PEM certificate of the authority that signs every database and sandbox name."""
        ...

    def issue_certificate(self, names: tuple[str, ...]) -> tuple[str, str]:
        """Return (certificate chain, private key) in PEM for these DNS names, from the sandbox's authority."""
        ...

    def set_spaces_keys(self, keys: tuple[SpacesKey, ...]) -> None:
        """Let exactly these keys in."""
        ...

    def set_spaces_switches(self, switches: dict[str, Any]) -> None:
        """Make Spaces as troublesome as these say (`sandbox.api.switches`)."""
        ...

    def buckets(self) -> tuple[tuple[str, str], ...]:
        """List (region, bucket) of every Space."""
        ...

    def buckets_with_policy(self) -> frozenset[str]:
        """Name the Spaces that have a bucket policy."""
        ...

    def set_cdns(self, cdns: tuple[CdnSpec, ...]) -> None:
        """Serve exactly these CDN endpoints."""
        ...

    def purge_cdn(self, cdn: CdnSpec, files: tuple[str, ...]) -> None:
        """Forget cached objects; `files` are paths, `*` at the end is any."""
        ...

    def set_registry_logins(self, logins: tuple[RegistryLogin, ...]) -> None:
        """Let exactly these logins in."""
        ...

    def repositories(self) -> tuple[str, ...]:
        """Name every repository of the registry."""
        ...

    def set_zones(self, zones: dict[str, tuple[DnsRecord, ...]]) -> None:
        """Answer for exactly these zones."""
        ...

    def reconcile(self, world: World) -> dict[str, str]:
        """Bring every part to this world: make what is missing, start what is stopped, remove what is not in it.

        What holds data and is not in the world is set aside, not removed. Returns what is set aside and what could
        not be brought up, each with its reason; the rest is up.

        Raises:
            PartError: what all share (Docker, DNS, the edge) is not up.
        """
        ...

    def leaks(self, world: World) -> list[str]:
        """Name every labelled container, network, volume, bucket and address that this world does not explain."""
        ...
