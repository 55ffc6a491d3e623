"""What the simulated DigitalOcean offers: regions, sizes, images, database layouts and prices, as data.

Sources, read 2026-11-22: the API description's example of `GET /v2/databases/options` (regions, versions, layouts),
the published price pages (US dollars a month), the size slugs of the official provider's schema. An hourly price is the
monthly one / 672.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_ALL_FEATURES = ("backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer")

REGIONS: dict[str, str] = {
    "ams3": "Amsterdam 3",
    "atl1": "Atlanta 1",
    "blr1": "Bangalore 1",
    "fra1": "Frankfurt 1",
    "lon1": "London 1",
    "nyc1": "New York 1",
    "nyc2": "New York 2",
    "nyc3": "New York 3",
    "sfo2": "San Francisco 2",
    "sfo3": "San Francisco 3",
    "sgp1": "Singapore 1",
    "syd1": "Sydney 1",
    "tor1": "Toronto 1",
}


@dataclass(frozen=True)
class DropletSize:
    """A droplet size: `memory` in MiB, `disk` in GiB, `transfer` in TiB a month, `monthly` in US dollars."""

    vcpus: int
    memory: int
    disk: int
    transfer: float
    monthly: float
    description: str


SIZES: dict[str, DropletSize] = {
    "s-1vcpu-512mb-10gb": DropletSize(1, 512, 10, 0.5, 4, "Basic"),
    "s-1vcpu-1gb": DropletSize(1, 1024, 25, 1, 6, "Basic"),
    "s-1vcpu-2gb": DropletSize(1, 2048, 50, 2, 12, "Basic"),
    "s-2vcpu-2gb": DropletSize(2, 2048, 60, 3, 18, "Basic"),
    "s-2vcpu-4gb": DropletSize(2, 4096, 80, 4, 24, "Basic"),
    "s-4vcpu-8gb": DropletSize(4, 8192, 160, 5, 48, "Basic"),
    "s-8vcpu-16gb": DropletSize(8, 16384, 320, 6, 96, "Basic"),
    "c-2": DropletSize(2, 4096, 25, 4, 42, "CPU-Optimized"),
    "g-2vcpu-8gb": DropletSize(2, 8192, 25, 4, 63, "General Purpose"),
}


@dataclass(frozen=True)
class Image:
    """A public distribution image; `size` in GB, `min_disk` in GiB."""

    id: int
    name: str
    distribution: str
    created_at: str
    min_disk: int = 7
    size: float = 2.4


# Older ones stay in the list, and droplets of them can be made. The numbers of Debian 11 and 13 are made up.
IMAGES: dict[str, Image] = {
    "ubuntu-20-04-x64": Image(63663980, "20.04 (LTS) x64", "Ubuntu", "2020-05-15T05:47:50Z", 20, 2.36),
    "ubuntu-22-04-x64": Image(112929454, "22.04 (LTS) x64", "Ubuntu", "2022-07-18T19:06:37Z"),
    "ubuntu-24-04-x64": Image(155133621, "24.04 (LTS) x64", "Ubuntu", "2024-05-09T14:21:06Z"),
    "ubuntu-26-04-x64": Image(218451077, "26.04 (LTS) x64", "Ubuntu", "2026-05-07T15:02:44Z"),
    "debian-11-x64": Image(118558471, "11 x64", "Debian", "2022-10-25T15:20:12Z"),
    "debian-12-x64": Image(139646867, "12 x64", "Debian", "2023-08-31T17:58:31Z"),
    "debian-13-x64": Image(196990412, "13 x64", "Debian", "2025-08-13T16:20:34Z"),
}


@dataclass(frozen=True)
class DatabaseSize:
    """A database node: `memory` and `disk` (the least such a cluster has) in MiB, `monthly` in US dollars a node."""

    vcpus: int
    memory: int
    disk: int
    monthly: float


DATABASE_SIZES: dict[str, DatabaseSize] = {
    "db-s-1vcpu-1gb": DatabaseSize(1, 1024, 10240, 15),
    "db-s-1vcpu-2gb": DatabaseSize(1, 2048, 30720, 30),
    "db-s-2vcpu-4gb": DatabaseSize(2, 4096, 61440, 60),
    "db-s-4vcpu-8gb": DatabaseSize(4, 8192, 143360, 120),
}

# Engine → versions on offer, the last one being the default.
DATABASE_ENGINES: dict[str, tuple[str, ...]] = {
    "pg": ("14", "15", "16", "17", "18"),
    "mysql": ("8",),
    "valkey": ("8",),
    "mongodb": ("6.0", "7.0"),
    "kafka": ("3.8",),
    "opensearch": ("1", "2"),
}
_NODE_COUNTS: dict[str, tuple[int, ...]] = {"mongodb": (1, 3), "kafka": (3, 6, 9, 15)}
# PostgreSQL's own end-of-life dates, https://www.postgresql.org/support/versioning/.
POSTGRES_END_OF_LIFE: dict[str, str] = {
    "14": "2026-11-12T00:00:00Z",
    "15": "2027-11-11T00:00:00Z",
    "16": "2028-11-09T00:00:00Z",
    "17": "2029-11-08T00:00:00Z",
    "18": "2030-11-14T00:00:00Z",
}

CDN_TTLS = (60, 600, 3600, 86400, 604800)
NAME_SERVERS = ("ns1.digitalocean.com", "ns2.digitalocean.com", "ns3.digitalocean.com")
SPACES_REGIONS = ("ams3", "atl1", "blr1", "fra1", "lon1", "nyc3", "sfo2", "sfo3", "sgp1", "syd1", "tor1")
REGISTRY_REGIONS = ("nyc3", "sfo3", "sfo2", "ams3", "sgp1", "fra1", "blr1", "syd1")

REGISTRY_TIERS: dict[str, dict[str, Any]] = {
    slug: {
        "name": slug.capitalize(),
        "slug": slug,
        "included_repositories": repositories,
        "included_storage_bytes": storage,
        "allow_storage_overage": cents > 0,
        "included_bandwidth_bytes": storage,
        "monthly_price_in_cents": cents,
        "storage_overage_price_in_cents": 2 if cents else 0,
    }
    for slug, repositories, storage, cents in (
        ("starter", 1, 524288000, 0),
        ("basic", 5, 5368709120, 500),
        ("professional", 0, 107374182400, 2000),
    )
}


def region_body(slug: str) -> dict[str, Any]:
    """Return the `region` object of the API."""
    return {
        "name": REGIONS[slug],
        "slug": slug,
        "features": list(_ALL_FEATURES),
        "available": True,
        "sizes": list(SIZES),
    }


def size_body(slug: str) -> dict[str, Any]:
    """Return the `size` object of the API."""
    size = SIZES[slug]
    return {
        "slug": slug,
        "memory": size.memory,
        "vcpus": size.vcpus,
        "disk": size.disk,
        "transfer": float(size.transfer),
        "price_monthly": float(size.monthly),
        "price_hourly": round(size.monthly / 672, 5),
        "regions": list(REGIONS),
        "available": True,
        "description": size.description,
        "disk_info": [{"type": "local", "size": {"amount": size.disk, "unit": "gib"}}],
    }


def image_body(slug: str) -> dict[str, Any]:
    """Return the `image` object of the API for a distribution image."""
    image = IMAGES[slug]
    return {
        "id": image.id,
        "name": image.name,
        "distribution": image.distribution,
        "slug": slug,
        "public": True,
        # The API description's list of regions knows no atl1.
        "regions": [region for region in REGIONS if region != "atl1"],
        "created_at": image.created_at,
        "min_disk_size": image.min_disk,
        "type": "base",
        "size_gigabytes": image.size,
        "description": f"{image.distribution} {image.name}",
        "tags": [],
        "status": "available",
        "error_message": "",
    }


def database_options() -> dict[str, Any]:
    """Return the body of `GET /v2/databases/options`."""
    options: dict[str, Any] = {}
    availability: dict[str, Any] = {}
    for engine, versions in DATABASE_ENGINES.items():
        options[engine] = {
            "regions": list(REGIONS),
            "versions": list(versions),
            "default_version": versions[-1],
            "layouts": [
                {"num_nodes": nodes, "sizes": list(DATABASE_SIZES)} for nodes in _NODE_COUNTS.get(engine, (1, 2, 3))
            ],
        }
        ends = POSTGRES_END_OF_LIFE if engine == "pg" else {}
        availability[engine] = [
            {"end_of_life": ends.get(version), "end_of_availability": None, "version": version} for version in versions
        ]
    return {"options": options, "version_availability": availability}
