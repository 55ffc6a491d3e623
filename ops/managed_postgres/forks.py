"""Forks of a managed cluster: made closed, waited for, and destroyed only when they are surely ours.

The provider makes a new cluster of its own backup and WAL, as of a time (`backup_restore`). It costs money by the hour,
so that most of this is about its end.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.core.errors import CloudError, RestoreRefusedError
from ops.core.messages import say
from ops.managed_postgres.provider import Cluster, read_cluster, written
from ops.stack.cloud import Cloud

TAG = "ancla-fork-drill"
"""What every fork of a drill wears, and nothing else: the sweep finds by it what a killed drill left."""

_LOOKS_AFTER_SILENCE = 4
"""A fork whose creation nobody answered may be listed a little later."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How many seconds to go on asking the API, and how many between two times."""

    seconds: float
    pause: float


def fork_name(live: Cluster, now: datetime) -> str:
    """Return the name of a fork: whose it is, by the cluster's id, and when it began (UTC).

    Short, whatever the cluster is called: the name is in the host's first label with `private-` and `-do-user-N-0`
    around it, and a label has 63 characters.
    """
    return f"drill-{live.id[:8]}-{now:%y%m%d%H%M%S}"


def why_not_ours(cluster: Cluster, live: Cluster) -> str | None:
    """Return why a cluster may not be destroyed as a fork of `live`, or None: its tag and its name must both say so."""
    if cluster.id == live.id:
        return "it is the live cluster"
    if TAG not in cluster.tags:
        return f"it does not wear the tag {TAG}"
    if not _is_named_after(cluster, live):
        return f"it is not named as a fork of {live.name}"
    return None


def _is_named_after(cluster: Cluster, live: Cluster) -> bool:
    return re.fullmatch(rf"drill-{re.escape(live.id[:8])}-\d{{12}}", cluster.name) is not None


def create_fork(cloud: Cloud, live: Cluster, name: str, moment: datetime, droplets: list[str]) -> str:
    """Ask for a fork of one node, closed from its birth to all but these droplets; returns its id.

    Raises:
        CloudError: a refusal, or no answer: then it may be there all the same.
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
        "rules": _rules(droplets),  # without one it would be open to the world until it has some
        "backup_restore": {"database_name": live.name, "backup_created_at": written(moment)},
    }
    if live.storage:
        body["storage_size_mib"] = live.storage
    return str(cloud.send("POST", "/v2/databases", body)["database"]["id"])


def wait_online(
    cloud: Cloud, ident: str, patience: Patience, report: Callable[[str], None]
) -> tuple[Cluster | None, str]:
    """Wait until a cluster is online; returns it, or None and what was seen last when that did not come in time."""
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
    """See that exactly these droplets may reach a cluster; returns what else was found, after it was written anew."""
    path = f"/v2/databases/{ident}/firewall"
    wanted = {("droplet", droplet) for droplet in droplets}

    def found() -> set[tuple[str, str]]:
        return {(str(rule["type"]), str(rule["value"])) for rule in cloud.items(path, "rules")}

    if found() != wanted:
        cloud.send("PUT", path, {"rules": _rules(droplets)})  # always the whole list
    return [f"{kind} {value}" for kind, value in sorted(found() ^ wanted)]


def candidates(cloud: Cloud, live: Cluster) -> list[Cluster]:
    """List what says by its tag or by its name that it is a fork of a drill; the tag may have been taken off."""
    clusters = [read_cluster(item) for item in cloud.items("/v2/databases", "databases")]
    return [cluster for cluster in clusters if TAG in cluster.tags or _is_named_after(cluster, live)]


def forget_tag(cloud: Cloud) -> None:
    """Remove the tag when nothing wears it any more, so that a drill leaves nothing at all in the account."""
    with suppress(CloudError):  # the next drill, or sweep, tries again
        tag = cloud.get(f"/v2/tags/{TAG}")
        if tag is not None and tag["tag"]["resources"]["count"] == 0:
            cloud.delete(f"/v2/tags/{TAG}")


def destroy_fork(cloud: Cloud, live: Cluster, name: str, ident: str | None, patience: Patience) -> bool:
    """Destroy a fork and wait until it is gone; return False when there was none.

    Args:
        cloud: the API.
        live: whose fork it is; this one is never destroyed.
        name: of the fork, by `fork_name`. Without `ident` (nobody heard the answer) it is looked for by this.
        ident: its id.
        patience: how long to go on trying.

    Raises:
        RestoreRefusedError: the cluster of this id is not surely a fork of `live`: by its id, tag and name.
        CloudError: it is still there.
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
    """What became of each cluster with the tag: destroyed, too young, not surely ours, or still there; with reasons."""

    destroyed: list[Cluster] = field(default_factory=list)
    young: list[Cluster] = field(default_factory=list)
    refused: list[tuple[Cluster, str]] = field(default_factory=list)
    failed: list[tuple[Cluster, str]] = field(default_factory=list)


def sweep(cloud: Cloud, live: Cluster, older_than: timedelta, patience: Patience | None) -> Sweep:
    """Destroy what drills of this cluster left behind; without `patience` only say what would be destroyed.

    A cluster that wears the tag, or is named so, and is not surely a fork of this one stays.
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
