"""Docker networks: the public one, the backbone, one for each VPC; and which addresses may be given out."""

from __future__ import annotations

import ipaddress

from sandbox.parts.base import PartError, RangeTakenError, VpcSpec
from sandbox.parts.docker import Docker, label_options
from sandbox.parts.instance import BENCHMARK, Instance, networks_in_use

VPC_POOL = ipaddress.IPv4Network("10.100.0.0/14")
"""Where ranges are picked from: inside 10.0.0.0/8, away from the low ones that offices and Docker use."""


class Networks:
    """The networks of one instance."""

    def __init__(self, instance: Instance, docker: Docker) -> None:
        self.instance, self.docker = instance, docker

    @property
    def public(self) -> str:
        """The name of the public network."""
        return self.instance.thing("public")

    @property
    def backbone(self) -> str:
        """The name of the network behind the edge."""
        return self.instance.thing("backbone")

    def vpc(self, vpc_id: str) -> str:
        """Return the name of a VPC's network."""
        return self.instance.thing("vpc", vpc_id)

    def ensure_infrastructure(self) -> None:
        """Create the public network and the backbone if they are not there."""
        kept = self.instance.planned
        try:
            self._ensure(self.public, str(self.instance.plan.public), internal=False)
        except RangeTakenError:
            if kept:
                raise
            # Another sandbox that starts at this moment has chosen the same block, and was the first to take it.
            self.instance.choose_again()
            self._ensure(self.public, str(self.instance.plan.public), internal=False)
        self._ensure(self.backbone, str(self.instance.plan.backbone), internal=True)

    def create_vpc(self, vpc: VpcSpec) -> None:
        """Create a VPC's network if it is not there."""
        # Internal: a VPC has no way out of its own; eth0 is the default route, as on a droplet.
        self._ensure(self.vpc(vpc.id), vpc.ip_range, internal=True)

    def delete_vpc(self, vpc_id: str) -> None:
        """Remove a VPC's network."""
        self.docker.remove_network(self.vpc(vpc_id))
        if self.docker.inspect("network", self.vpc(vpc_id)) is not None:
            raise PartError(f"VPC {vpc_id}: its network is still in use")

    def _ensure(self, name: str, subnet: str, *, internal: bool) -> None:
        found = self.docker.inspect("network", name)
        if found is not None:
            have = found["IPAM"]["Config"][0]["Subnet"]
            if have != subnet:
                raise PartError(
                    f"network {name}: has the range {have}, not {subnet}; `python -m sandbox reset` starts over"
                )
            return
        options = ("--internal",) if internal else ()
        command = ["network", "create", "--driver", "bridge", "--subnet", subnet, *options]
        try:
            self.docker.run(*command, *label_options(self.instance.labels), name)
        except PartError as error:
            if "overlaps" in str(error):
                raise RangeTakenError(f"network {name}: {subnet} is taken on this computer ({error})") from None
            raise

    def free_public_ip(self, taken: frozenset[str], *, reserved: bool = False) -> str:
        """As `Parts.free_public_ip`."""
        plan = self.instance.plan
        for number in plan.reserved if reserved else plan.hosts:
            address = str(ipaddress.IPv4Address(number))
            if address not in taken:
                return address
        raise PartError(f"addresses: all {'reserved' if reserved else 'public'} ones of {plan.public} are taken")

    def free_vpc_range(self, taken: frozenset[str]) -> str:
        """As `Parts.free_vpc_range`."""
        used = [*networks_in_use(), *(ipaddress.IPv4Network(cidr, strict=False) for cidr in taken)]
        # Each sandbox begins elsewhere: Docker knows of a range only when the network is made, and two sandboxes that
        # choose at once would choose the same.
        pool = list(VPC_POOL.subnets(new_prefix=20))
        start = list(BENCHMARK.subnets(new_prefix=20)).index(self.instance.plan.block) * 2 % len(pool)
        for candidate in pool[start:] + pool[:start]:
            if not any(candidate.overlaps(network) for network in used):
                return str(candidate)
        raise PartError(f"VPC: no free /20 in {VPC_POOL}")

    def check_vpc_range(self, ip_range: str) -> str | None:
        """As `Parts.check_vpc_range`."""
        network = ipaddress.IPv4Network(ip_range, strict=False)
        for used in networks_in_use():
            if used.prefixlen and network.overlaps(used):
                return f"{ip_range} overlaps {used}, which this machine already uses"
        return None
