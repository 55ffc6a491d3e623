"""What a stack gives back, as tests of ops and of releases need it."""

from __future__ import annotations

from typing import Any

BACKUP: dict[str, Any] = {
    "destinations": [],
    "schedule": "daily",
    "retention": {},
    "max_age_hours": 26,
    "rto_minutes": 15,
}
DATABASE: dict[str, Any] = {
    "id": "c1",
    "version": "15",
    "host": "db.example.org",
    "private_host": "private-db.example.org",
    "port": 25060,
    "user": "app",
    "admin_user": "doadmin",
    "databases": ["shop"],
    "pools": {},
    "pool_port": None,
    "ca_certificate": "none",
}


def build_outputs(**changes: Any) -> dict[str, Any]:
    """Return the outputs of a stack without a database and without a droplet, but for these changes."""
    return {
        "schema_version": 1,
        "environment": "staging",
        "project": "test",
        "domain": "staging.example.org",
        "region": "nyc3",
        "account": "a-1",
        "droplets": [],
        "access": {"user": "deploy", "port": 22, "host_key": "ssh-ed25519 AAAA"},
        "database": None,
        "buckets": {},
        "registry": {"name": "test", "endpoint": "registry.example.org/test"},
        "services": {},
        "backup": BACKUP,
        "secrets": {},
        **changes,
    }


def build_droplet(address: str, **changes: Any) -> dict[str, Any]:
    """Return the droplet of such a stack."""
    place = {"address": address, "public_ip": "192.0.2.1", "private_ip": "10.0.0.2"}
    return {"id": "1", "name": "web", **place, **changes}
