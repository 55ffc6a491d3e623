"""Droplets: made, shown, destroyed."""

from __future__ import annotations

import ipaddress
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sandbox import catalog
from sandbox.api import actions
from sandbox.api.account import DROPLET_LIMIT, find_key
from sandbox.api.context import ApiError, Body, Call, Cloud, invalid, list_of, not_built, now, operation, pick
from sandbox.api.kinds import BY_TAG, KINDS, Kind, forget_urn, serve_none, touch_membership
from sandbox.api.tags import ensure_tags
from sandbox.api.vpcs import free_private_ip, free_public_ip, vpc_for
from sandbox.store import Record

NAME = re.compile(r"[a-zA-Z0-9]?[a-zA-Z0-9.\-]*[a-zA-Z0-9]")
BAD_NAME = "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)"
_DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_BACKUP_HOURS = (0, 4, 8, 12, 16, 20)
# How long the reason of a failed creation is shown: official clients poll every 5 or 10 seconds.
FAILURE_SHOWN = 30.0
_DEFAULT_POLICY = {"plan": "weekly", "weekday": "SUN", "hour": 0}


def release_droplet(cloud: Cloud, droplet: Record, reason: str = "") -> None:
    """Take a droplet out of everything that names it: reserved IPs, volumes, firewalls and its project."""
    number: int = droplet["id"]
    for record in cloud.store.list("reserved_ip", droplet_id=number):
        cloud.store.put("reserved_ip", record["ip"], {**record, "droplet_id": None, "locked": False})
    for kind in KINDS.values():
        for record in cloud.store.list(kind.name) if kind.lists_droplets else ():
            if number in record["droplet_ids"]:
                ids = [ident for ident in record["droplet_ids"] if ident != number]
                cloud.store.put(kind.name, record[kind.id], {**record, "droplet_ids": ids})
    for action in actions.pending(cloud.store, number):
        actions.finish(cloud.store, action, "errored", reason)
    forget_urn(cloud.store, DROPLET.urn_of(droplet))


def fail_droplet(cloud: Cloud, droplet: Record, reason: str) -> None:
    """Remove the record of a droplet that could not be made; whoever asks for it in the next time is given the reason.

    Not 404 at once: the official provider takes that for a droplet that is not there yet and asks 120 times.
    """
    release_droplet(cloud, droplet, reason)
    cloud.store.delete("droplet", droplet["id"])
    failed = {"name": droplet["name"], "reason": reason, "until": time.time() + FAILURE_SHOWN}
    cloud.store.put("failed_droplet", droplet["id"], failed)
    for ident, record in cloud.store.items("failed_droplet"):
        if record["until"] < time.time():
            cloud.store.delete("failed_droplet", ident)


def _backup_window(droplet: Record) -> Body | None:
    policy: Record | None = droplet["backup_policy"]
    if policy is None:
        return None
    today = datetime.now(UTC).replace(hour=policy["hour"], minute=0, second=0, microsecond=0)
    ahead = 1 if policy["plan"] == "daily" else (_DAYS.index(policy["weekday"]) - today.weekday() - 1) % 7 + 1
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
        **pick(droplet, "id", "name", "disk", "status", "created_at", "tags", "vpc_uuid"),
        "memory": size.memory,
        "vcpus": size.vcpus,
        "disk_info": [{"type": "local", "size": {"amount": droplet["disk"], "unit": "gib"}}],
        "locked": busy,
        "kernel": None,
        "features": _features(droplet),
        "backup_ids": [],
        "next_backup_window": _backup_window(droplet),
        "snapshot_ids": [int(record["id"]) for record in store.list("snapshot", resource_id=str(droplet["id"]))],
        "image": catalog.image_body(droplet["image"]),
        "volume_ids": [volume["id"] for volume in store.list("volume") if droplet["id"] in volume["droplet_ids"]],
        "size": catalog.size_body(droplet["size"]),
        "size_slug": droplet["size"],
        "networks": _networks(cloud, droplet),
        "region": catalog.region_body(droplet["region"]),
    }


