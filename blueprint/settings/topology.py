"""On what machines an environment runs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from blueprint.fields import AppSize, DropletSize, OneOf, Percent, PrivateNetwork, Size, Slug, Written
from blueprint.model import Settings


def _volume_size(value: Size) -> Size:
    if value % Size("1G") or value > Size("16T"):
        raise ValueError("is not the size of a volume: DigitalOcean sells whole gibibytes from 1G to 16T, such as 30G")
    return value


_ANOTHER_KIND = "Another kind is another environment: no change leads there."

DropletImage = Annotated[str, OneOf(("ubuntu-22-04-x64", "ubuntu-24-04-x64", "ubuntu-26-04-x64"), "droplet image")]
VolumeSize = Annotated[Size, AfterValidator(_volume_size)]


class BalancerSettings(Settings):
    """A DigitalOcean load balancer before the droplets or the cluster."""

    nodes: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Number of nodes, each of which costs and adds throughput. A change happens in place.",
    )
    sticky: Literal["cookie"] | None = Field(
        default=None,
        description="`cookie` sends a visitor to the same droplet again, as WebSockets want it; default: any droplet "
        "answers. A change happens in place.",
    )


class SnapshotSettings(Settings):
    """Snapshots of the droplet and its volumes, taken together."""

    before_updates: bool = Field(
        default=False, description="Take one before each change of the droplet. A change counts from the next `up` on."
    )
    keep_last: int = Field(
        default=3, ge=1, description="Number of snapshots to keep; older ones are deleted after the next one."
    )


class MachineGroup(Settings):
    """The droplet, or each of several alike."""

    size: DropletSize = Field(
        description="Slug of the droplet's size. A change powers the droplet off for some minutes; data stays."
    )
    image: DropletImage = Field(
        default="ubuntu-24-04-x64",
        description="Slug of the image. A change replaces the droplet; its address stays.",
    )
    swap: Size | None = Field(
        default=None, description="Size of the swap file, such as `2G`; default: none. A change happens in place."
    )
    volumes: dict[Slug, VolumeSize] = Field(
        default_factory=dict,
        description="Block storage by name, with its size in whole gibibytes, such as `data: 30G`; it outlives the "
        "droplet. A larger size grows it in place; a smaller one is refused.",
    )
    grow_disk: bool = Field(
        default=False,
        description="Let a larger `size` grow the droplet's own disk too, after which no smaller size is possible. "
        "A change counts from the next change of `size` on.",
    )
    backups: Literal["none", "weekly", "daily"] = Field(
        default="none",
        description="How often DigitalOcean backs the image up, at 04:00 UTC, weekly ones on Sundays; volumes are not "
        "in it. A change happens in place.",
    )
    snapshots: SnapshotSettings | None = Field(
        default=None, description="Snapshots of droplet and volumes together; default: none. A change happens in place."
    )
    ipv6: bool = Field(
        default=False,
        description="Give the droplet an IPv6 address, and its names AAAA records. Switching it on happens in place, "
        "switching it off replaces the droplet.",
    )
    ip_range: PrivateNetwork | None = Field(
        default=None,
        description="CIDR of the private network; default: DigitalOcean picks a free one. A change is refused: it "
        "would replace everything in the network.",
    )


class DropletTopology(MachineGroup):
    """One droplet runs everything (plans 000, 001, 003 and 004, and 002 in development)."""

    kind: Literal["droplet"] = Field(description=f"`droplet`: everything on one machine. {_ANOTHER_KIND}")
    balancer: BalancerSettings | None = Field(
        default=None, description="A load balancer before it; default: none. A change moves the address of the names."
    )


class DropletsTopology(MachineGroup):
    """A load balancer and several droplets alike (plan 002, production)."""

    kind: Literal["droplets"] = Field(description=f"`droplets`: several machines alike. {_ANOTHER_KIND}")
    count: int = Field(ge=2, le=50, description="Number of droplets. A change happens in place, one at a time.")
    balancer: BalancerSettings = Field(description="The load balancer before them; `{}` has one node.")


class _Range(Settings):
    """What grows and shrinks between two numbers."""

    min: int
    max: int

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max: {self.max} is below min, which is {self.min}")
        return self


class NodePoolSettings(_Range):
    """The nodes of a Kubernetes cluster, which grow and shrink with what runs on them."""

    size: DropletSize = Field(description="Slug of a node's droplet size. A change replaces the nodes one at a time.")
    min: int = Field(ge=1, le=512, description="Smallest number of nodes. A change happens in place.")
    max: int = Field(ge=1, le=512, description="Largest number of nodes. A change happens in place.")


class KubernetesTopology(Settings):
    """A DigitalOcean Kubernetes cluster (plan 002, enterprise)."""

    kind: Literal["kubernetes"] = Field(description=f"`kubernetes`: a managed cluster. {_ANOTHER_KIND}")
    pool: NodePoolSettings = Field(description="The cluster's nodes.")
    high_availability: bool = Field(
        default=False, description="Run more than one control plane, which costs. It cannot be switched off again."
    )
    version: (
        Annotated[
            str,
            Written(r"1\.[0-9]{1,3}", 'is not a minor version of Kubernetes: write it in quotes, such as "1.33"'),
        ]
        | None
    ) = Field(
        default=None,
        description="Minor version of Kubernetes; default: the newest that DigitalOcean offers when the cluster is "
        "made. A newer one upgrades it in place.",
    )
    balancer: BalancerSettings = Field(
        default=BalancerSettings(), description="The load balancer before the cluster. A change happens in place."
    )


class ScaleSettings(_Range):
    """How many instances of each service App Platform runs."""

    min: int = Field(default=1, ge=1, le=250, description="Smallest number of instances. A change happens in place.")
    max: int = Field(default=1, ge=1, le=250, description="Largest number of instances. A change happens in place.")
    cpu: Percent | None = Field(
        default=None,
        description="Average use of the CPU, in percent, above which an instance is added; needed where `max` is above "
        "`min`. A change happens in place.",
    )

    @model_validator(mode="after")
    def _by_cpu(self) -> ScaleSettings:
        if self.max > self.min and self.cpu is None:
            raise ValueError("cpu: is missing, and it decides between min and max; write a percentage, such as 70")
        return self


class AppPlatformTopology(Settings):
    """DigitalOcean App Platform runs the services (plan 000, option B)."""

    kind: Literal["app-platform"] = Field(description=f"`app-platform`: no machine of yours. {_ANOTHER_KIND}")
    size: AppSize = Field(description="Slug of the size of each instance. A change deploys the app again.")
    scale: ScaleSettings = Field(
        default=ScaleSettings(), description="Number of instances of each service. A change happens in place."
    )

    @model_validator(mode="after")
    def _scaling_needs_a_dedicated_cpu(self) -> AppPlatformTopology:
        if self.scale.max > self.scale.min and not self.size.startswith("apps-d-"):
            raise ValueError(
                f"scale: {self.size} shares its CPU, by which App Platform does not scale; choose a dedicated size "
                "(apps-d-…), or give min and max the same number"
            )
        return self


Topology = Annotated[
    DropletTopology | DropletsTopology | KubernetesTopology | AppPlatformTopology,
    Field(
        discriminator="kind",
        description="What the services run on.",
    ),
]
