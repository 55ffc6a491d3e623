"""One sandbox on this machine: its name, home folder, ports, labels and address plan."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from sandbox.parts.base import PartError
from sandbox.parts.docker import Docker

LABEL = "ancla.sandbox"
OWNER_LABEL = "ancla.sandbox.owner"
BENCHMARK = ipaddress.IPv4Network("198.18.0.0/15")
"""RFC 2544: never routed on the internet, and no private range a firewall or VPN would claim."""


@dataclass(frozen=True)
class Plan:
    """The addresses of one instance, all in one /20.

    The first /21 is the public network: infrastructure at its start, then droplets and clusters; the upper half of it
    is for reserved IPs, which no container ever gets. The backbone joins edge, Spaces and registry alone. The rest is
    for the networks of VPCs: Docker wants a range for each, and its members set the addresses of the VPC themselves.
    """

    block: ipaddress.IPv4Network

    @property
    def public(self) -> ipaddress.IPv4Network:
        """The network of droplets, clusters and infrastructure."""
        return next(self.block.subnets(new_prefix=21))

    @property
    def hosts(self) -> range:
        """Integers of the addresses for droplets and clusters; the first 32 are the infrastructure's."""
        start = int(self.public.network_address)
        return range(start + 32, start + 1024)

    @property
    def reserved(self) -> range:
        """Integers of the reserved IPs."""
        start = int(self.public.network_address)
        return range(start + 1024, start + 2047)

    @property
    def backbone(self) -> ipaddress.IPv4Network:
        """The network behind the edge."""
        return ipaddress.IPv4Network((int(self.block.network_address) + 2048, 24))

    @property
    def vpcs(self) -> list[ipaddress.IPv4Network]:
        """What Docker may number the members of VPCs with; nobody sees these addresses."""
        first = int(self.backbone.broadcast_address) + 1
        return [network for network in self.block.subnets(new_prefix=26) if int(network.network_address) >= first]

    def free_public_ip(self, taken: frozenset[str], *, reserved: bool = False) -> str:
        """As `Parts.free_public_ip`."""
        for number in self.reserved if reserved else self.hosts:
            address = str(ipaddress.IPv4Address(number))
            if address not in taken:
                return address
        raise PartError(f"addresses: all {'reserved' if reserved else 'public'} ones of {self.public} are taken")

    def infrastructure(self, part: str) -> str:
        """The public address of the nameserver, resolver, edge or proxy."""
        return str(self.public[{"nameserver": 2, "resolver": 3, "edge": 4, "proxy": 5}[part]])

    def inner(self, part: str) -> str:
        """The backbone address of the edge, Spaces or the registry."""
        return str(self.backbone[{"edge": 2, "spaces": 3, "registry": 4}[part]])


@dataclass(frozen=True, kw_only=True)
class Instance:
    """Where one sandbox lives. Several may run beside each other: different names, homes and ports."""

    name: str
    home: Path
    port: int = 8470

    @property
    def labels(self) -> dict[str, str]:
        """Labels of every thing of this instance; with `$ANCLA_SANDBOX_OWNER`, the process whose end is its end too."""
        owner = os.environ.get("ANCLA_SANDBOX_OWNER")
        return {LABEL: self.name} | ({OWNER_LABEL: owner} if owner else {})

    @property
    def label(self) -> str:
        """What `docker --filter label=` takes to find everything of this instance."""
        return f"{LABEL}={self.name}"

    @property
    def prefix(self) -> str:
        """What every thing's name begins with."""
        return f"ancla-{self.name}-"

    def thing(self, *parts: object) -> str:
        """The Docker name of a part, such as `ancla-dev-edge`."""
        return self.prefix + "-".join(str(part) for part in parts)

    @property
    def base_url(self) -> str:
        """The API's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def proxy_port(self) -> int:
        """Where the HTTP proxy listens."""
        return self.port + 1

    @property
    def page_port(self) -> int:
        """Where the page of the first reserved IP is published."""
        return self.port + 2

    @property
    def _addresses(self) -> Path:
        return self.home / "addresses.json"

    @property
    def planned(self) -> bool:
        """Whether its block was chosen before."""
        return self._addresses.exists()

    def choose_again(self) -> None:
        """Forget the block; `plan` looks for one that is free by now."""
        self._addresses.unlink(missing_ok=True)
        self.__dict__.pop("plan", None)

    @cached_property
    def plan(self) -> Plan:
        """The instance's block: kept in its home, so that addresses live as long as the data."""
        file = self._addresses
        if file.exists():
            return Plan(ipaddress.IPv4Network(json.loads(file.read_text())["block"]))
        taken = networks_in_use()
        for block in BENCHMARK.subnets(new_prefix=20):
            if not any(block.overlaps(network) for network in taken):
                write_private(file, json.dumps({"block": str(block)}))
                return Plan(block)
        raise PartError(
            f"addresses: no free /20 in {BENCHMARK}; stop another sandbox, or remove a route that covers it"
        )


def instance_name(home: Path) -> str:
    """A name from the home folder: two checkouts do not meet."""
    folder = home.resolve()
    slug = re.sub(r"[^a-z0-9]+", "-", folder.parent.name.lower()).strip("-")[:12] or "sandbox"
    return f"{slug}-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}"


def routes() -> list[ipaddress.IPv4Network]:
    """Every IPv4 network that this machine has a route for, in any table: VPNs keep tables of their own."""
    command = ["ip", "-json", "-4", "route", "show", "table", "all"]
    try:
        text = subprocess.run(command, capture_output=True, check=True).stdout
        shown = cast("list[dict[str, str]]", json.loads(text or "[]"))
    except (OSError, subprocess.CalledProcessError, ValueError):
        return []  # no `ip` here (not Linux): Docker's own check still refuses an overlap
    found = [ipaddress.IPv4Network(route["dst"], strict=False) for route in shown if route["dst"] != "default"]
    return [network for network in found if network.prefixlen > 1]  # halves of everything are a default route


def networks_in_use() -> list[ipaddress.IPv4Network]:
    """Every IPv4 network this machine has a route for, or Docker has given away (its bridge may be down)."""
    docker = Docker()
    found = routes()
    for ident in docker.run("network", "ls", "--quiet").split():
        network = docker.inspect("network", ident) or {"IPAM": {}}  # it may have gone since
        subnets = [pool.get("Subnet", "") for pool in network["IPAM"].get("Config") or ()]
        found += [ipaddress.IPv4Network(subnet, strict=False) for subnet in subnets if "." in subnet]
    return found


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
