"""The kinds of DigitalOcean resources that the rules know: what each holds, where it belongs, and its price.

A kind that has no row here is a violation of the policy: a new component adds its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from blueprint.sizes import (
    APP_SIZES,
    DATABASE_SIZES,
    DROPLET_BACKUP_SHARE,
    DROPLET_SIZES,
    REGISTRY_TIERS,
    UNITS,
    VALKEY_SIZES,
    MachineSize,
)

Inputs = Mapping[str, Any]
Value = TypeVar("Value")
_MIB_A_GIB = 1024
_BALANCER_SIZES = {"lb-small": 1, "lb-medium": 3, "lb-large": 6}  # nodes, in the older way to say it


class PriceUnknownError(LookupError):
    """No price is known; the message says of what."""


def free(_: Inputs) -> float:
    """Return 0: DigitalOcean bills nothing for this kind."""
    return 0.0


def droplet(inputs: Inputs) -> float:
    """Return the price of one droplet; its backups cost a share of it."""
    plan: Any = "none"
    if inputs.get("backups"):
        policy = inputs.get("backupPolicy")
        plan = policy.get("plan", "weekly") if isinstance(policy, Mapping) else "weekly"
    share = _of(DROPLET_BACKUP_SHARE, plan, "backup plan")
    return round(_of(DROPLET_SIZES, inputs.get("size"), "droplet size").monthly * (1 + share), 2)


def database(inputs: Inputs) -> float:
    """Return the price of a cluster: every node, standby ones too, costs the same."""
    tables: dict[Any, dict[str, MachineSize]] = {"pg": DATABASE_SIZES, "valkey": VALKEY_SIZES}
    sizes = _of(tables, inputs.get("engine", "pg"), "database engine")
    nodes = _number(inputs.get("nodeCount", 1), "number of nodes")
    return round(_node(sizes, inputs) * nodes, 2)


def replica(inputs: Inputs) -> float:
    """Return the price of a read replica, which is that of one node."""
    return _node(DATABASE_SIZES, inputs)


def kubernetes(inputs: Inputs) -> float:
    """Return the price of a cluster with its first pool, at its largest; high availability has a price of its own."""
    control = UNITS["kubernetes-high-availability"] if inputs.get("ha") else 0.0
    return round(control + node_pool(_mapping(inputs.get("nodePool"), "node pool")), 2)


def node_pool(inputs: Inputs) -> float:
    """Return the price of a pool: a node costs what a droplet does. A pool that grows is priced at its largest."""
    nodes = inputs.get("maxNodes") if inputs.get("autoScale") else inputs.get("nodeCount", 1)
    size = _of(DROPLET_SIZES, inputs.get("size"), "droplet size")
    return round(size.monthly * _number(nodes, "number of nodes"), 2)


def app(inputs: Inputs) -> float:
    """Return the price of an app: its instances, at their largest number, and its development databases."""
    spec = _mapping(inputs.get("spec"), "app's spec")
    if spec.get("functions"):
        raise PriceUnknownError("functions cost by use")
    total = 0.0
    for part in (*_list(spec, "services"), *_list(spec, "workers"), *_list(spec, "jobs")):
        scale = part.get("autoscaling")
        largest = scale.get("maxInstanceCount") if isinstance(scale, Mapping) else part.get("instanceCount", 1)
        size = _of(APP_SIZES, part.get("instanceSizeSlug"), "App Platform size")
        total += size.monthly * _number(largest, "number of instances")
    development = [item for item in _list(spec, "databases") if not item.get("production")]
    return round(total + len(development) * UNITS["app-development-database"], 2)


def load_balancer(inputs: Inputs) -> float:
    """Return the price of a balancer, by its nodes."""
    units = {"REGIONAL": "load-balancer-node", "REGIONAL_NETWORK": "network-load-balancer-node"}
    unit = UNITS[_of(units, inputs.get("type", "REGIONAL"), "type of balancer")]
    nodes = inputs.get("sizeUnit", 1)
    if "size" in inputs:
        nodes = _of(_BALANCER_SIZES, inputs["size"], "size of balancer")
    return round(unit * _number(nodes, "number of nodes"), 2)


def volume(inputs: Inputs) -> float:
    """Return the price of a volume, by its size."""
    return round(UNITS["volume-gib"] * _number(inputs.get("size"), "size in GiB"), 2)


def snapshot(_: Inputs) -> float:
    """Refuse: a snapshot costs by what is in use when it is taken."""
    raise PriceUnknownError(f"it costs {UNITS['snapshot-gib']:.2f} for each GiB in use when it is taken")


def registry(inputs: Inputs) -> float:
    """Return the price of the registry's subscription."""
    return _of(REGISTRY_TIERS, inputs.get("subscriptionTierSlug"), "registry tier")


