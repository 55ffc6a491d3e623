"""Volumes: kept, attached and detached as records. There is no disk behind them, and no device appears in a droplet."""

from __future__ import annotations

from sandbox import catalog
from sandbox.api import actions
from sandbox.api.context import (
    ApiError,
    Body,
    Call,
    Cloud,
    invalid,
    job,
    new_uuid,
    not_built,
    not_found,
    now,
    operation,
)
from sandbox.api.kinds import Kind, by
from sandbox.api.tags import ensure_tags
from sandbox.store import Record

_LARGEST = 16384  # GiB


def _body(_: Call, volume: Record) -> Body:
    return {**volume, "region": catalog.region_body(volume["region"])}


def _named(call: Call, name: str | None, region: str | None) -> Record:
    found = call.store.list("volume", name=name, region=region)
    if not found:
        raise not_found()
    return found[0]


def _must_be_detached(_: Call, volume: Record) -> None:
    if volume["droplet_ids"]:
        raise ApiError(409, "failed to delete volume: volume is attached to a Droplet")


VOLUME = Kind(
    name="volume",
    shown=_body,
    filters=by("name", "region"),
    urn="volume",
    label="name",
    tagged_as="volume",
    job="volume:{id}",
    resumed=True,
    lists_droplets=True,
    lists=("volumes_list",),
    reads=("volumes_get",),
    removes=("volumes_delete",),
    removing=_must_be_detached,
)


@operation("volumes_delete_byName")
def delete_volume_by_name(call: Call) -> None:
    """Remove the volume of a name in a region."""
    VOLUME.forget(call, _named(call, call.query.get("name"), call.query.get("region")))


@operation("volumes_create")
def create_volume(call: Call) -> Body:
    """Make a volume of `size_gigabytes` GiB."""
    name = call.text(
        "name",
        pattern=r"[a-z][a-z0-9-]{0,62}[a-z0-9]",
        message="name must be lowercase alphanumeric characters and dashes, starting with a letter",
    )
    if call.body.get("snapshot_id"):
        raise not_built("volumes made from a snapshot")
    region = call.one_of("region", catalog.REGIONS, "region is invalid")
    if call.store.list("volume", name=name, region=region):
        raise ApiError(409, "volume with the same name already exists")
    size = call.whole("size_gigabytes", 1, _LARGEST)
    volume: Record = {
        "id": new_uuid(),
        "name": name,
        "region": region,
        "size_gigabytes": size,
        "description": str(call.body.get("description") or ""),
        "droplet_ids": [],
        "tags": ensure_tags(call, call.texts("tags")),
        "filesystem_type": str(call.body.get("filesystem_type") or ""),
        "filesystem_label": str(call.body.get("filesystem_label") or ""),
        "created_at": now(),
    }
    return {"volume": _body(call, call.store.put("volume", volume["id"], volume))}


def _act(call: Call, volume: Record) -> Record:
    kind = call.one_of("type", ("attach", "detach", "resize"), "You specified an invalid action type.")
    turn: int | None = None
    if kind == "resize":
        larger = "size_gigabytes must be larger than the volume is"
        volume["size_gigabytes"] = call.whole("size_gigabytes", volume["size_gigabytes"] + 1, _LARGEST, larger)
        turn = volume["droplet_ids"][0] if volume["droplet_ids"] else None
    else:
        droplet = call.store.get("droplet", str(call.body.get("droplet_id")))
        if droplet is None or droplet["deleting"]:
            raise not_found()
        attached = volume["droplet_ids"] == [droplet["id"]]
        if kind == "attach" and (volume["droplet_ids"] or droplet["region"] != volume["region"]):
            raise invalid("The volume is attached already, or in another region.")
        if kind == "detach" and not attached:
            raise invalid("Attachment not found")
        turn = droplet["id"]
        volume["droplet_ids"] = [turn] if kind == "attach" else []
    names = {"attach": "attach_volume", "detach": "detach_volume", "resize": "resize"}
    action = actions.begin(
        call.cloud,
        names[kind],
        resource_type="volume",
        resource_id=None,
        region=volume["region"],
        droplet_id=turn,
        resource=volume["id"],
    )
    call.store.put("volume", volume["id"], volume)
    call.cloud.touch(f"volume:{volume['id']}" if turn is None else f"droplet:{turn}", wait=False)
    return action


@operation("volumeActions_post_byId")
def post_volume_action(call: Call) -> Body:
    """Attach, detach or grow a volume."""
    return {"action": actions.action_body(_act(call, VOLUME.find(call)))}


@operation("volumeActions_post")
def post_named_volume_action(call: Call) -> Body:
    """Attach or detach the volume of a name in a region."""
    volume = _named(call, call.body.get("volume_name"), call.body.get("region"))
    return {"action": actions.action_body(_act(call, volume))}


@operation("volumeActions_list")
def list_volume_actions(call: Call) -> Body:
    """List the actions of a volume, newest first."""
    return call.page("actions", actions.of_resource(call, "volume", VOLUME.find(call)["id"]), actions.action_body)


@operation("volumeActions_get")
def get_volume_action(call: Call) -> Body:
    """Return one action of a volume."""
    return actions.one_of_resource(call, "volume", VOLUME.find(call)["id"])


@operation("volumeSnapshots_list")
def list_volume_snapshots(call: Call) -> Body:
    """List the snapshots of a volume."""
    return call.page("snapshots", call.store.list("snapshot", resource_id=VOLUME.find(call)["id"]))


@operation("volumeSnapshots_create")
def create_volume_snapshot(call: Call) -> Body:
    """Note a snapshot of a volume."""
    volume = VOLUME.find(call)
    snapshot: Record = {
        "id": new_uuid(),
        "name": call.text("name", message="name is required"),
        "created_at": now(),
        "regions": [volume["region"]],
        "resource_id": volume["id"],
        "resource_type": "volume",
        "min_disk_size": volume["size_gigabytes"],
        "size_gigabytes": 0,
        "tags": ensure_tags(call, call.texts("tags")),
    }
    return {"snapshot": call.store.put("snapshot", snapshot["id"], snapshot)}


@job("volume")
def converge_volume(cloud: Cloud, ident: str) -> None:
    """Finish what was asked of a volume that no droplet has."""
    with cloud.change():
        for action in cloud.store.list("action", resource=ident, status="in-progress", droplet_id=None):
            actions.finish(cloud.store, action)
