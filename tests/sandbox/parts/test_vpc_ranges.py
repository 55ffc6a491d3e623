"""Docker's own refusal of a range that another network has, which is how a VPC learns to take the next one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox.parts.base import RangeTakenError, VpcSpec
from sandbox.parts.docker import Docker
from sandbox.parts.instance import Instance
from sandbox.parts.network import VPC_POOL, Networks


def test_a_range_that_another_network_has_is_told_from_other_failures(tmp_path: Path):
    networks = Networks(Instance(name=f"ranges-{os.getpid()}", home=tmp_path), Docker())
    ranges = [str(network) for network in VPC_POOL.subnets(new_prefix=20)]
    free = next(cidr for cidr in reversed(ranges) if networks.check_vpc_range(cidr) is None)
    try:
        networks.create_vpc(VpcSpec(id="first", name="first", ip_range=free))
        with pytest.raises(RangeTakenError, match=free):
            networks.create_vpc(VpcSpec(id="second", name="second", ip_range=free))
    finally:
        networks.delete_vpc("first")
