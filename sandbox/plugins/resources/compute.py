"""Droplets."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from sandbox.plugins.errors import ProviderError, unfinished
from sandbox.plugins.fields import filled, ordered
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.common import (
    BACKUP_POLICY,
    finish_action,
    name,
    region,
    set_tags,
    shown,
    tag_list,
    tags,
    unless_empty,
)
from sandbox.plugins.rest import RestError
from sandbox.plugins.schema import how
from sandbox.plugins.values import Values


def _digest(text: str) -> str:
    """Say what the state keeps of user data, which may hold a secret: its SHA-1."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _number_or_text(value: str) -> int | str:
    return int(value) if value.isascii() and value.isdigit() else value


def _policy(value: Values) -> Values:
    return unless_empty(plan=value.get("plan"), weekday=value.get("weekday")) | {"hour": value.get("hour") or 0}


def _create(cloud: Cloud, new: Values) -> Made:
    body: Values = {
        "name": new["name"],
        "region": new.get("region", ""),
        "size": new["size"],
        "image": _number_or_text(new["image"]),
        "ssh_keys": [_number_or_text(key) for key in ordered(new.get("sshKeys") or [])],
        "backups": bool(new.get("backups")),
        "ipv6": bool(new.get("ipv6")),
        "private_networking": bool(new.get("privateNetworking")),
        "monitoring": bool(new.get("monitoring")),
        "tags": tag_list(new),
    }
    if not body["ssh_keys"]:
        body["ssh_keys"] = None
    body |= unless_empty(
        user_data=new.get("userData"),
        volumes=[{"id": volume} for volume in ordered(new.get("volumeIds") or []) if volume],
        vpc_uuid=new.get("vpcUuid"),
    )
    if new.get("dropletAgent") is not None:
        body["with_droplet_agent"] = new["dropletAgent"]
    if new.get("backupPolicy"):
        body["backup_policy"] = _policy(new["backupPolicy"])
    if new.get("publicNetworking") is False:
        body["public_networking"] = False
    id_ = str(cloud.rest.post("/v2/droplets", body)["droplet"]["id"])
    with unfinished(id_):
        return Made(id_, _wait(cloud, id_, "status", "active"))


def _wait(cloud: Cloud, id_: str, key: str, wanted: Any, *, action: Values | None = None) -> Values:
    """Wait until the droplet is unlocked and says so; returns its state.

    A droplet that is not there will not come: the sandbox shows it from the answer to its creation on. Nor will what
    `action` was to bring, once that has failed.
    """
    seen: Values = {}

    def done() -> bool:
        droplet = cloud.rest.find(f"/v2/droplets/{id_}", "droplet")
        if droplet is None:
            raise ProviderError(f"droplet {id_}: not found, it was removed meanwhile")
        seen.update(_state(droplet))
        if not seen["locked"] and seen.get(key) == wanted:
            return True
        if action and cloud.rest.get(f"/v2/actions/{action['id']}")["action"]["status"] == "errored":
            raise ProviderError(f"droplet {id_}: action {action['id']} ({action['type']}) ended in an error")
        return False

    cloud.wait(f"droplet {id_}: {key} {wanted}", 3600, done)
    return seen


def _read(cloud: Cloud, id_: str, _: Values) -> Values | None:
    droplet = cloud.rest.find(f"/v2/droplets/{id_}", "droplet")
    return None if droplet is None else _state(droplet)


def _address(droplet: Values, version: str, kind: str) -> str:
    networks = (droplet.get("networks") or {}).get(version) or []
    return next((network["ip_address"] for network in networks if network["type"] == kind), "")


def _state(droplet: Values) -> Values:
    public = _address(droplet, "v4", "public")
    features = droplet.get("features")
    size = droplet.get("size") or {}
    told: Values = {
        "name": droplet["name"],
        "dropletUrn": f"do:droplet:{droplet['id']}",
        "region": droplet["region"]["slug"],
        "size": droplet.get("size_slug") or size.get("slug"),
        "priceHourly": size.get("price_hourly"),
        "priceMonthly": size.get("price_monthly"),
        **shown(droplet, "disk", "vcpus", "memory", "status", "locked", "createdAt"),
        "vpcUuid": droplet.get("vpc_uuid"),
        "ipv4Address": public,
        "ipv4AddressPrivate": _address(droplet, "v4", "private"),
        "ipv6Address": _address(droplet, "v6", "public").lower(),
        "publicNetworking": public != "",
        "volumeIds": droplet.get("volume_ids") or [],
        "tags": droplet.get("tags") or [],
    }
    if features is not None:
        told |= {
            "backups": "backups" in features,
            "ipv6": "ipv6" in features,
            "privateNetworking": "private_networking" in features,
            "monitoring": "monitoring" in features,
        }
    return told


def _update(cloud: Cloud, change: Change) -> None:
    id_, new = change.id, change.new

    def act(kind: str, **more: Any) -> Values:
        return cloud.rest.post(f"/v2/droplets/{id_}/actions", {"type": kind, **more})["action"]

    seen: Values = {}
    if change.of("size"):
        seen = _resize(cloud, change, act)
    if change.of("name"):
        action = act("rename", name=new["name"])
        seen = _wait(cloud, id_, "name", new["name"], action=action)
    # After a wait the official provider takes what the API says for what is asked for. A size or a name that changes
    # in the same update so leaves backups, private networking and IPv6 as they are; the next preview shows it.
    new = new | {key: seen[key] for key in ("backups", "privateNetworking", "ipv6") if key in seen}
    _change_backups(cloud, replace(change, new=new), act)
    if change.of("privateNetworking") and new.get("privateNetworking"):
        _wait(cloud, id_, "privateNetworking", True, action=act("enable_private_networking"))
    if change.of("ipv6") and new.get("ipv6"):
        _wait(cloud, id_, "ipv6", True, action=act("enable_ipv6"))
    if change.of("tags"):
        set_tags(cloud, change, "droplet")
    if change.of("volumeIds"):
        _change_volumes(cloud, change)


