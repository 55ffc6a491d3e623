"""Sizes and list prices of DigitalOcean, as data. US dollars a month, read 2026-11-22.

Sources: https://www.digitalocean.com/pricing/droplets, /pricing/managed-databases, /pricing/spaces-object-storage,
/pricing/container-registry, /pricing/load-balancers. `GET /v2/sizes` is the truth for droplets at run time.
"""

from __future__ import annotations

from dataclasses import dataclass

PRICES_READ = "2026-11-22"


@dataclass(frozen=True)
class Size:
    """A size. `memory` in MiB, `disk` in GiB, `monthly` in US dollars."""

    vcpus: int
    memory: int
    disk: int
    monthly: float


DROPLET_SIZES: dict[str, Size] = {
    "s-1vcpu-512mb-10gb": Size(1, 512, 10, 4),
    "s-1vcpu-1gb": Size(1, 1024, 25, 6),
    "s-1vcpu-2gb": Size(1, 2048, 50, 12),
    "s-2vcpu-2gb": Size(2, 2048, 60, 18),
    "s-2vcpu-4gb": Size(2, 4096, 80, 24),
    "s-4vcpu-8gb": Size(4, 8192, 160, 48),
    "s-8vcpu-16gb": Size(8, 16384, 320, 96),
    "c-2": Size(2, 4096, 25, 42),
    "g-2vcpu-8gb": Size(2, 8192, 25, 63),
}

DATABASE_SIZES: dict[str, Size] = {
    "db-s-1vcpu-1gb": Size(1, 1024, 10, 15),
    "db-s-1vcpu-2gb": Size(1, 2048, 30, 30),
    "db-s-2vcpu-4gb": Size(2, 4096, 60, 60),
    "db-s-4vcpu-8gb": Size(4, 8192, 140, 120),
}

SMALLEST_WITH_STANDBY = 2048
"""MiB of memory: a database size below it takes no standby node (docs.digitalocean.com, PostgreSQL limits)."""

REGISTRY_TIERS: dict[str, float] = {"starter": 0, "basic": 5, "professional": 20}
SPACES_SUBSCRIPTION = 5.0
LOAD_BALANCER_NODE = 12.0
UNASSIGNED_RESERVED_IP = 5.0
DROPLET_BACKUP_SHARE: dict[str, float] = {"none": 0.0, "weekly": 0.20, "daily": 0.30}
