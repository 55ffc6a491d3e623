"""Find resources whose creation failed although they were made: the engine then records nothing, not even a note.

The provider reads a resource right after it made it, and takes 404 for "not made". Databases of a cluster and buckets
are not found for a moment (terraform-provider-digitalocean#493, #1153), and a second creation is refused as a
duplicate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ops.stack.recovery.cloud_lookup import BUCKET

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Placeholder of the engine for a text that is known only after `up` (pulumi/sdk/go/common/resource/plugin)."""

NAMED = frozenset(
    {
        BUCKET,
        "digitalocean:index/databaseDb:DatabaseDb",
        "digitalocean:index/databaseUser:DatabaseUser",
        "digitalocean:index/databaseConnectionPool:DatabaseConnectionPool",
    }
)
"""Types whose names cannot be anybody else's where they are looked for."""

_PROVIDER = "pulumi:providers:digitalocean"


def operations_of(preview: Mapping[str, Any], deployment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, as if the engine had noted them, the creations of the types above that a preview plans.

    One that depends on something still to be made is left out: it cannot be there.

    Args:
        preview: of `pulumi preview --json`.
        deployment: of `pulumi stack export`; its provider is that of the resources.
    """
    providers = [item for item in deployment.get("resources") or [] if item.get("type") == _PROVIDER]
    references = {f"{item['urn']}::{item['id']}" for item in providers}
    found: list[dict[str, Any]] = []
    for step in preview.get("steps") or []:
        resource: dict[str, Any] = step.get("newState") or {}
        if step.get("op") != "create" or resource.get("type") not in NAMED or len(references) != 1:
            continue
        if UNKNOWN in _values(resource.get("inputs") or {}):
            continue
        found.append({"type": "creating", "resource": {**resource, "provider": next(iter(references))}})
    return found


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _values(item)
    elif isinstance(value, list):
        for item in value:
            yield from _values(item)
    else:
        yield value