DROPLET = Kind(
    name="droplet",
    shown=lambda call, droplet: droplet_body(call.cloud, droplet),
    filters={
        **BY_TAG,
        "name": lambda droplet, name: droplet["name"].lower() == name.lower(),
        "type": lambda _, wanted: wanted != "gpus",
    },
    urn="droplet",
    label="name",
    has_public_ip=True,
    in_vpc=True,
    tagged_as="droplet",
    job="droplet:{id}",
    resumed=True,
    lists=("droplets_list",),
)


def _image(call: Call) -> str:
    wanted = call.body.get("image")
    for slug, image in catalog.IMAGES.items():
        if wanted in (slug, image.id, str(image.id)):
            return slug
    if call.store.get("image", str(wanted)) is not None:
        raise not_built("a Droplet made from a snapshot: it keeps the record of a snapshot, not the disk")
    raise invalid("You specified an invalid image for Droplet creation.")


def _region(call: Call) -> str:
    """Return the region asked for; without one, that of the VPC or the volumes asked for, or any."""
    region = call.body.get("region")
    if not region:
        vpc = call.store.get("vpc", str(call.body.get("vpc_uuid") or ""))
        return next((place["region"] for place in (vpc, *_volumes(call)) if place), "nyc3")
    if region not in tuple(catalog.REGIONS):  # it may be a value that has no hash
        raise invalid("You specified an invalid region for Droplet creation.")
    return region


def _volumes(call: Call) -> list[Record]:
    """Return the volumes to attach: by id as a text, or, as the official client writes them, by id or name."""
    found: list[Record] = []
    for given in list_of(object, call.body.get("volumes"), "volumes"):
        if given is None:
            continue
        wanted = cast("Record", given) if isinstance(given, dict) else {"id": given}
        key = "id" if wanted.get("id") else "name"
        volume = next((volume for volume in call.store.list("volume") if volume[key] == wanted.get(key)), None)
        if volume is None:
            raise invalid("volume not found")
        found.append(volume)
    return found


def _authorized_keys(call: Call) -> list[str]:
    wanted = [str(item) for item in list_of(object, call.body.get("ssh_keys"), "ssh_keys")]
    found = {ident: find_key(call, ident) for ident in wanted}
    if unknown := [ident for ident, key in found.items() if key is None]:
        raise invalid(f"{', '.join(unknown)} are invalid key identifiers for Droplet creation.")
    return [key["public_key"] for key in found.values() if key]


def backup_policy(given: Any) -> Record:
    """Complete and check a backup policy; daily ones are kept 7 days, weekly ones 28."""
    (chosen,) = list_of(dict, [given or {}], "backup_policy")
    policy = {**_DEFAULT_POLICY, **{name: value for name, value in chosen.items() if value not in (None, "")}}
    daily = policy["plan"] == "daily"
    if (
        policy["plan"] not in ("daily", "weekly")
        or policy["hour"] not in _BACKUP_HOURS
        or policy["weekday"] not in _DAYS
    ):
        raise invalid("invalid backup policy")
    if daily:
        del policy["weekday"]  # from weekly to daily the official provider sends it empty; the API shows none
    return policy | {"window_length_hours": 4, "retention_period_days": 7 if daily else 28}


@operation("droplets_create")
def create_droplets(call: Call) -> Body:
    """Make one droplet (`name`) or several (`names`); they are `new` until their create action ends."""
    body = call.body
    names: list[Any] = body["names"] if isinstance(body.get("names"), list) else [body.get("name")]
    if not names or not all(isinstance(name, str) and len(name) <= 255 and NAME.fullmatch(name) for name in names):
        raise invalid(BAD_NAME)
    size = call.one_of("size", catalog.SIZES, "You specified an invalid size for Droplet creation.")
    image = _image(call)
    region = _region(call)
    if body.get("ipv6"):
        raise not_built("IPv6 of Droplets")
    if body.get("public_networking") is False:
        raise not_built("Droplets without a public address")
    keys = _authorized_keys(call)
    if len(call.store.list("droplet")) + len(names) > DROPLET_LIMIT:
        raise invalid("creating this/these droplet(s) will exceed your droplet limit")
    volumes = _volumes(call)
    if any(volume["droplet_ids"] or volume["region"] != region for volume in volumes) or (volumes and len(names) > 1):
        raise invalid("A volume can be attached to one Droplet only, and to one of its own region.")
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
            "backup_policy": backup_policy(body.get("backup_policy")) if body.get("backups") else None,
            "monitoring": bool(body.get("monitoring")),
            "agent": body.get("with_droplet_agent") is not False,
        }
        made.append(call.store.put("droplet", number, droplet))
        for volume in volumes:
            call.store.put("volume", volume["id"], {**volume, "droplet_ids": [number]})
        touch_membership(call.cloud, wait=False)
        links.append(
            actions.link(
                call.cloud,
                actions.begin_droplet_action(call.cloud, droplet, "create", changes={"status": "active"}),
                "create",
            )
        )
    bodies = [droplet_body(call.cloud, droplet) for droplet in made]
    shown: Body = {"droplets": bodies} if isinstance(body.get("names"), list) else {"droplet": bodies[0]}
    return {**shown, "links": {"actions": links}}


