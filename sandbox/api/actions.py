"""Actions: asynchronous events of droplets, reserved IPs and volumes. One at a time a droplet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox import catalog
from sandbox.api.context import Body, Call, Cloud, invalid, not_found, now, operation, pick
from sandbox.api.kinds import Kind
from sandbox.store import Record, Store

FIRST_ACTION = 2_410_000_001
KEPT = 2000
"""Number of actions that are kept; DigitalOcean shows them for ever."""
FAILURES_SHOWN = 600
"""Seconds for which health reports why an action failed."""


def pending(store: Store, droplet_id: int) -> list[Record]:
    """List the actions of a droplet (those of its reserved IPs and volumes too) that are not finished, oldest first."""
    return store.list("action", droplet_id=droplet_id, status="in-progress")


def begin(  # noqa: PLR0913 - an action has that many facts, all named at the call
    cloud: Cloud,
    kind: str,
    *,
    resource_type: str,
    resource_id: int | None,
    region: str,
    droplet_id: int | None,
    resource: str = "",
    **details: Any,
) -> Record:
    """Start an action.

    `droplet_id` is whose turn it takes, `resource` names what has no number, `details` are for who carries it out.

    Raises:
        ApiError: 422, the droplet is busy.
    """
    if droplet_id is not None and pending(cloud.store, droplet_id):
        raise invalid("Droplet already has a pending event.")
    number = cloud.store.next_number("action", FIRST_ACTION)
    action: Record = {
        "id": number,
        "status": "in-progress",
        "type": kind,
        "started_at": now(),
        "completed_at": None,
        "resource_id": resource_id,
        "resource_type": resource_type,
        "region": region,
        "droplet_id": droplet_id,
        "resource": resource or str(resource_id),
        "details": details,
    }
    if number % 100 == 0:
        cloud.store.prune("action", KEPT, unless={"status": "in-progress"})
    return cloud.store.put("action", number, action)


def begin_droplet_action(cloud: Cloud, droplet: Record, kind: str, **details: Any) -> Record:
    """Start an action of a droplet and put its lane to work."""
    number: int = droplet["id"]
    cloud.touch(f"droplet:{number}", wait=False)
    return begin(
        cloud,
        kind,
        resource_type="droplet",
        resource_id=number,
        region=droplet["region"],
        droplet_id=number,
        **details,
    )


def finish(store: Store, action: Record, status: str = "completed", reason: str = "") -> None:
    """End an action, `completed`, or `errored` for a reason, which no answer of DigitalOcean's API has."""
    store.put("action", action["id"], {**action, "status": status, "completed_at": now(), "reason": reason})


def failures(store: Store) -> dict[str, str]:
    """Return why actions failed in the last minutes, by `action:<id>`."""
    since = (datetime.now(UTC) - timedelta(seconds=FAILURES_SHOWN)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        f"action:{action['id']}": action["reason"]
        for action in store.list("action", status="errored")
        if action["reason"] and action["completed_at"] > since
    }


def action_body(action: Record) -> Body:
    """Return the `action` object of the API."""
    return {
        **pick(action, "id", "status", "type", "started_at", "completed_at", "resource_id", "resource_type"),
        "region": catalog.region_body(action["region"]),
        "region_slug": action["region"],
    }


def link(cloud: Cloud, action: Record, rel: str) -> Body:
    """Return the link to an action, for `links.actions`."""
    return {"id": action["id"], "rel": rel, "href": f"{cloud.base_url}/v2/actions/{action['id']}"}


def of_resource(call: Call, resource_type: str, resource: str) -> list[Record]:
    """List the actions of one resource, newest first."""
    return call.store.list("action", resource_type=resource_type, resource=resource)[::-1]


def one_of_resource(call: Call, resource_type: str, resource: str) -> Body:
    """Return the action that the path names, if it is one of this resource."""
    action = call.store.get("action", call.number("action_id"))
    if action is None or (action["resource_type"], action["resource"]) != (resource_type, resource):
        raise not_found()
    return {"action": action_body(action)}


@operation("actions_list")
def list_actions(call: Call) -> Body:
    """List every action, newest first."""
    return call.page("actions", call.store.list("action")[::-1], action_body)


ACTION = Kind(
    name="action",
    shown=lambda _, action: action_body(action),
    reads=("actions_get",),
)
