"""SSH keys and tags, and what the account and the catalogue say."""

from __future__ import annotations

from sandbox.plugins.fields import filled, integer, string
from sandbox.plugins.resource import Change, Cloud, Function, Resource
from sandbox.plugins.resources.common import Endpoint, name, shown, unique_id
from sandbox.plugins.values import Values


def _key_state(key: Values) -> Values:
    return {"name": key["name"], "publicKey": key["public_key"], "fingerprint": key["fingerprint"]}


def _update_key(cloud: Cloud, change: Change) -> None:
    cloud.rest.put(f"/v2/account/keys/{change.id}", {"name": change.new["name"]})


_KEYS = Endpoint(
    "/v2/account/keys", "ssh_key", _key_state, lambda new: {"name": new["name"], "public_key": new["publicKey"]}
)
SSH_KEY = Resource(
    name="SshKey",
    fields={
        "name": name(),
        "publicKey": string(
            required=True, replace=True, check=filled, same=lambda old, new, _: old.strip() == new.strip()
        ),
        "fingerprint": string(output_only=True),
    },
    create=_KEYS.create,
    read=_KEYS.read,
    update=_update_key,
    delete=_KEYS.delete,
)


_COUNTS = {
    "dropletsCount": "droplets",
    "imagesCount": "images",
    "volumesCount": "volumes",
    "volumeSnapshotsCount": "volume_snapshots",
    "databasesCount": "databases",
}


def _tag_state(tag: Values) -> Values:
    counts = {key: tag["resources"][kind]["count"] for key, kind in _COUNTS.items()}
    return {"name": tag["name"], "totalResourceCount": tag["resources"]["count"], **counts}


_TAGS = Endpoint("/v2/tags", "tag", _tag_state, lambda new: {"name": new["name"]}, id="name")
TAG = Resource(
    name="Tag",
    fields={
        "name": name(replace=True),
        "totalResourceCount": integer(output_only=True),
        **{key: integer(output_only=True) for key in _COUNTS},
    },
    create=_TAGS.create,
    read=_TAGS.read,
    delete=_TAGS.delete,
)


def _get_account(cloud: Cloud, _: Values) -> Values:
    account = cloud.rest.get("/v2/account")["account"]
    return {
        "id": account["uuid"],
        **shown(
            account, "dropletLimit", "floatingIpLimit", "email", "uuid", "emailVerified", "status", "statusMessage"
        ),
    }


def _get_regions(cloud: Cloud, _: Values) -> Values:
    keys = ("slug", "name", "sizes", "features", "available")
    regions = cloud.rest.pages("/v2/regions", "regions")
    return {"id": unique_id(""), "regions": [shown(region, *keys) for region in regions]}


def _get_sizes(cloud: Cloud, _: Values) -> Values:
    keys = ("slug", "available", "transfer", "priceMonthly", "priceHourly", "memory", "vcpus", "disk", "regions")
    sizes = cloud.rest.pages("/v2/sizes", "sizes")
    return {"id": unique_id(""), "sizes": [shown(size, *keys) for size in sizes]}


RESOURCES = (SSH_KEY, TAG)
# The official filters and sorts of getRegions and getSizes are refused: a program here has no use for them.
FUNCTIONS = (
    Function(name="getAccount", fields={}, call=_get_account),
    Function(name="getRegions", fields={}, call=_get_regions),
    Function(name="getSizes", fields={}, call=_get_sizes),
)
