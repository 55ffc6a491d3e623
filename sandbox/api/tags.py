"""Tags and what wears them. Firewalls and trusted sources follow tags."""

from __future__ import annotations

import re

from sandbox.api.context import Body, Call, Cloud, invalid, not_found, operation
from sandbox.store import Record

_NAME = re.compile(r"[a-zA-Z0-9_\-:]{1,255}")

# resource_type of the API → (plural shown in a tag, kind in the store)
_KINDS = {
    "droplet": ("droplets", "droplet"),
    "image": ("images", "image"),
    "volume": ("volumes", "volume"),
    "volume_snapshot": ("volume_snapshots", "snapshot"),
    "database": ("databases", "database"),
}
_PATHS = {"volume_snapshots": "snapshots"}


def ensure_tags(call: Call, names: list[str]) -> list[str]:
    """Make the tags that do not exist yet, as creating a tagged resource does; return the names without repetition."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise invalid("Tag names may contain only letters, numbers, colons, dashes and underscores.")
        if call.store.get("tag", name) is None:
            call.store.put("tag", name, {"name": name})
    return list(dict.fromkeys(names))


def _wearing(cloud: Cloud, kind: str, tag: str) -> list[Record]:
    records = [record for record in cloud.store.list(kind) if tag in record["tags"] and not record.get("deleting")]
    # Droplet snapshots are images too; only those of volumes count as volume snapshots.
    return [record for record in records if kind != "snapshot" or record["resource_type"] == "volume"]


def tag_body(cloud: Cloud, tag: Record) -> Body:
    """Return the `tag` object of the API; every count is there, clients read them all."""
    resources: Body = {"count": 0}
    for plural, kind in _KINDS.values():
        wearing = _wearing(cloud, kind, tag["name"])
        entry: Body = {"count": len(wearing)}
        if wearing:
            entry["last_tagged_uri"] = f"{cloud.base_url}/v2/{_PATHS.get(plural, plural)}/{wearing[-1]['id']}"
            resources["last_tagged_uri"] = entry["last_tagged_uri"]
        resources[plural] = entry
        resources["count"] += len(wearing)
    return {"name": tag["name"], "resources": resources}


def _tag(call: Call) -> Record:
    tag = call.store.get("tag", call.params["tag_id"])
    if tag is None:
        raise not_found()
    return tag


@operation("tags_list")
def list_tags(call: Call) -> Body:
    """List the tags."""
    return call.page("tags", call.store.list("tag"), lambda tag: tag_body(call.cloud, tag))


@operation("tags_create")
def create_tag(call: Call) -> Body:
    """Make a tag; making it again is no error."""
    name = call.text("name", message="Name can't be blank")
    ensure_tags(call, [name])
    return {"tag": tag_body(call.cloud, {"name": name})}


@operation("tags_get")
def get_tag(call: Call) -> Body:
    """Return one tag with its counts."""
    return {"tag": tag_body(call.cloud, _tag(call))}


@operation("tags_delete")
def delete_tag(call: Call) -> None:
    """Remove a tag from everything that wears it, firewalls included."""
    name = _tag(call)["name"]
    for kind in ("droplet", "image", "volume", "snapshot", "database", "firewall"):
        for record in call.store.list(kind):
            if name in record["tags"]:
                call.store.put(kind, record["id"], {**record, "tags": [tag for tag in record["tags"] if tag != name]})
    call.store.delete("tag", name)
    call.cloud.touch_membership()


@operation("tags_assign_resources", "tags_unassign_resources")
def change_tagged(call: Call) -> None:
    """Put a tag on resources, or take it off."""
    name = _tag(call)["name"]
    for resource in call.objects("resources"):
        kind = _KINDS.get(str(resource.get("resource_type")))
        if kind is None:
            raise invalid("resource_type is invalid")
        record = call.store.get(kind[1], str(resource.get("resource_id")))
        if record is None:
            raise not_found()
        tags = [tag for tag in record["tags"] if tag != name]
        if call.operation.method == "POST":
            tags.append(name)
        call.store.put(kind[1], record["id"], {**record, "tags": tags})
    call.cloud.touch_membership()
