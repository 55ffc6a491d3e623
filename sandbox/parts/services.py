"""What is behind the API: one service for each product, as real ones (`containers`) or recorded calls (`none`).

The public methods of a service are blocking, may take seconds, are called from worker threads, and are idempotent:
called again after a crash with the same values they end in the same place. A service keeps no truth of its own but data
(disks, rows, objects, images): who exists is in the API's store, and `Parts.reconcile` gets all of it at the start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from sandbox.parts.authority import Authority
from sandbox.parts.base import World
from sandbox.parts.databases import Databases
from sandbox.parts.dns import Dns
from sandbox.parts.droplets import Droplets
from sandbox.parts.edge import Edge
from sandbox.parts.load_balancers import LoadBalancers
from sandbox.parts.network import Networks
from sandbox.parts.registry import Registry
from sandbox.parts.spaces import Spaces


class Parts(ABC):
    """All services. A new product is one line here, and its class."""

    authority: Authority
    networks: Networks
    droplets: Droplets
    databases: Databases
    load_balancers: LoadBalancers
    spaces: Spaces
    registry: Registry
    dns: Dns
    edge: Edge

    @abstractmethod
    def free_public_ip(self, taken: frozenset[str], *, reserved: bool = False) -> str:
        """Return an unused public IPv4 address; reserved IPs come from a range of their own. Does not block."""

    @abstractmethod
    def reconcile(self, world: World) -> dict[str, str]:
        """Bring every service to this world: make what is missing, start what is stopped, remove what is not in it.

        What holds data and is not in the world is set aside, not removed. Returns what is set aside and what could
        not be brought up, each with its reason; the rest is up.

        Raises:
            PartError: what all share (Docker, DNS, the edge) is not up.
        """

    @abstractmethod
    def leaks(self, world: World) -> list[str]:
        """Name every labelled container, network, volume, bucket and address that this world does not explain."""
