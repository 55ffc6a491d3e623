"""On what machines an environment runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from blueprint.fields import Cidr, DropletSize, OneOf
from blueprint.model import Settings


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


class NetworkSettings(Settings):
    """The VPC. Without `ip_range` DigitalOcean picks a free one."""

    ip_range: Cidr | None = None
