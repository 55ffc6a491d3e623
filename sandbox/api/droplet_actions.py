"""What droplets do and have done to them: actions, one at a time, and the jobs that carry them out."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

from sandbox import catalog
from sandbox.api import actions
from sandbox.api.actions import begin_droplet_action
from sandbox.api.context import Body, Call, Cloud, ShownError, invalid, job, not_built, now, operation
from sandbox.api.desired import droplet_spec, firewall_rules
from sandbox.api.droplets import BAD_NAME, DROPLET, NAME, backup_policy, fail_droplet
from sandbox.api.firewalls import held_droplets
from sandbox.api.kinds import touch_membership
from sandbox.parts.base import PartError
from sandbox.store import Record

log = logging.getLogger(__name__)
_POWER = {"power_on": "active", "power_off": "off", "shutdown": "off", "reboot": "active", "power_cycle": "active"}
_NOT_BUILT = frozenset({"restore", "password_reset", "rebuild", "change_kernel", "enable_ipv6"})


@operation("dropletActions_list")
def list_droplet_actions(call: Call) -> Body:
    """List the actions of a droplet, newest first; those of its reserved IPs count, they take its turn."""
    droplet = DROPLET.find(call)
    found = call.store.list("action", droplet_id=droplet["id"])[::-1]
    return call.page("actions", found, actions.action_body)


@operation("dropletActions_get")
def get_droplet_action(call: Call) -> Body:
    """Return one action of a droplet."""
    return actions.one_of_resource(call, "droplet", str(DROPLET.find(call)["id"]))


def _resize(call: Call, droplet: Record) -> Record:
    size = call.one_of("size", catalog.SIZES, "You specified an invalid size.")
    if size == droplet["size"]:
        raise invalid("Droplet is already this size.")
    if catalog.SIZES[size].disk < droplet["disk"]:
        raise invalid("This size is not available because it has a smaller disk.")
    if droplet["status"] != "off":
        raise invalid("Droplet is currently running. Please power it off to run this event.")
    grown = {"disk": catalog.SIZES[size].disk} if call.body.get("disk") else {}
    return {"size": size, **grown}


def _changes(call: Call, droplet: Record, kind: str) -> Record:
    """Check an action and return what it will have changed in the droplet when it is done."""
    match kind:
        case "resize":
            return _resize(call, droplet)
        case "rename":
            return {"name": call.text("name", pattern=NAME.pattern, message=BAD_NAME)}
        case "enable_backups" | "change_backup_policy":
            return {"backup_policy": backup_policy(call.body.get("backup_policy"))}
        case "disable_backups":
            return {"backup_policy": None}
        case "snapshot" | "enable_private_networking":
            return {}
        case _ if kind in _POWER:
            if droplet["status"] == "off" and kind in {"power_off", "shutdown"}:
                raise invalid("Droplet is already powered off.")
            if droplet["status"] == "active" and kind == "power_on":
                raise invalid("Droplet is already powered on.")
            return {"status": _POWER[kind]}
        case _ if kind in _NOT_BUILT:
            raise not_built(f"the droplet action {kind}")
        case _:
            raise invalid("You specified an invalid action type.")


def _start_action(call: Call, droplet: Record) -> Record:
    kind = call.text("type")
    changes = _changes(call, droplet, kind)
    name = str(call.body.get("name") or f"{droplet['name']}-{now()}")
    return begin_droplet_action(call.cloud, droplet, kind, changes=changes, name=name)


@operation("dropletActions_post")
def post_droplet_action(call: Call) -> Body:
    """Start an action of one droplet."""
    return {"action": actions.action_body(_start_action(call, DROPLET.find(call)))}


@operation("dropletActions_post_byTag")
def post_actions_by_tag(call: Call) -> Body:
    """Start the same action on every droplet of a tag."""
    tag = call.query.get("tag_name")
    droplets = [droplet for droplet in call.store.list("droplet") if tag in droplet["tags"]]
    return {"actions": [actions.action_body(_start_action(call, droplet)) for droplet in droplets]}


@job("droplet")
def converge_droplet(cloud: Cloud, ident: str) -> None:
    """Perform the pending actions of a droplet, oldest first; or remove its container."""
    droplet = cloud.store.get("droplet", ident)
    while droplet is not None and not droplet["deleting"]:
        waiting = actions.pending(cloud.store, droplet["id"])
        if not waiting:
            return
        _perform(cloud, droplet, waiting[0])
        droplet = cloud.store.get("droplet", ident)
    # Without a record its creation failed: what there is of its container goes, so that its address is free.
    cloud.parts.droplets.delete(int(ident))
    with cloud.change():
        cloud.store.delete("droplet", ident)
        cloud.applied.pop(f"firewall:{ident}", None)
        cloud.applied.pop(f"reserved:{ident}", None)


def _perform(cloud: Cloud, droplet: Record, action: Record) -> None:
    """Perform one action, then record in one commit that it has ended and what it changed."""
    # Only what this action changes is written back: tags may change meanwhile.
    changes: Record = action["details"].get("changes", {})
    outcome, reason = "completed", ""
    try:
        try:
            _use_part(cloud, {**droplet, **changes}, action)
        except PartError as error:
            log.warning("%s of droplet %s: %s", action["type"], droplet["id"], error)
            if action["type"] != "create":
                raise
            _use_part(cloud, {**droplet, **changes}, action)  # a busy machine's hiccup is not the customer's
    except PartError as error:
        outcome, changes, reason = "errored", {}, str(error)
    with cloud.change():
        current = cloud.store.get("droplet", droplet["id"])
        if current is None or current["deleting"]:
            return
        if outcome == "errored" and action["type"] == "create":
            # Gone in the same commit: a client that sees the errored action next asks for the droplet.
            fail_droplet(cloud, current, reason)
            touch_membership(cloud, wait=False)
            return
        cloud.store.put("droplet", droplet["id"], {**current, **changes})
        if action["type"] == "snapshot":
            _keep_snapshot(cloud, current, action)
        if record := cloud.store.get("reserved_ip", action["resource"]):
            cloud.store.put("reserved_ip", record["ip"], {**record, "locked": False, **_former(cloud, action, outcome)})
        actions.finish(cloud.store, action, outcome, reason)
        cloud.touch("firewalls", wait=False)


def _former(cloud: Cloud, action: Record, outcome: str) -> Record:
    """Return who has a reserved IP after its action failed: the droplet that had it, if it is still there."""
    if outcome == "completed":
        return {}
    holder = action["details"].get("before")
    droplet = cloud.store.get("droplet", holder or "")
    for number in {holder, action["droplet_id"]} - {None}:
        cloud.touch(f"reserved:{number}", wait=False)
    return {"droplet_id": holder if droplet and not droplet["deleting"] else None}


def _use_part(cloud: Cloud, droplet: Record, action: Record) -> None:
    kind: str = action["type"]
    with cloud.store.transaction():
        spec = droplet_spec(cloud.store, droplet)
        rules = firewall_rules(cloud.store, droplet)
        holder = action["details"].get("before")
        before = cloud.store.get("droplet", holder or "") if holder != droplet["id"] else None
        previous = droplet_spec(cloud.store, before) if before else None
    if kind == "create":
        # Made, then closed, then booted: a droplet that is born under a firewall is never seen without it.
        cloud.parts.droplets.create(replace(spec, powered=False))
        cloud.parts.droplets.set_firewall(spec, rules)
        cloud.parts.droplets.power(spec, "power_on")
        cloud.applied[f"firewall:{spec.id}"] = rules
    elif kind in _POWER:
        cloud.parts.droplets.power(spec, kind)
    elif kind == "resize":
        cloud.parts.droplets.resize(spec)
    elif kind in {"assign_ip", "unassign_ip"}:
        for having in filter(None, (previous, spec)):
            cloud.apply(f"reserved:{having.id}", having, partial(cloud.parts.droplets.set_reserved_ips, having))


def _keep_snapshot(cloud: Cloud, droplet: Record, action: Record) -> None:
    number = cloud.store.next_number("image", 220_500_001)
    size = catalog.IMAGES[droplet["image"]].size
    # The provider finds a snapshot by its time, which must be the action's.
    common = {
        "name": action["details"]["name"],
        "created_at": action["started_at"],
        "regions": [droplet["region"]],
        "min_disk_size": droplet["disk"],
        "size_gigabytes": size,
        "tags": [],
    }
    snapshot = {"id": str(number), "resource_id": str(droplet["id"]), "resource_type": "droplet", **common}
    cloud.store.put("snapshot", number, snapshot)
    image = {
        **catalog.image_body(droplet["image"]),
        **common,
        "id": number,
        "slug": None,
        "public": False,
        "type": "snapshot",
        "description": "",
    }
    cloud.store.put("image", number, image)


@job("firewalls")
def converge_firewalls(cloud: Cloud, _: str) -> None:
    """Give every running droplet the union of its firewalls, where it changed.

    Raises:
        ShownError: a droplet did not take them; its firewalls are `failed` until it does.
    """
    with cloud.store.transaction():
        wanted = [
            (droplet_spec(cloud.store, droplet), firewall_rules(cloud.store, droplet))
            for droplet in cloud.store.list("droplet", deleting=False)
            if droplet["status"] != "new"
        ]
    failed: dict[int, PartError] = {}
    for spec, rules in wanted:
        try:
            cloud.apply(f"firewall:{spec.id}", rules, partial(cloud.parts.droplets.set_firewall, spec, rules))
        except PartError as error:
            failed[spec.id] = error  # the other droplets get theirs nevertheless
    with cloud.change():
        for firewall in cloud.store.list("firewall"):
            held = [droplet["id"] for droplet in held_droplets(cloud.store, firewall) if droplet["id"] in failed]
            changes = [{"droplet_id": ident, "removing": False, "status": "failed"} for ident in held]
            state = {"status": "failed" if held else "succeeded", "pending_changes": changes}
            cloud.store.put("firewall", firewall["id"], {**firewall, **state})
    if failed:
        raise ShownError("; ".join(str(error) for error in failed.values()))
