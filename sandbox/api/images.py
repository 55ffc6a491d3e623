"""Images and snapshots. A snapshot is a record here: its disk is not kept, and nothing can be made from it."""

from __future__ import annotations

from sandbox import catalog
from sandbox.api.context import Body, Call, invalid, not_built, not_found, operation
from sandbox.api.droplets import DROPLET
from sandbox.api.kinds import Kind, by
from sandbox.store import Record

_DISTRIBUTIONS = (
    *("Arch Linux", "CentOS", "CoreOS", "Debian", "Fedora", "Fedora Atomic", "FreeBSD", "Gentoo", "openSUSE"),
    *("RancherOS", "Rocky Linux", "Ubuntu", "Unknown"),
)


@operation("images_list")
def list_images(call: Call) -> Body:
    """List the images: distributions, and snapshots of this account's droplets."""
    public = [catalog.image_body(slug) for slug in catalog.IMAGES]
    private = call.store.list("image")
    kind = call.query.get("type")
    images = [
        *(public if call.query.get("private") != "true" and kind in (None, "distribution") else []),
        *(private if kind is None else []),
    ]
    if name := call.query.get("tag_name"):
        images = [image for image in images if name in image["tags"]]
    return call.page("images", images)


def _image(call: Call) -> Record | None:
    """Find an image by slug or number."""
    wanted = call.params["image_id"]
    for slug, image in catalog.IMAGES.items():
        if wanted in (slug, str(image.id)):
            return catalog.image_body(slug)
    return call.store.get("image", wanted)


def _own_image(call: Call) -> Record:
    image = call.store.get("image", call.params["image_id"])
    if image is None:
        raise not_found()
    return image


IMAGE = Kind(
    name="image",
    lookup=_image,
    tagged_as="image",
    reads=("images_get",),
)
SNAPSHOT = Kind(
    name="snapshot",
    filters=by("resource_type"),
    label="name",
    tagged_as="volume_snapshot",
    # Droplet snapshots are images too; only those of volumes count as volume snapshots.
    wears=lambda record: record["resource_type"] == "volume",
    lists=("snapshots_list",),
    reads=("snapshots_get", "volumeSnapshots_get_byId"),
    removes=("snapshots_delete", "volumeSnapshots_delete_byId"),
    removing=lambda call, snapshot: call.store.delete("image", snapshot["id"]),
)


@operation("images_delete")
def delete_image(call: Call) -> None:
    """Remove a snapshot by its image."""
    image = _own_image(call)
    call.store.delete("image", image["id"])
    call.store.delete("snapshot", image["id"])


@operation("images_update")
def update_image(call: Call) -> Body:
    """Rename or describe a snapshot's image."""
    image = _own_image(call)
    given = {name: call.body[name] for name in ("name", "distribution", "description") if call.body.get(name)}
    if not all(isinstance(value, str) for value in given.values()):
        raise invalid(f"{', '.join(given)} must be texts")
    if given.get("distribution") not in (None, *_DISTRIBUTIONS):
        raise invalid(f"distribution must be one of: {', '.join(_DISTRIBUTIONS)}")
    image |= given
    if snapshot := call.store.get("snapshot", image["id"]):
        call.store.put("snapshot", snapshot["id"], {**snapshot, "name": image["name"]})
    return {"image": call.store.put("image", image["id"], image)}


@operation("images_create_custom")
def create_custom_image(_: Call) -> None:
    """Refuse by name: a droplet here boots the sandbox's own image."""
    raise not_built("custom images")


@operation("droplets_list_snapshots")
def list_droplet_snapshots(call: Call) -> Body:
    """List the snapshots of a droplet, in the shape of images."""
    ident = str(DROPLET.find(call)["id"])
    snapshots = call.store.list("snapshot", resource_id=ident, resource_type="droplet")
    return call.page("snapshots", snapshots, lambda snapshot: call.store.get("image", snapshot["id"]))
