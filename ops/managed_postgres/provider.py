"""Read a managed cluster from DigitalOcean's API: how to connect to it, and its backups."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from ops.core.errors import CloudError, OpsError, StackError
from ops.core.formatting import parse_utc
from ops.stack.cloud import Cloud
from ops.stack.outputs import LoadedStack

LATEST, OLDEST = "latest", "oldest"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A managed cluster as the API shows it. `storage` in MiB; `created_at` is UTC."""

    id: str
    name: str
    status: str
    version: str
    size: str
    region: str
    vpc: str
    storage: int
    tags: tuple[str, ...]
    created_at: datetime
    private_host: str
    port: int
    admin_user: str
    admin_password: SecretStr = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RestorePoint:
    """A backup that the provider lists. `gigabytes` is its size according to the provider."""

    created_at: datetime
    gigabytes: float


def live_cluster(cloud: Cloud, stack: LoadedStack) -> Cluster:
    """Return the stack's own cluster by its id.

    Raises:
        StackError: the stack has no managed database, or the token is of another account.
        CloudError: the API refuses, or the cluster does not exist.
    """
    database = stack.outputs.database
    if database is None:
        raise StackError(f"{stack.name}: the stack has no database")
    account = cloud.account()
    if account != stack.outputs.account:
        raise StackError(f"{stack.name}: belongs to the account {stack.outputs.account}, the token is of {account}")
    found = cloud.get(f"/v2/databases/{database.id}")
    if found is None:
        raise CloudError(f"{stack.name}: database cluster {database.id} does not exist; run `pulumi refresh`")
    return read_cluster(found["database"])


def restore_points(cloud: Cloud, cluster: Cluster) -> list[RestorePoint]:
    """List the provider's backups of a cluster, oldest first."""
    listed = cloud.items(f"/v2/databases/{cluster.id}/backups", "backups")
    points = [
        RestorePoint(created_at=parse_utc(item["created_at"]), gigabytes=float(item.get("size_gigabytes") or 0))
        for item in listed
    ]
    return sorted(points, key=lambda point: point.created_at)


def choose(points: list[RestorePoint], at: str, now: datetime) -> datetime:
    """Return the moment to fork from: `latest`, `oldest`, or a time between the first backup and now.

    Raises:
        OpsError: no backup, not a time, or one that the provider cannot give.
    """
    if not points:
        raise OpsError("the provider lists no restore point: a new cluster has its first one after a while")
    if at in (LATEST, OLDEST):
        return points[-1 if at == LATEST else 0].created_at
    try:
        moment = parse_utc(at)
    except ValueError:
        raise OpsError(f"--at {at}: neither latest, oldest, nor a time such as 2026-11-23T03:00:00Z") from None
    if not points[0].created_at <= moment <= now:
        first = f"{points[0].created_at:%Y-%m-%dT%H:%M:%SZ}"
        raise OpsError(f"--at {at}: outside of what can be restored: from {first} until now")
    return moment


def written(moment: datetime) -> str:
    """Format a time for the API; fractions of a second only if there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def user_password(cloud: Cloud, ident: str, user: str) -> SecretStr | None:
    """Return the password of a database user; None if the API does not know the user."""
    found = cloud.get(f"/v2/databases/{ident}/users/{user}")
    password = (found or {}).get("user", {}).get("password")
    return SecretStr(password) if password else None


def certificate_authority(cloud: Cloud, ident: str) -> str:
    """Return the CA certificate (PEM) for a cluster's name.

    Raises:
        CloudError: the API has none.
    """
    found = cloud.get(f"/v2/databases/{ident}/ca")
    if found is None:
        raise CloudError(f"database cluster {ident}: its CA certificate is not there")
    return base64.b64decode(found["ca"]["certificate"]).decode()


def read_cluster(item: dict[str, Any]) -> Cluster:
    """Parse a cluster from an answer of the API."""
    # A cluster that was just requested may have no address yet.
    connection = item.get("private_connection") or item.get("connection") or {}
    return Cluster(
        id=str(item["id"]),
        name=str(item["name"]),
        status=str(item["status"]),
        version=str(item["version"]),
        size=str(item["size"]),
        region=str(item["region"]),
        vpc=str(item.get("private_network_uuid") or ""),
        storage=int(item.get("storage_size_mib") or 0),
        tags=tuple(item.get("tags") or ()),
        created_at=parse_utc(str(item["created_at"])),
        private_host=str(connection.get("host") or ""),
        port=int(connection.get("port") or 0),
        admin_user=str(connection.get("user") or ""),
        admin_password=SecretStr(str(connection.get("password") or "")),
    )
