"""Droplets and their actions."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox import catalog
from sandbox.api import actions
from sandbox.api.account import DROPLET_LIMIT, find_key
from sandbox.api.context import Body, Call, Cloud, invalid, job, not_built, not_found, now, operation
from sandbox.api.desired import droplet_spec, firewall_rules
from sandbox.api.vpcs import free_private_ip, free_public_ip, vpc_for
from sandbox.api.projects import forget_urn
from sandbox.api.tags import ensure_tags
from sandbox.parts.base import PartError
from sandbox.store import Record

_NAME = re.compile(r"[a-zA-Z0-9]?[a-zA-Z0-9.\-]*[a-zA-Z0-9]")
_BAD_NAME = "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)"
_POWER = {"power_on": "active", "power_off": "off", "shutdown": "off", "reboot": "active", "power_cycle": "active"}
_NOT_BUILT = frozenset({"restore", "password_reset", "rebuild", "change_kernel", "enable_ipv6"})
_DEFAULT_POLICY = {"plan": "weekly", "weekday": "SUN", "hour": 0, "window_length_hours": 4, "retention_period_days": 28}


def find_droplet(call: Call, ident: int | None = None) -> Record:
    """Return the droplet that the path (or `ident`) names.

    Raises:
        ApiError: 404.
    """
    droplet = call.store.get("droplet", call.number("droplet_id") if ident is None else ident)
    if droplet is None:
        raise not_found()
    return droplet


def _backup_window(droplet: Record) -> Body | None:
    policy: Record | None = droplet["backup_policy"]
    if policy is None:
        return None
    today = datetime.now(UTC).replace(hour=policy["hour"], minute=0, second=0, microsecond=0)
    days = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
    ahead = 1 if policy["plan"] == "daily" else (days.index(policy["weekday"]) - today.weekday() - 1) % 7 + 1
    start = today + timedelta(days=ahead)
    end = start + timedelta(hours=policy["window_length_hours"])
    return {"start": start.strftime("%Y-%m-%dT%H:%M:%SZ"), "end": end.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _networks(cloud: Cloud, droplet: Record) -> Body:
    if droplet["status"] == "new":
        return {"v4": [], "v6": []}
    vpc = cloud.store.get("vpc", droplet["vpc_uuid"]) or {"ip_range": "0.0.0.0/0"}
    private = ipaddress.IPv4Network(vpc["ip_range"])
    public = ipaddress.IPv4Network(f"{droplet['public_ip']}/20", strict=False)

    def address(kind: str, network: ipaddress.IPv4Network) -> Body:
        return {
            "ip_address": droplet[f"{kind}_ip"],
            "netmask": str(network.netmask),
            "gateway": str(network.network_address + 1),
            "type": kind,
        }

    return {"v4": [address("public", public), address("private", private)], "v6": []}


def _features(droplet: Record) -> list[str]:
    wanted = {
        "backups": droplet["backup_policy"] is not None,
        "monitoring": droplet["monitoring"],
        "droplet_agent": droplet["agent"],
        "private_networking": True,
    }
    return [name for name, on in wanted.items() if on]


def droplet_body(cloud: Cloud, droplet: Record) -> Body:
    """Return the `droplet` object of the API."""
    size = catalog.SIZES[droplet["size"]]
    store = cloud.store
    busy = any(action["type"] in {"resize", "snapshot"} for action in actions.pending(store, droplet["id"]))
    return {
        "id": droplet["id"],
        "name": droplet["name"],
        "memory": size.memory,
        "vcpus": size.vcpus,
        "disk": droplet["disk"],
        "disk_info": [{"type": "local", "size": {"amount": droplet["disk"], "unit": "gib"}}],
        "locked": busy,
        "status": droplet["status"],
        "kernel": None,
        "created_at": droplet["created_at"],
        "features": _features(droplet),
        "backup_ids": [],
        "next_backup_window": _backup_window(droplet),
        "snapshot_ids": [
            int(snapshot["id"]) for snapshot in store.list("snapshot", resource_id=str(droplet["id"]))
        ],
        "image": catalog.image_body(droplet["image"]),
        "volume_ids": [volume["id"] for volume in store.list("volume") if droplet["id"] in volume["droplet_ids"]],
        "size": catalog.size_body(droplet["size"]),
        "size_slug": droplet["size"],
        "networks": _networks(cloud, droplet),
        "region": catalog.region_body(droplet["region"]),
        "tags": droplet["tags"],
        "vpc_uuid": droplet["vpc_uuid"],
    }


def _image(call: Call) -> str:
    wanted = call.body.get("image")
    for slug, image in catalog.IMAGES.items():
        if wanted in (slug, image.id, str(image.id)):
            return slug
    if call.store.get("image", str(wanted)) is not None:
        raise not_built("a Droplet made from a snapshot: it keeps the record of a snapshot, not the disk")
    raise invalid("You specified an invalid image for Droplet creation.")


def _authorized_keys(call: Call) -> list[str]:
    wanted = [str(item) for item in call.body.get("ssh_keys") or []]
    found = {ident: find_key(call, ident) for ident in wanted}
    if unknown := [ident for ident, key in found.items() if key is None]:
        raise invalid(f"{', '.join(unknown)} are invalid key identifiers for Droplet creation.")
    return [key["public_key"] for key in found.values() if key]


def _policy(given: Any) -> Record:
    policy = {**_DEFAULT_POLICY, **{name: value for name, value in (given or {}).items() if value is not None}}
    if policy["plan"] not in ("daily", "weekly") or policy["hour"] not in (0, 4, 8, 12, 16, 20):
        raise invalid("invalid backup policy")
    return policy | ({"retention_period_days": 7} if policy["plan"] == "daily" else {})


@operation("droplets_create")
def create_droplets(call: Call) -> Body:
    """Make one droplet (`name`) or several (`names`); they are `new` until their create action ends."""
    body = call.body
    names: list[Any] = body["names"] if isinstance(body.get("names"), list) else [body.get("name")]
    if not names or not all(isinstance(name, str) and len(name) <= 255 and _NAME.fullmatch(name) for name in names):
        raise invalid(_BAD_NAME)
    size = call.one_of("size", catalog.SIZES, "You specified an invalid size for Droplet creation.")
    image = _image(call)
    region = call.one_of(
        "region", catalog.REGIONS, "You specified an invalid region for Droplet creation.", default="nyc3"
    )
    if body.get("ipv6"):
        raise not_built("IPv6 of Droplets")
    if body.get("public_networking") is False:
        raise not_built("Droplets without a public address")
    keys = _authorized_keys(call)
    if len(call.store.list("droplet")) + len(names) > DROPLET_LIMIT:
        raise invalid("creating this/these droplet(s) will exceed your droplet limit")
    volumes = call.texts("volumes")
    if any(call.store.get("volume", volume) is None for volume in volumes):
        raise invalid("volume not found")
    tags = ensure_tags(call, call.texts("tags"))
    vpc = vpc_for(call, body.get("vpc_uuid"), region)
    made: list[Record] = []
    links: list[Body] = []
    for name in names:
        number = call.store.next_number("droplet", 452_100_001)
        droplet: Record = {
            "id": number,
            "name": name,
            "region": region,
            "size": size,
            "disk": catalog.SIZES[size].disk,
            "image": image,
            "vpc_uuid": vpc["id"],
            "public_ip": free_public_ip(call.cloud),
            "private_ip": free_private_ip(call.store, vpc),
            "status": "new",
            "deleting": False,
            "created_at": now(),
            "tags": tags,
            "authorized_keys": keys,
            "user_data": body.get("user_data"),
            "backup_policy": _policy(body.get("backup_policy")) if body.get("backups") else None,
            "monitoring": bool(body.get("monitoring")),
            "agent": body.get("with_droplet_agent") is not False,
        }
        made.append(call.store.put("droplet", number, droplet))
        for volume in volumes:
            record = call.store.get("volume", volume) or {}
            call.store.put("volume", volume, {**record, "droplet_ids": [number]})
        call.cloud.touch_membership(wait=False)
        links.append(actions.link(call.cloud, _begin(call.cloud, droplet, "create"), "create"))
    bodies = [droplet_body(call.cloud, droplet) for droplet in made]
    shown: Body = {"droplets": bodies} if isinstance(body.get("names"), list) else {"droplet": bodies[0]}
    return {**shown, "links": {"actions": links}}


def _begin(cloud: Cloud, droplet: Record, kind: str, **details: Any) -> Record:
    number: int = droplet["id"]
    cloud.touch(f"droplet:{number}", wait=False)
    return actions.begin(
        cloud,
        kind,
        resource_type="droplet",
        resource_id=number,
        region=droplet["region"],
        droplet_id=number,
        **details,
    )


@operation("droplets_list")
def list_droplets(call: Call) -> Body:
    """List the droplets, of a tag or a name if asked."""
    droplets = call.store.list("droplet")
    if tag := call.query.get("tag_name"):
        droplets = [droplet for droplet in droplets if tag in droplet["tags"]]
    if name := call.query.get("name"):
        droplets = [droplet for droplet in droplets if droplet["name"].lower() == name.lower()]
    if call.query.get("type") == "gpus":
        droplets = []
    return call.page("droplets", droplets, lambda droplet: droplet_body(call.cloud, droplet))


@operation("droplets_get")
def get_droplet(call: Call) -> Body:
    """Return one droplet; it stays until its machine is gone."""
    return {"droplet": droplet_body(call.cloud, find_droplet(call))}


def _destroy(call: Call, droplet: Record) -> None:
    number: int = droplet["id"]
    # A droplet that never became active has to look like one that can vanish: clients wait for `active` or `off` to end.
    call.store.put("droplet", number, {**droplet, "deleting": True, "status": droplet["status"].replace("new", "active")})
    for record in call.store.list("reserved_ip", droplet_id=number):
        call.store.put("reserved_ip", record["ip"], {**record, "droplet_id": None, "locked": False})
    for volume in call.store.list("volume"):
        if number in volume["droplet_ids"]:
            call.store.put("volume", volume["id"], {**volume, "droplet_ids": []})
    for firewall in call.store.list("firewall"):
        if number in firewall["droplet_ids"]:
            ids = [ident for ident in firewall["droplet_ids"] if ident != number]
            call.store.put("firewall", firewall["id"], {**firewall, "droplet_ids": ids})
    for action in actions.pending(call.store, number):
        actions.finish(call.store, action, "errored")
    forget_urn(call.store, f"do:droplet:{number}")
    call.cloud.touch(f"droplet:{number}", wait=False)
    call.cloud.touch_membership(wait=False)


@operation("droplets_destroy")
def destroy_droplet(call: Call) -> None:
    """Destroy a droplet: 204 at once, 404 once its machine is gone."""
    _destroy(call, find_droplet(call))


@operation("droplets_destroy_byTag")
def destroy_by_tag(call: Call) -> None:
    """Destroy every droplet of a tag."""
    tag = call.query.get("tag_name")
    if not tag:
        raise invalid("tag_name is required")
    for droplet in call.store.list("droplet"):
        if tag in droplet["tags"]:
            _destroy(call, droplet)


@operation("dropletActions_list")
def list_droplet_actions(call: Call) -> Body:
    """List the actions of a droplet, newest first; those of its reserved IPs count, they take its turn."""
    droplet = find_droplet(call)
    found = call.store.list("action", droplet_id=droplet["id"])[::-1]
    return call.page("actions", found, actions.action_body)


@operation("dropletActions_get")
def get_droplet_action(call: Call) -> Body:
    """Return one action of a droplet."""
    return actions.one_of_resource(call, "droplet", str(find_droplet(call)["id"]))


def _start_action(call: Call, droplet: Record) -> Record:
    kind = call.text("type")
    if kind in _NOT_BUILT:
        raise not_built(f"the droplet action {kind}")
    details: Record = {}
    match kind:
        case "resize":
            size = call.one_of("size", catalog.SIZES, "You specified an invalid size.")
            if size == droplet["size"]:
                raise invalid("Droplet is already this size.")
            if catalog.SIZES[size].disk < droplet["disk"]:
                raise invalid("This size is not available because it has a smaller disk.")
            if droplet["status"] != "off":
                raise invalid("Droplet is currently running. Please power it off to run this event.")
            details = {"size": size, "disk": bool(call.body.get("disk"))}
        case "rename":
            details = {"name": call.text("name", pattern=_NAME.pattern, message=_BAD_NAME)}
        case "enable_backups" | "change_backup_policy":
            details = {"backup_policy": _policy(call.body.get("backup_policy"))}
        case "snapshot":
            details = {"name": call.body.get("name") or f"{droplet['name']}-{now()}"}
        case "power_off" | "shutdown" if droplet["status"] == "off":
            raise invalid("Droplet is already powered off.")
        case "power_on" if droplet["status"] == "active":
            raise invalid("Droplet is already powered on.")
        case "disable_backups" | "enable_private_networking" | "power_on" | "power_off":
            pass
        case "shutdown" | "reboot" | "power_cycle":
            pass
        case _:
            raise invalid("You specified an invalid action type.")
    return _begin(call.cloud, droplet, kind, **details)


@operation("dropletActions_post")
def post_droplet_action(call: Call) -> Body:
    """Start an action of one droplet."""
    return {"action": actions.action_body(_start_action(call, find_droplet(call)))}


@operation("dropletActions_post_byTag")
def post_actions_by_tag(call: Call) -> Body:
    """Start the same action on every droplet of a tag."""
    tag = call.query.get("tag_name")
    droplets = [droplet for droplet in call.store.list("droplet") if tag in droplet["tags"]]
    return {"actions": [actions.action_body(_start_action(call, droplet)) for droplet in droplets]}


@job("droplet")
def converge_droplet(cloud: Cloud, ident: str) -> None:
    """Do what is pending for a droplet, oldest first; or remove it."""
    droplet = cloud.store.get("droplet", ident)
    while droplet is not None and not droplet["deleting"]:
        waiting = actions.pending(cloud.store, droplet["id"])
        if not waiting:
            return
        _perform(cloud, droplet, waiting[0])
        droplet = cloud.store.get("droplet", ident)
    if droplet is not None:
        cloud.parts.delete_droplet(droplet["id"])
        with cloud.change():
            cloud.store.delete("droplet", ident)
            cloud.applied.pop(f"firewall:{ident}", None)


def _perform(cloud: Cloud, droplet: Record, action: Record) -> None:
    """Let the part do one action, then note in one commit that it is done and what it changed."""
    kind: str = action["type"]
    after = {**droplet}
    if kind == "create":
        after["status"] = "active"
    elif kind in _POWER:
        after["status"] = _POWER[kind]
    elif kind == "resize":
        after["size"] = action["details"]["size"]
        if action["details"]["disk"]:
            after["disk"] = catalog.SIZES[after["size"]].disk
    elif kind in {"rename", "enable_backups", "change_backup_policy"}:
        after |= action["details"]
    elif kind == "disable_backups":
        after["backup_policy"] = None
    outcome = "completed"
    try:
        _use_part(cloud, kind, after, action["details"])
    except PartError as error:
        cloud.jobs.problems[f"action:{action['id']}"] = str(error)
        outcome, after = "errored", droplet
    with cloud.change():
        current = cloud.store.get("droplet", droplet["id"])
        fresh = cloud.store.get("action", action["id"])
        if current is None or current["deleting"] or fresh is None:
            return
        # Only what this action changed: tags may have changed meanwhile.
        changed = {name: value for name, value in after.items() if value != droplet.get(name)}
        cloud.store.put("droplet", droplet["id"], {**current, **changed})
        if kind == "snapshot":
            _keep_snapshot(cloud, current, fresh)
        if record := cloud.store.get("reserved_ip", fresh["resource"]):
            cloud.store.put("reserved_ip", record["ip"], {**record, "locked": False})
        actions.finish(cloud.store, fresh, outcome)
        cloud.touch("firewalls", wait=False)


def _use_part(cloud: Cloud, kind: str, droplet: Record, details: Record) -> None:
    with cloud.store.transaction():
        spec = droplet_spec(cloud.store, droplet)
        rules = firewall_rules(cloud.store, droplet)
        before = cloud.store.get("droplet", details.get("moved_from") or "")
        previous = droplet_spec(cloud.store, before) if before else None
    if kind == "create":
        cloud.parts.create_vpc(spec.vpc)  # a default VPC may be as new as its first droplet
        cloud.parts.create_droplet(spec)
        # Closed before it is called active: a droplet that is born under a firewall is never seen without it.
        cloud.parts.set_firewall(spec, rules)
        cloud.applied[f"firewall:{spec.id}"] = rules
    elif kind in _POWER:
        cloud.parts.power(spec, kind)
    elif kind == "resize":
        cloud.parts.resize_droplet(spec)
    elif kind in {"assign_ip", "unassign_ip"}:
        for holder in filter(None, (previous, spec)):
            cloud.parts.set_reserved_ips(holder)


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
    """Give every running droplet the union of its firewalls, where it changed."""
    with cloud.store.transaction():
        wanted = [
            (droplet_spec(cloud.store, droplet), firewall_rules(cloud.store, droplet))
            for droplet in cloud.store.list("droplet", deleting=False)
            if droplet["status"] != "new"
        ]
    for spec, rules in wanted:
        key = f"firewall:{spec.id}"
        if key not in cloud.applied or cloud.applied[key] != rules:
            cloud.applied.pop(key, None)
            cloud.parts.set_firewall(spec, rules)
            cloud.applied[key] = rules
    with cloud.change():
        for firewall in cloud.store.list("firewall"):
            if firewall["status"] == "waiting":
                cloud.store.put("firewall", firewall["id"], {**firewall, "status": "succeeded", "pending_changes": []})
