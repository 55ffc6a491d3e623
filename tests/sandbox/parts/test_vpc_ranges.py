"""VPCs share a range on one machine: the wire is Docker's, the addresses on it are the members' own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sandbox.parts.base import RangeTakenError, VpcSpec
from sandbox.parts.containers import ContainerParts
from sandbox.parts.docker import eventually
from sandbox.parts.instance import Instance
from sandbox.parts.network import Networks

pytestmark = pytest.mark.containers
RANGE = "10.98.0.0/20"


class Wires:
    """Two VPCs of one range, in two sandboxes, and members that answer by TCP at port 7000 with their own name."""

    def __init__(self, parts: ContainerParts, networks: tuple[Networks, Networks]) -> None:
        self.parts, self.docker, self.networks = parts, parts.docker, networks

    def join(self, name: str, side: int, number: int) -> None:
        vpc = VpcSpec(id=f"range-{side}", name="same", ip_range=RANGE)
        self.networks[side].create_vpc(vpc)
        address = vpc.interface(f"10.98.0.{number}")
        script = f"ip -4 address flush dev eth0; ip address add {address} dev eth0; "
        script += f"while :; do echo {name} | nc -lN 7000; done"
        labels = [part for key, value in self.parts.instance.labels.items() for part in ("--label", f"{key}={value}")]
        self.docker.run(
            "run", "--detach", "--name", self.container(name), *labels, "--cap-add", "NET_ADMIN",
            "--network", self.networks[side].vpc(vpc.id), self.parts.images.image("parts"), "sh", "-c", script,
        )  # fmt: skip

    def container(self, name: str) -> str:
        return self.parts.instance.thing("range", name)

    def heard(self, name: str, number: int) -> str:
        """Return what a member hears from an address of its VPC."""
        return self.docker.execute(
            self.container(name), "timeout", "3", "nc", "-d", f"10.98.0.{number}", "7000", check=False
        )


@pytest.fixture
def wires(parts: ContainerParts, tmp_path) -> Iterator[Wires]:
    other = Instance(name=f"test-ranges-{os.getpid()}", home=tmp_path)
    found = Wires(parts, (parts.networks, Networks(other, parts.docker)))
    try:
        yield found
    finally:
        for name in ("a", "b", "c"):
            parts.docker.remove(found.container(name))
        for side, networks in enumerate(found.networks):
            networks.delete_vpc(f"range-{side}")


@pytest.mark.long
def test_two_sandboxes_have_the_same_range_and_members_reach_those_of_their_own(wires: Wires) -> None:
    wires.join("a", 0, 2)
    wires.join("b", 0, 3)
    wires.join("c", 1, 3)
    eventually(lambda: wires.heard("a", 3) == "b", what="b", seconds=60)
    wires.parts.docker.remove(wires.container("b"))
    assert wires.heard("a", 3) == "", "the one of the other sandbox is not reached"
    assert wires.heard("c", 2) == ""


def test_a_range_whose_traffic_docker_would_rewrite_is_refused(parts: ContainerParts) -> None:
    bridge = parts.docker.inspect("network", "bridge")
    assert bridge is not None
    subnet = bridge["IPAM"]["Config"][0]["Subnet"]
    with pytest.raises(RangeTakenError, match=f"overlaps {subnet} of the Docker network bridge"):
        parts.networks.create_vpc(VpcSpec(id="taken", name="taken", ip_range=subnet))
    assert parts.docker.inspect("network", parts.networks.vpc("taken")) is None
