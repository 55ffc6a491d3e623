"""Tags and what wears them. Firewalls and trusted sources follow tags."""

from __future__ import annotations

import re

from sandbox.api.context import Body, Call, invalid, not_found, operation
from sandbox.api.kinds import KINDS, Kind, touch_membership
from sandbox.store import Record

_NAME = re.compile(r"[a-zA-Z0-9_\-:]{1,255}")


def ensure_tags(call: Call, names: list[str]) -> list[str]:
    """Make the tags that do not exist yet, as creating a tagged resource does; return the names without repetition."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise invalid("Tag names may contain only letters, numbers, colons, dashes and underscores.")
        if call.store.get("tag", name) is None:
            call.store.put("tag", name, {"name": name})
    return list(dict.fromkeys(names))


def tag_body(call: Call, tag: Record) -> Body:
    """Return the `tag` object of the API; every count is there, clients read them all."""
    resources: Body = {"count": 0}
    for kind in KINDS.values():
        if kind.tagged_as:
            wearing = [
                record for record in kind.living(call.store) if tag["name"] in record["tags"] and kind.wears(record)
            ]
            entry: Body = {"count": len(wearing)}
            if wearing:
                entry["last_tagged_uri"] = kind.link_to(call, wearing[-1])
                resources["last_tagged_uri"] = entry["last_tagged_uri"]
            resources[f"{kind.tagged_as}s"] = entry
            resources["count"] += len(wearing)
    return {"name": tag["name"], "resources": resources}


def _take_off(call: Call, tag: Record) -> None:
    """Take a tag off everything that wears it, and out of the firewalls that name it."""
    name = tag["name"]
    for kind in KINDS.values():
        for record in call.store.list(kind.name) if kind.tagged_as or kind.name == "firewall" else ():
            if name in record["tags"]:
                tags = [other for other in record["tags"] if other != name]
                call.store.put(kind.name, record["id"], {**record, "tags": tags})
    touch_membership(call.cloud)


TAG = Kind(
    name="tag",
    id="name",
    shown=tag_body,
    label="name",
    lists=("tags_list",),
    reads=("tags_get",),
    removes=("tags_delete",),
    removing=_take_off,
)


@operation("tags_create")
def create_tag(call: Call) -> Body:
    """Make a tag; making it again is no error."""
    name = call.text("name", message="Name can't be blank")
    ensure_tags(call, [name])
    return {"tag": tag_body(call, {"name": name})}


@operation("tags_assign_resources", "tags_unassign_resources")
def change_tagged(call: Call) -> None:
    """Put a tag on resources, or take it off."""
    name = TAG.find(call)["name"]
    kinds = {kind.tagged_as: kind.name for kind in KINDS.values() if kind.tagged_as}
    for resource in call.objects("resources"):
        kind = kinds.get(str(resource.get("resource_type")))
        if kind is None:
            raise invalid("resource_type is invalid")
        record = call.store.get(kind, str(resource.get("resource_id")))
        if record is None:
            raise not_found()
        tags = [tag for tag in record["tags"] if tag != name]
        if call.operation.method == "POST":
            tags.append(name)
        call.store.put(kind, record["id"], {**record, "tags": tags})
    touch_membership(call.cloud)
