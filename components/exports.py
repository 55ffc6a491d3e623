"""Build the stack outputs: the fields of `blueprint.outputs.EnvironmentOutputs`, each one a stack output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from blueprint.outputs import SCHEMA_VERSION
from blueprint.settings.environment import EnvironmentSettings
from components.app_droplet import SSH_PORT, USER, AppDroplet
from components.asset_bucket import AssetBucketWithCDN
from components.credentials import Credentials
from components.managed_database import ManagedDatabase
from components.registry import Registry

SECRETS_FILE = "/etc/ancla/secrets.json"
"""Path of the secret values on a droplet."""

Values = dict[str, Any]  # JSON values, outputs among them
_NOT_AS_WRITTEN = {"destinations", "vault", "buckets", "sources", "signers"}


@dataclass(frozen=True, kw_only=True)
class BackupPlace:
    """Where backups go, made here or there already. `name` is the destination's; the key is for the bucket."""

    name: str
    bucket: pulumi.Input[str]
    region: str
    endpoint: pulumi.Input[str]
    prefix: str
    keep_last: int | None
    access_key: pulumi.Input[str]
    secret_key: pulumi.Input[str]


@dataclass(frozen=True, kw_only=True)
class Built:
    """The components and settings that the outputs are built from."""

    settings: EnvironmentSettings
    account: str
    credentials: Credentials
    droplets: Sequence[AppDroplet]
    database: ManagedDatabase | None
    buckets: Mapping[str, AssetBucketWithCDN]
    backups: Sequence[BackupPlace]
    registry: Registry | None


def build_outputs(built: Built) -> Values:
    """Return every field but `secrets`; nothing in it is secret."""
    settings, registry = built.settings, built.registry
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": settings.environment,
        "project": settings.project,
        "domain": settings.edge.canonical,
        "region": str(settings.region),
        "account": built.account,
        "droplets": [
            {
                "id": droplet.droplet_id,
                "name": droplet.name,
                "address": droplet.address,
                "public_ip": droplet.public_ip,
                "private_ip": droplet.private_ip,
            }
            for droplet in built.droplets
        ],
        "access": {"user": USER, "port": SSH_PORT, "host_key": built.credentials.host_public},
        "database": _database(built),
        "buckets": {name: _bucket(built, name) for name in built.buckets},
        "registry": {"name": registry.name, "endpoint": registry.endpoint} if registry else None,
        "services": {
            name: service.model_dump(mode="json", by_alias=False) for name, service in settings.services.items()
        },
        "backup": {
            "destinations": {
                backup.name: {
                    "name": backup.bucket,
                    "region": backup.region,
                    "endpoint": backup.endpoint,
                    "prefix": backup.prefix,
                    "keep_last": backup.keep_last,
                }
                for backup in built.backups
            },
            "sources": [source.model_dump(mode="json") for source in settings.backup.all_sources],
            "signer": built.credentials.backup_signer,
            "signers": list(settings.backup.signers.all),
            **settings.backup.model_dump(mode="json", by_alias=False, exclude=_NOT_AS_WRITTEN),
        },
    }


def build_machine_secrets(built: Built) -> Values:
    """Return `OutputSecrets` without the deploy key, which no droplet has."""
    database = built.database
    return {
        "database_password": database.password if database else None,
        "database_admin_password": database.admin_password if database else None,
        "bucket_keys": {
            name: {"access_key": bucket.access_key, "secret_key": bucket.secret_key}
            for name, bucket in built.buckets.items()
        },
        "backup_keys": {
            backup.name: {"access_key": backup.access_key, "secret_key": backup.secret_key} for backup in built.backups
        },
        "backup_signing_key": built.credentials.backup_signing_key,
        "notifications": list(built.credentials.notifications),
        "heartbeat": built.credentials.heartbeat,
        "app": dict(built.credentials.app),
    }


def build_exports(built: Built) -> Values:
    """Return every stack output by name; all secrets are in the one output `secrets`."""
    secrets = {**build_machine_secrets(built), "deploy_key": built.credentials.deploy_key}
    return {**build_outputs(built), "secrets": pulumi.Output.secret(secrets)}


def build_machine_outputs(built: Built) -> Values:
    """Return the reduced copy for a droplet, whose `secrets` is the name of a file."""
    return {**build_outputs(built), "secrets": {"file": SECRETS_FILE}}


def _database(built: Built) -> Values | None:
    database = built.database
    if database is None:
        return None
    cluster = database.cluster
    return {
        "id": database.cluster_id,
        "version": cluster.version,
        "host": cluster.host,
        "private_host": cluster.private_host,
        "port": cluster.port,
        "user": database.user,
        "admin_user": database.admin_user,
        "databases": list(database.databases),
        "pools": {title: dict(pool) for title, pool in database.pools.items()},
        "pool_port": database.pool_port,
        "ca_certificate": database.ca_certificate,
    }


def _bucket(built: Built, name: str) -> Values:
    made = built.buckets[name]
    return {
        "bucket": {
            "name": made.bucket,
            "region": str(built.settings.region),
            "endpoint": made.endpoint,
            "prefix": "",
        },
        "public": built.settings.buckets[name].access == "public",
        "url": made.url,
        "cdn_id": made.cdn_id,
    }
