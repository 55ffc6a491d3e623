"""Name the systemd units that run backups on the droplet, as `host/` installs them."""

from __future__ import annotations

BACKUP_UNIT = "ancla-backup.service"
FRESHNESS_UNIT = "ancla-freshness.service"
