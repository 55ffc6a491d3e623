"""The container registry and its logins."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from sandbox.plugins.errors import ProviderError
from sandbox.plugins.fields import between, filled, one_of
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.common import camelled, go_time, name, segment, unless_empty
from sandbox.plugins.schema import how
from sandbox.plugins.values import Values

_HOST: Final = "registry.digitalocean.com"
_LONGEST: Final = 1576800000


def _create_at(path: str) -> Callable[[Cloud, Values], Made]:
    def create(cloud: Cloud, new: Values) -> Made:
        body = {"name": new["name"], "subscription_tier_slug": new["subscriptionTierSlug"]}
        body |= unless_empty(region=new.get("region"))
        return Made(cloud.rest.post(path, body)["registry"]["name"])

    return create


def _read(cloud: Cloud, id_: str, _: Values) -> Values | None:
    answer = cloud.rest.find(f"/v2/registries/{segment(id_)}")
    if answer is None:
        return None
    # Most answers of this API have a wrapper; the description says that this one has none in some versions.
    registry = answer.get("registry") or answer
    subscription = cloud.rest.get("/v2/registries/subscription")["subscription"]
    return {
        **camelled(registry),
        "endpoint": f"{_HOST}/{registry['name']}",
        "serverUrl": _HOST,
        "createdAt": go_time(registry["created_at"]),
        "subscriptionTierSlug": subscription["tier"]["slug"],
    }


def _update(cloud: Cloud, change: Change) -> None:
    if change.of("subscriptionTierSlug"):
        cloud.rest.post("/v2/registries/subscription", {"tier_slug": change.new["subscriptionTierSlug"]})


REGISTRY = Resource(
    name="ContainerRegistry",
    properties={
        "name": name(replace=True),
        "subscriptionTierSlug": how(check=one_of("starter", "basic", "professional")),
        "region": how(computed=True, replace=True, check=filled),
    },
    create=_create_at("/v2/registry"),
    read=_read,
    update=_update,
    delete=lambda cloud, id_, _: cloud.rest.delete(f"/v2/registries/{segment(id_)}"),
)

# The same registry by the address that took the other's place: an account may have several.
REGISTRIES = replace(REGISTRY, name="ContainerRegistries", create=_create_at("/v2/registries"))


def _login(cloud: Cloud, known: Values) -> Values:
    """Ask for a login; returns what the state keeps of it."""
    seconds = known["expirySeconds"]
    answer = cloud.rest.get(
        f"/v2/registries/{segment(known['registryName'])}/docker-credentials",
        read_write=str(bool(known.get("write"))).lower(),
        expiry_seconds=seconds,
    )
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    return {
        "dockerCredentials": json.dumps(answer, separators=(",", ":")),
        "credentialExpirationTime": f"{until:%Y-%m-%dT%H:%M:%SZ}",
    }


def _create_login(cloud: Cloud, new: Values) -> Made:
    if cloud.rest.find(f"/v2/registries/{segment(new['registryName'])}") is None:
        raise ProviderError(f"registry {new['registryName']}: not found; a login needs the registry first")
    return Made(new["registryName"], _login(cloud, new))


def _read_login(cloud: Cloud, id_: str, known: Values) -> Values | None:
    """A login that has expired is asked for again, as with the official provider."""
    if cloud.rest.find(f"/v2/registries/{segment(id_)}") is None:
        return None
    asked = {
        "registryName": id_,
        "write": bool(known.get("write")),
        "expirySeconds": known.get("expirySeconds", _LONGEST),
    }
    until = known.get("credentialExpirationTime")
    if until and datetime.fromisoformat(until) > datetime.now(UTC):
        return asked
    return asked | _login(cloud, asked)


def _forget_login(_cloud: Cloud, _id: str, _known: Values) -> None:
    """The official provider revokes the token at the control panel, which is the real cloud: never from here."""


LOGIN = Resource(
    name="ContainerRegistryDockerCredentials",
    properties={
        "registryName": how(replace=True, check=filled),
        "write": how(default=False),
        "expirySeconds": how(default=_LONGEST, check=between(0, _LONGEST)),
        "dockerCredentials": how(secret=True),
    },
    create=_create_login,
    read=_read_login,
    # Reading with no expiry known asks for a new login.
    update=lambda _cloud, change: change.new.pop("credentialExpirationTime", None),
    delete=_forget_login,
)

RESOURCES = (REGISTRY, REGISTRIES, LOGIN)
