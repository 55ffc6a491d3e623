"""The units of systemd by which the machine backs up by itself, as `host/` places them."""

from __future__ import annotations

BACKUP_UNIT = "ancla-backup.service"
FRESHNESS_UNIT = "ancla-freshness.service"
