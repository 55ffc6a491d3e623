"""Block storage."""

from __future__ import annotations

from sandbox.plugins.errors import ProviderError
from sandbox.plugins.fields import between, filled, one_of
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.common import (
    Endpoint,
    camelled,
    finish_action,
    region,
    retried,
    set_tags,
    tag_list,
    tags,
    unique_id,
)
from sandbox.plugins.rest import RestError
from sandbox.plugins.schema import how
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
    # An empty text is none: the state keeps a file system that was asked for.
    told = {key: value for key, value in camelled(volume).items() if value != ""}
    urn = f"do:volume:{volume['id']}"
    return {**told, "region": volume["region"]["slug"], "size": volume["size_gigabytes"], "volumeUrn": urn}


def _update(cloud: Cloud, change: Change) -> None:
    if change.of("size"):
        if change.new["size"] < change.old["size"]:
            raise ProviderError(f"volume {change.id}: its size can only grow ({change.old['size']} GiB now)")
        body = {"type": "resize", "size_gigabytes": change.new["size"], "region": change.new["region"].lower()}
        action = cloud.rest.post(f"/v2/volumes/{change.id}/actions", body)["action"]
        finish_action(cloud, action, f"volume {change.id}: resize")
    if change.of("tags"):
        set_tags(cloud, change, "volume")


VOLUME = Endpoint("/v2/volumes", "volume", _body, _state).resource(
    "Volume",
    {
        "region": region(replace=True),
        "name": how(autoname=True, replace=True, check=filled),
        "size": how(check=between(1, 2**31)),
        "description": how(replace=True, check=filled),
        "snapshotId": how(replace=True, check=filled),
        "initialFilesystemType": how(replace=True, check=_FILESYSTEM),
        "initialFilesystemLabel": how(replace=True, check=filled),
        "filesystemType": how(computed=True, check=_FILESYSTEM),
        "tags": tags(),
        "dropletIds": how(unordered=True),
    },
    update=_update,
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
    properties={"dropletId": how(replace=True, check=filled), "volumeId": how(replace=True, check=filled)},
    create=_create_attachment,
    read=_read_attachment,
    delete=lambda cloud, _, known: _act(cloud, known, "detach"),
)

RESOURCES = (VOLUME, ATTACHMENT)