@operation("droplets_get")
def get_droplet(call: Call) -> Body:
    """Return one droplet; it stays until its container is gone.

    Raises:
        ApiError: 422, its creation failed less than half a minute ago; 503, its machine cannot be removed (it is tried
            again all the time); 404.
    """
    failed = call.store.get("failed_droplet", call.params["droplet_id"])
    if failed and time.time() < failed["until"]:
        raise invalid(f"Droplet {failed['name']} could not be created: {failed['reason']}")
    droplet = DROPLET.find(call)
    if droplet["deleting"] and (reason := call.cloud.jobs.stuck(f"droplet:{droplet['id']}")):
        raise ApiError(503, f"Droplet {droplet['name']} is being destroyed and cannot be: {reason}")
    return {"droplet": droplet_body(call.cloud, droplet)}


def _destroy(call: Call, droplet: Record) -> None:
    number: int = droplet["id"]
    # Clients wait for `active` or `off` to end in 404; they know no way from `new` there.
    call.store.put(
        "droplet", number, {**droplet, "deleting": True, "status": droplet["status"].replace("new", "active")}
    )
    release_droplet(call.cloud, droplet)
    call.cloud.touch(f"droplet:{number}", wait=False)
    touch_membership(call.cloud, wait=False)


@operation("droplets_destroy")
def destroy_droplet(call: Call) -> None:
    """Destroy a droplet: 204 at once, 404 once its machine is gone."""
    _destroy(call, DROPLET.find(call))


@operation("droplets_destroy_byTag")
def destroy_by_tag(call: Call) -> None:
    """Destroy every droplet of a tag."""
    tag = call.query.get("tag_name")
    if not tag:
        raise invalid("tag_name is required")
    for droplet in call.store.list("droplet"):
        if tag in droplet["tags"]:
            _destroy(call, droplet)


# --- what there is to know of a droplet ------------------------------------------------------------------------------


@operation("droplets_list_neighbors")
def list_neighbors(call: Call) -> Body:
    """List the droplets on the same physical machine: all the others, this being one machine."""
    own = DROPLET.find(call)["id"]
    others = [droplet for droplet in call.store.list("droplet") if droplet["id"] != own]
    return {"droplets": [droplet_body(call.cloud, droplet) for droplet in others]}


serve_none(DROPLET, "droplets_list_kernels", "kernels")  # they boot their own
serve_none(DROPLET, "droplets_list_backups", "backups")


@operation("droplets_get_backup_policy")
def get_backup_policy(call: Call) -> Body:
    """Return when a droplet would be backed up."""
    droplet = DROPLET.find(call)
    policy: Body = {"droplet_id": droplet["id"], "backup_enabled": droplet["backup_policy"] is not None}
    if droplet["backup_policy"]:
        policy |= {"backup_policy": droplet["backup_policy"], "next_backup_window": _backup_window(droplet)}
    return {"policy": policy}


@operation("droplets_list_supported_backup_policies")
def list_supported_policies(_: Call) -> Body:
    """List the backup policies on offer."""
    common: Body = {"possible_window_starts": list(_BACKUP_HOURS), "window_length_hours": 4}
    return {
        "supported_policies": [
            {"name": "daily", **common, "retention_period_days": 7, "possible_days": []},
            {"name": "weekly", **common, "retention_period_days": 28, "possible_days": list(_DAYS)},
        ]
    }
