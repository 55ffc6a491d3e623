"""Docker networks: the public one, the backbone, one for each VPC; and which addresses may be given out."""

from __future__ import annotations

import ipaddress
import threading
from typing import Any

from sandbox.parts.base import PartError, RangeTakenError, VpcSpec, World
from sandbox.parts.docker import Docker, label_options
from sandbox.parts.instance import Instance, routes

VPC_POOL = ipaddress.IPv4Network("10.100.0.0/14")
"""Where ranges are picked from: inside 10.0.0.0/8, away from the low ones that offices and Docker use."""
_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
VPC_OPTIONS = ("--opt", "com.docker.network.bridge.inhibit_ipv4=true", "--opt", f"{_MASQUERADE}=false")
"""A wire and no more: this machine is not on it and sends nothing on. Not `--internal`: that drops all traffic that is
not of Docker's own range, and the members have the addresses of the VPC."""

Things = set[tuple[str, str]]
"""Things of Docker: "container", "network" or "volume", and the name."""


class Networks:
    """The networks of one instance."""

    def __init__(self, instance: Instance, docker: Docker) -> None:
        self.instance, self.docker = instance, docker
        # Several jobs may want the same network at once.
        self._making = threading.Lock()

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

    def expected(self, world: World) -> Things:
        """Return every network that a world explains."""
        return {("network", name) for name in (self.public, self.backbone, *(self.vpc(vpc.id) for vpc in world.vpcs))}

    def ensure_infrastructure(self) -> None:
        """Create the public network and the backbone if they are not there."""
        kept = self.instance.planned
        try:
            self._ensure(self.public, str(self.instance.plan.public))
        except RangeTakenError:
            if kept:
                raise
            # Another sandbox that starts at this moment has chosen the same block, and was the first to take it.
            self.instance.choose_again()
            self._ensure(self.public, str(self.instance.plan.public))
        self._ensure(self.backbone, str(self.instance.plan.backbone), "--internal")

    def create_vpc(self, vpc: VpcSpec) -> None:
        """Create a VPC's network if it is not there. Its range is its members' affair, and may be in use elsewhere.

        Raises:
            RangeTakenError: see `check_vpc_range`.
        """
        name = self.vpc(vpc.id)
        with self._making:
            if self.docker.inspect("network", name) is not None:
                return
            if reason := self.check_vpc_range(vpc.ip_range):
                raise RangeTakenError(f"VPC {vpc.name}: {reason}")
            mine = self.docker.names("network", self.instance.label)
            taken = {subnet for other in mine for subnet in self._subnets(other)}
            for subnet in map(str, self.instance.plan.vpcs):
                if subnet not in taken:
                    try:
                        self._create(name, subnet, *VPC_OPTIONS)
                    except RangeTakenError:
                        continue
                    return
        raise PartError(f"VPC {vpc.name}: the sandbox has room for {len(self.instance.plan.vpcs)} VPCs; remove one")

    def join(self, vpc: VpcSpec, address: str) -> tuple[str, str | None]:
        """Return the network of a VPC and the address that Docker has to give a member: as a rule any.

        A sandbox of an earlier version has networks of the VPC's own range, in which Docker must not give the address
        of another member.
        """
        name = self.vpc(vpc.id)
        return name, address if vpc.ip_range in self._subnets(name) else None

    def check_vpc_range(self, ip_range: str) -> str | None:
        """Return why members of a VPC of this range could not reach one another on this computer, or None.

        Docker rewrites the source of all traffic from the range of a network that has a way out, unless it leaves by
        that network; what crosses the VPC's own bridge passes by the same rules.
        """
        wanted = ipaddress.IPv4Network(ip_range, strict=False)
        for ident in self.docker.run("network", "ls", "--quiet", "--filter", "driver=bridge").split():
            found = self.docker.inspect("network", ident)
            if found is None or found["Internal"] or (found["Options"] or {}).get(_MASQUERADE) == "false":
                continue
            for subnet in self._subnets_of(found):
                if "." in subnet and wanted.overlaps(ipaddress.IPv4Network(subnet, strict=False)):
                    return f"{ip_range} overlaps {subnet} of the Docker network {found['Name']}"
        return None

    def delete_vpc(self, vpc_id: str) -> None:
        """Remove a VPC's network."""
        self.docker.remove_network(self.vpc(vpc_id))

    def _subnets(self, name: str) -> list[str]:
        found = self.docker.inspect("network", name)
        return self._subnets_of(found) if found else []

    @staticmethod
    def _subnets_of(found: dict[str, Any]) -> list[str]:
        return [pool["Subnet"] for pool in found["IPAM"]["Config"] or () if "Subnet" in pool]

    def _ensure(self, name: str, subnet: str, *options: str) -> None:
        with self._making:
            have = self._subnets(name)
            if not have:
                self._create(name, subnet, *options)
            elif have != [subnet]:
                raise PartError(
                    f"network {name}: it has the range {have[0]}, not {subnet}. `python -m sandbox reset` makes it "
                    "again, and deletes all data of this sandbox"
                )

    def _create(self, name: str, subnet: str, *options: str) -> None:
        command = ["network", "create", "--driver", "bridge", "--subnet", subnet, *options]
        try:
            self.docker.run(*command, *label_options(self.instance.labels), name)
        except PartError as error:
            if "overlaps" in str(error):
                raise RangeTakenError(f"network {name}: {subnet} is taken on this computer ({error})") from None
            raise

    def free_vpc_range(self, taken: frozenset[str]) -> str:
        """Return an unused /20 inside 10.0.0.0/8, if there is one that no route of this machine overlaps."""
        mine = [ipaddress.IPv4Network(cidr, strict=False) for cidr in taken]
        free = [
            network for network in VPC_POOL.subnets(new_prefix=20) if not any(network.overlaps(other) for other in mine)
        ]
        if not free:
            raise PartError(f"VPC: no free /20 in {VPC_POOL}")
        # Another one would do as well, but a droplet could not reach what this machine has under those addresses.
        used = routes()
        away = (network for network in free if not any(network.overlaps(other) for other in used))
        return str(next(away, free[0]))
