"""Fork a managed cluster: create it behind a firewall, wait for it, and destroy it only if it is certainly ours.

The provider creates a new cluster from its own backup and WAL, as of a time (`backup_restore`). It costs money by the
hour, so most of this module is about its removal.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.core.errors import CloudError, OpsError, RestoreRefusedError
from ops.core.messages import say
from ops.managed_postgres.provider import Cluster, read_cluster, written
from ops.stack.cloud import Cloud

TAG = "ancla-fork-drill"
"""The tag of every drill's fork, and of nothing else: the sweep finds by it what a killed drill left."""

CLUSTER_LIMIT = 10
"""Database clusters that a team may have, until DigitalOcean raises it; the API does not tell the limit."""

_LOOKS_AFTER_SILENCE = 4
"""Seconds: a fork may be listed only some time after a request whose answer was lost."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """For how many seconds to poll the API, and the interval in seconds."""

    seconds: float
    pause: float


def fork_name(live: Cluster, now: datetime) -> str:
    """Return the name of a fork: the id of its cluster, and its start time (UTC).

    It is short, whatever the cluster's name: it is part of the host's first label with `private-` and `-do-user-N-0`
    around it, and a label has 63 characters.
    """
    return f"drill-{live.id[:8]}-{now:%y%m%d%H%M%S}"


def why_not_ours(cluster: Cluster, live: Cluster) -> str | None:
    """Return why a cluster must not be destroyed as a fork of `live`; None if its tag and name prove it."""
    if cluster.id == live.id:
        return "it is the live cluster"
    if TAG not in cluster.tags:
        return f"it does not wear the tag {TAG}"
    if not _is_named_after(cluster, live):
        return f"it is not named as a fork of {live.name}"
    return None


def _is_named_after(cluster: Cluster, live: Cluster) -> bool:
    return re.fullmatch(rf"drill-{re.escape(live.id[:8])}-\d{{12}}", cluster.name) is not None


def refuse_full(cloud: Cloud, limit: int) -> None:
    """Refuse if the team has no room for one more cluster.

    Raises:
        OpsError: it has as many as it may have.
    """
    count = sum(1 for _ in cloud.items("/v2/databases", "databases"))
    if count >= limit:
        raise OpsError(
            f"the team has {count} database clusters and may have {limit}: a fork needs room for one more; "
            "destroy one, or give --cluster-limit if DigitalOcean has raised yours"
        )


def create_fork(cloud: Cloud, live: Cluster, name: str, moment: datetime, droplets: list[str]) -> str:
    """Request a fork of one node whose firewall admits only these droplets from the start; returns its id.

    Raises:
        CloudError: a refusal, or no answer: then it may still have been created.
    """
    body: dict[str, Any] = {
        "name": name,
        "engine": "pg",
        "version": live.version,
        "size": live.size,
        "region": live.region,
        "num_nodes": 1,
        "private_network_uuid": live.vpc,
        "tags": [TAG],
        "rules": _rules(droplets),  # without rules it would be open to the internet at first
        "backup_restore": {"database_name": live.name, "backup_created_at": written(moment)},
    }
    if live.storage:
        body["storage_size_mib"] = live.storage
    return str(cloud.send("POST", "/v2/databases", body)["database"]["id"])


def wait_online(
    cloud: Cloud, ident: str, patience: Patience, report: Callable[[str], None]
) -> tuple[Cluster | None, str]:
    """Wait until a cluster is online; returns it, or None and the last state seen when the time is over."""
    begun, said, seen = time.monotonic(), 0.0, ""
    while True:
        found = cloud.get(f"/v2/databases/{ident}")
        if found is None:
            return None, say("it is gone: somebody destroyed it")
        cluster = read_cluster(found["database"])
        elapsed = time.monotonic() - begun
        if cluster.status == "online":
            return cluster, cluster.status
        if elapsed > patience.seconds:
            return None, say("still {status} after {seconds:.0f} s", status=cluster.status, seconds=elapsed)
        if cluster.status != seen or elapsed - said >= 30:
            report(f"{cluster.name}: {cluster.status}, {elapsed:.0f} s of at most {patience.seconds:.0f} s")
            seen, said = cluster.status, elapsed
        time.sleep(patience.pause)


def close_to(cloud: Cloud, ident: str, droplets: list[str]) -> list[str]:
    """Ensure that only these droplets may connect to a cluster; returns other rules found, after overwriting them."""
    path = f"/v2/databases/{ident}/firewall"
    wanted = {("droplet", droplet) for droplet in droplets}

    def found() -> set[tuple[str, str]]:
        return {(str(rule["type"]), str(rule["value"])) for rule in cloud.items(path, "rules")}

    if found() != wanted:
        cloud.send("PUT", path, {"rules": _rules(droplets)})  # always the complete list
    return [f"{kind} {value}" for kind, value in sorted(found() ^ wanted)]


def candidates(cloud: Cloud, live: Cluster) -> list[Cluster]:
    """List clusters whose tag or name marks them as a drill's fork; the tag may have been removed."""
    clusters = [read_cluster(item) for item in cloud.items("/v2/databases", "databases")]
    return [cluster for cluster in clusters if TAG in cluster.tags or _is_named_after(cluster, live)]