def bucket(_: Inputs) -> float:
    """Return the price of the Spaces subscription. The first bucket of an environment carries it for all."""
    return UNITS["spaces-subscription"]


def reserved_ip(inputs: Inputs) -> float:
    """Return 0 where a droplet has the address; one that waits for a droplet has a price."""
    return 0.0 if "dropletId" in inputs else UNITS["unassigned-reserved-ip"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`data`: its end takes along data, images, or an address or zone that others rely on.

    `tagged` and `in_project`: it takes tags, and a project can contain it.
    """

    price: Callable[[Inputs], float] = free
    data: bool = False
    tagged: bool = False
    in_project: bool = False


_PLAIN = Kind()
_DATABASE_PART = Kind(data=True)

KINDS: Mapping[str, Kind] = {
    "App": Kind(price=app, in_project=True),
    "ContainerRegistries": Kind(price=registry, data=True),
    "ContainerRegistry": Kind(price=registry, data=True),
    "DatabaseCluster": Kind(price=database, data=True, tagged=True, in_project=True),
    "DatabaseDb": _DATABASE_PART,
    "DatabaseReplica": Kind(price=replica, tagged=True),
    "Domain": Kind(data=True, in_project=True),
    "Droplet": Kind(price=droplet, data=True, tagged=True, in_project=True),
    "DropletSnapshot": Kind(price=snapshot, data=True),
    "KubernetesCluster": Kind(price=kubernetes, data=True, tagged=True, in_project=True),
    "KubernetesNodePool": Kind(price=node_pool, tagged=True),
    "LoadBalancer": Kind(price=load_balancer, in_project=True),
    "ReservedIp": Kind(price=reserved_ip, data=True),
    "SpacesBucket": Kind(price=bucket, data=True, in_project=True),
    "Volume": Kind(price=volume, data=True, tagged=True, in_project=True),
    "VolumeSnapshot": Kind(price=snapshot, data=True, tagged=True),
    **dict.fromkeys(
        (
            "Cdn",
            "Certificate",
            "ContainerRegistryDockerCredentials",
            "DatabaseConnectionPool",
            "DatabaseFirewall",
            "DatabasePostgresqlConfig",
            "DatabaseUser",
            "DatabaseValkeyConfig",
            "DnsRecord",
            "Firewall",
            "MonitorAlert",
            "Project",
            "ProjectResources",
            "ReservedIpAssignment",
            "SpacesBucketCorsConfiguration",
            "SpacesBucketPolicy",
            "SpacesKey",
            "SshKey",
            "Tag",
            "UptimeAlert",
            "UptimeCheck",
            "VolumeAttachment",
            "Vpc",
        ),
        _PLAIN,
    ),
}


def _node(sizes: Mapping[str, MachineSize], inputs: Inputs) -> float:
    size = _of(sizes, inputs.get("size"), "database size")
    stored = inputs.get("storageSizeMib")
    included = size.disk * _MIB_A_GIB
    above = max(0.0, _number(stored, "storage in MiB") - included) / _MIB_A_GIB if stored else 0.0
    return round(size.monthly + above * UNITS["database-storage-gib"], 2)


def _of(table: Mapping[Any, Value], key: Any, what: str) -> Value:
    if isinstance(key, str) and key in table:
        return table[key]
    raise PriceUnknownError(f"no price is known for the {what} {key!r}")


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise PriceUnknownError(f"the {what} is {value!r}") from None


def _mapping(value: Any, what: str) -> Inputs:
    if isinstance(value, Mapping):
        return value
    raise PriceUnknownError(f"the {what} is {value!r}")


def _list(spec: Inputs, key: str) -> Iterable[Inputs]:
    return [item for item in spec.get(key) or [] if isinstance(item, Mapping)]
