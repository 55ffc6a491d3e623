"""Block storage."""

from __future__ import annotations

from sandbox.plugins.errors import ProviderError
from sandbox.plugins.fields import between, filled, integer, one_of, set_of, string, tags
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.common import Endpoint, finish_action, region, retried, set_tags, tag_list, unique_id
from sandbox.plugins.rest import RestError
from sandbox.plugins.values import Values

_FILESYSTEM = one_of("ext4", "xfs")


def _body(new: Values) -> Values:
    return {
        "region": new["region"].lower(),
        "name": new["name"],
        "description": new.get("description") or "",
        "size_gigabytes": new["size"],
        "snapshot_id": new.get("snapshotId") or "",
        "filesystem_type": new.get("initialFilesystemType") or new.get("filesystemType") or "",
        "filesystem_label": new.get("initialFilesystemLabel") or "",
        "tags": tag_list(new),
    }


def _state(volume: Values) -> Values:
    told: Values = {
        "name": volume["name"],
        "region": volume["region"]["slug"],
        "size": volume["size_gigabytes"],
        "volumeUrn": f"do:volume:{volume['id']}",
        "tags": volume.get("tags") or [],
        "dropletIds": volume.get("droplet_ids") or [],
    }
    for key, wire in (
        ("description", "description"),
        ("filesystemType", "filesystem_type"),
        ("filesystemLabel", "filesystem_label"),
    ):
        if volume.get(wire):
            told[key] = volume[wire]
    return told


def _update(cloud: Cloud, change: Change) -> None:
    if change.of("size"):
        if change.new["size"] < change.old["size"]:
            raise ProviderError(f"volume {change.id}: its size can only grow ({change.old['size']} GiB now)")
        body = {"type": "resize", "size_gigabytes": change.new["size"], "region": change.new["region"].lower()}
        action = cloud.rest.post(f"/v2/volumes/{change.id}/actions", body)["action"]
        finish_action(cloud, action, f"volume {change.id}: resize")
    if change.of("tags"):
        set_tags(cloud, change, "volume")


_VOLUMES = Endpoint("/v2/volumes", "volume", _state, _body)
VOLUME = Resource(
    name="Volume",
    fields={
        "region": region(required=True, replace=True),
        "name": string(autoname=True, replace=True, check=filled),
        "size": integer(required=True, check=between(1, 2**31)),
        "description": string(replace=True, check=filled),
        "snapshotId": string(replace=True, check=filled),
        "initialFilesystemType": string(replace=True, check=_FILESYSTEM),
        "initialFilesystemLabel": string(replace=True, check=filled),
        "filesystemType": string(computed=True, check=_FILESYSTEM),
        "tags": tags(),
        "dropletIds": set_of(integer(), output_only=True),
        "filesystemLabel": string(output_only=True),
        "volumeUrn": string(output_only=True),
    },
    create=_VOLUMES.create,
    read=_VOLUMES.read,
    update=_update,
    delete=_VOLUMES.delete,
)


def _act(cloud: Cloud, known: Values, kind: str) -> None:
    """Only one action runs on a droplet at a time: a refusal for that reason is tried again."""
    volume, droplet = known["volumeId"], known["dropletId"]

    def busy(error: RestError) -> bool:
        return error.status == 422 and "droplet already has a pending event" in error.said.lower()

    body = {"type": kind, "droplet_id": droplet}
    answer = retried(
        cloud,
        300,
        f"volume {volume}: {kind}",
        lambda: cloud.rest.post(f"/v2/volumes/{volume}/actions", body),
        again=busy,
    )
    finish_action(cloud, answer["action"], f"volume {volume}: {kind}")


def _create_attachment(cloud: Cloud, new: Values) -> Made:
    attached = cloud.rest.get(f"/v2/volumes/{new['volumeId']}")["volume"].get("droplet_ids") or []
    if attached[:1] != [new["dropletId"]]:
        _act(cloud, new, "attach")
    return Made(unique_id(f"{new['dropletId']}-{new['volumeId']}-"))


def _read_attachment(cloud: Cloud, _: str, known: Values) -> Values | None:
    answer = cloud.rest.find(f"/v2/volumes/{known['volumeId']}")
    attached = ((answer or {}).get("volume") or {}).get("droplet_ids") or []
    return {} if attached[:1] == [known["dropletId"]] else None


ATTACHMENT = Resource(
    name="VolumeAttachment",
    fields={
        "dropletId": integer(required=True, replace=True, check=filled),
        "volumeId": string(required=True, replace=True, check=filled),
    },
    create=_create_attachment,
    read=_read_attachment,
    delete=lambda cloud, _, known: _act(cloud, known, "detach"),
)

RESOURCES = (VOLUME, ATTACHMENT)