def forget_tag(cloud: Cloud) -> None:
    """Delete the tag when no cluster has it any more, so that a drill leaves nothing in the account."""
    with suppress(CloudError):  # the next drill, or sweep, tries again
        tag = cloud.get(f"/v2/tags/{TAG}")
        if tag is not None and tag["tag"]["resources"]["count"] == 0:
            cloud.delete(f"/v2/tags/{TAG}")


def destroy_fork(cloud: Cloud, live: Cluster, name: str, ident: str | None, patience: Patience) -> bool:
    """Destroy a fork and wait until it is gone; return False if there was none.

    Args:
        cloud: the API.
        live: its original cluster, which is never destroyed.
        name: of the fork, from `fork_name`. Without `ident` (the answer was lost) it is looked up by this name.
        ident: its id.
        patience: how long to retry.

    Raises:
        RestoreRefusedError: the cluster of this id is not certainly a fork of `live`, by its id, tag and name.
        CloudError: it still exists.
    """
    deadline, looks = time.monotonic() + patience.seconds, 0
    while True:
        try:
            if ident is None:
                looks += 1
                ident = next(
                    (c.id for c in map(read_cluster, cloud.items("/v2/databases", "databases")) if c.name == name), None
                )
            found = cloud.get(f"/v2/databases/{ident}") if ident else None
            if found is None:
                if ident or looks >= _LOOKS_AFTER_SILENCE:
                    return ident is not None
            else:
                cluster = read_cluster(found["database"])
                reason = why_not_ours(cluster, live) or (f"it is not named {name}" if cluster.name != name else None)
                if reason:
                    raise RestoreRefusedError(
                        f"database cluster {cluster.name} ({cluster.id}): not destroyed: {reason}; see to it yourself"
                    )
                cloud.delete(f"/v2/databases/{cluster.id}")
            problem = "it is still listed"
        except CloudError as error:
            problem = str(error)
        if time.monotonic() > deadline:
            raise CloudError(
                f"fork {name} may be left, and costs money: {problem}; run `python -m ops pitr sweep --older-than 0`"
            )
        time.sleep(patience.pause)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The result for each cluster with the tag: destroyed, too young, not certainly ours, or still there."""

    destroyed: list[Cluster] = field(default_factory=list)
    young: list[Cluster] = field(default_factory=list)
    refused: list[tuple[Cluster, str]] = field(default_factory=list)
    failed: list[tuple[Cluster, str]] = field(default_factory=list)


def sweep(cloud: Cloud, live: Cluster, older_than: timedelta, patience: Patience | None) -> Sweep:
    """Destroy forks that drills of this cluster left behind; without `patience` only report them.

    A cluster with the tag or such a name that is not certainly a fork of this one stays.
    """
    result, now = Sweep(), datetime.now(UTC)
    for cluster in candidates(cloud, live):
        if reason := why_not_ours(cluster, live):
            result.refused.append((cluster, reason))
        elif now - cluster.created_at < older_than:
            result.young.append(cluster)
        else:
            try:
                if patience:
                    destroy_fork(cloud, live, cluster.name, cluster.id, patience)
                result.destroyed.append(cluster)
            except CloudError as error:
                result.failed.append((cluster, str(error)))
    if patience:
        forget_tag(cloud)
    return result


def _rules(droplets: list[str]) -> list[dict[str, str]]:
    return [{"type": "droplet", "value": droplet} for droplet in droplets]
