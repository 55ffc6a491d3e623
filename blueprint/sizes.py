"""Sizes and list prices of DigitalOcean: the tables of `prices.json`, each with its source and the day it was read.

US dollars a month. `python -m policy prices` compares them with those of an account.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLES: dict[str, Any] = json.loads(Path(__file__).with_name("prices.json").read_text())
PRICES_READ: str = TABLES["read"]


@dataclass(frozen=True)
class MachineSize:
    """A size. `memory` in MiB, `disk` in GiB, `monthly` in US dollars."""

    vcpus: int
    memory: int
    disk: int
    monthly: float


def _sizes(table: str) -> dict[str, MachineSize]:
    return {slug: MachineSize(**row) for slug, row in TABLES[table]["rows"].items()}


def _numbers(table: str, key: str = "monthly") -> dict[str, float]:
    return {slug: float(row[key]) for slug, row in TABLES[table]["rows"].items()}


DROPLET_SIZES = _sizes("droplet")
DATABASE_SIZES = _sizes("database")
VALKEY_SIZES = _sizes("valkey")
APP_SIZES = _sizes("app")
REGISTRY_TIERS = _numbers("registry")
UNITS = _numbers("unit")
DROPLET_BACKUP_SHARE = _numbers("backup_share", "share")

SMALLEST_WITH_STANDBY = 2048
"""MiB of memory: a database size below it takes no standby node (docs.digitalocean.com, PostgreSQL limits)."""
