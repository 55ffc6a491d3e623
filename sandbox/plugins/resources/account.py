"""SSH keys and tags, and what the account and the catalogue say."""

from __future__ import annotations

from sandbox.plugins.fields import filled
from sandbox.plugins.resource import Change, Cloud, Function
from sandbox.plugins.resources.common import Endpoint, name, sent, shown, unique_id
from sandbox.plugins.schema import how
from sandbox.plugins.values import Values


def _update_key(cloud: Cloud, change: Change) -> None:
    cloud.rest.put(f"/v2/account/keys/{change.id}", {"name": change.new["name"]})


SSH_KEY = Endpoint("/v2/account/keys", "ssh_key", lambda new: sent(new, "name", "publicKey")).resource(
    "SshKey",
    {"name": name(), "publicKey": how(replace=True, check=filled, same=lambda old, new, _: old.strip() == new.strip())},
    update=_update_key,
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


_TAGS = Endpoint("/v2/tags", "tag", lambda new: sent(new, "name"), _tag_state, id="name")
TAG = _TAGS.resource("Tag", {"name": name(replace=True)}, update=None)


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