def _change_backups(cloud: Cloud, change: Change, act: Any) -> None:
    id_, new = change.id, change.new
    policy = new.get("backupPolicy")
    if change.of("backups"):
        if new.get("backups"):
            more = {"backup_policy": _policy(policy)} if policy else {}
            finish_action(cloud, act("enable_backups", **more), f"droplet {id_}: backups")
        else:
            finish_action(cloud, act("disable_backups"), f"droplet {id_}: backups")
    if change.of("backupPolicy") and policy:
        action = act("change_backup_policy", backup_policy=_policy(policy))
        finish_action(cloud, action, f"droplet {id_}: backup policy")


def _change_volumes(cloud: Cloud, change: Change) -> None:
    before, after = (set(side.get("volumeIds") or []) for side in (change.old, change.new))
    for volume in sorted(after - before):
        _attach(cloud, volume, change.id, "attach")
    for volume in sorted(before - after):
        _attach(cloud, volume, change.id, "detach")


def _resize(cloud: Cloud, change: Change, act: Any) -> Values:
    id_, action = change.id, None
    try:
        action = act("power_off")
    except RestError as error:
        if "already powered off" not in error.said:
            raise
    _wait(cloud, id_, "status", "off", action=action)
    try:
        action = act("resize", size=change.new["size"], disk=bool(change.new.get("resizeDisk")))
        finish_action(cloud, action, f"droplet {id_}: resize")
    finally:
        # Also after a failure: what ran before should run again.
        seen = _wait(cloud, id_, "status", "active", action=act("power_on"))
    return seen


def _attach(cloud: Cloud, volume: str, droplet: str, kind: str) -> None:
    action = cloud.rest.post(f"/v2/volumes/{volume}/actions", {"type": kind, "droplet_id": int(droplet)})["action"]
    finish_action(cloud, action, f"volume {volume}: {kind}")


def _delete(cloud: Cloud, id_: str, known: Values) -> None:
    now: Values = {}

    def free() -> bool:
        answer = cloud.rest.find(f"/v2/droplets/{id_}")
        now.clear()
        now.update({"gone": True} if answer is None else _state(answer["droplet"]))
        return bool(now.get("gone")) or not now["locked"]

    cloud.wait(f"droplet {id_}: unlocked", 60, free)
    if now.get("gone"):
        return
    if known.get("gracefulShutdown"):
        action = cloud.rest.post(f"/v2/droplets/{id_}/actions", {"type": "shutdown"})["action"]
        _wait(cloud, id_, "status", "off", action=action)
    for volume in now["volumeIds"]:
        _attach(cloud, volume, id_, "detach")
    try:
        cloud.rest.delete(f"/v2/droplets/{id_}")
    except RestError as error:
        if error.status != 404:
            raise
        return
    cloud.wait(f"droplet {id_}: gone", 60, lambda: cloud.rest.find(f"/v2/droplets/{id_}") is None)


def _find(cloud: Cloud, id_: str) -> tuple[str, Values]:
    droplet = cloud.rest.find(f"/v2/droplets/{id_}", "droplet")
    if droplet is None:
        raise ProviderError(
            f"droplet {id_}: not found; import needs the number that `doctl compute droplet list` shows"
        )
    image = droplet["image"]
    return id_, {"image": image.get("slug") or str(image["id"]), "resizeDisk": True}


def _check(new: Values) -> list[tuple[str, str]]:
    if new.get("backupPolicy") and not new.get("backups"):
        return [("backupPolicy", "can only be set when backups is true")]
    return []


DROPLET = Resource(
    name="Droplet",
    properties={
        "image": how(replace=True, check=filled),
        "name": name(),
        "region": region(computed=True, replace=True, check=filled),
        "size": how(check=filled, stored=str.lower),
        "gracefulShutdown": how(default=False),
        "resizeDisk": how(default=True),
        "backups": how(default=False),
        "backupPolicy": BACKUP_POLICY,
        "ipv6": how(default=False),
        "ipv6Address": how(computed=True),
        "privateNetworking": how(computed=True),
        "publicNetworking": how(computed=True, replace=True),
        "sshKeys": how(unordered=True, replace=True, item=how(check=filled)),
        "userData": how(replace=True, check=filled, stored=_digest),
        "volumeIds": how(unordered=True, computed=True),
        "monitoring": how(default=False, replace=True),
        "dropletAgent": how(replace=True),
        "tags": tags(),
        "gpuPartitionMode": how(left_out=True),
        "vpcUuid": how(computed=True, replace=True, check=filled),
    },
    create=_create,
    read=_read,
    update=_update,
    delete=_delete,
    find=_find,
    check=_check,
    replaced_by=lambda old, new: {"ipv6"} if old.get("ipv6") and new.get("ipv6") is False else set(),
    created_is_read=True,
)

RESOURCES = (DROPLET,)
