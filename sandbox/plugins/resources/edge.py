"""Keys of Spaces, and the CDN before them: the REST side."""

from __future__ import annotations

from typing import Final

from sandbox.plugins.errors import ProviderError
from sandbox.plugins.fields import between, filled
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.common import Endpoint, camelled, go_time, retried, segment, shown, unless_empty
from sandbox.plugins.resources.domains import certificate_by_name
from sandbox.plugins.schema import how
from sandbox.plugins.values import Values


def _key_body(new: Values) -> Values:
    grants = [{"bucket": grant["bucket"], "permission": grant["permission"]} for grant in new.get("grants") or []]
    return {"name": new["name"], "grants": grants}


def _create_key(cloud: Cloud, new: Values) -> Made:
    """The secret is told once, here."""
    key = cloud.rest.post("/v2/spaces/keys", _key_body(new))["key"]
    return Made(key["access_key"], camelled(key))


SPACES_KEY = Endpoint("/v2/spaces/keys", "key", _key_body, id="access_key").resource(
    "SpacesKey",
    {"name": how(autoname=True), "secretKey": how(secret=True)},
    create=_create_key,
    created_is_read=True,
)

_CLOUDFLARE: Final = "needs-cloudflare-cert"


def certificate_id(cloud: Cloud, new: Values) -> str:
    """Say the id of the certificate that was named; an id in the old property is taken, too."""
    wanted = new.get("certificateName") or ""
    if wanted == _CLOUDFLARE:
        return _CLOUDFLARE
    if wanted:
        found = certificate_by_name(cloud, wanted)
        if found is None:
            raise ProviderError(f"certificate {wanted}: not found; create it before what uses it")
        return found["id"]
    old = new.get("certificateId") or ""
    if not old:
        return ""
    found = certificate_by_name(cloud, old)
    return found["id"] if found else cloud.rest.get(f"/v2/certificates/{segment(old)}")["certificate"]["id"]


def _create_cdn(cloud: Cloud, new: Values) -> Made:
    body = {"origin": new["origin"], "ttl": new.get("ttl") or 0}
    body |= unless_empty(custom_domain=new.get("customDomain"), certificate_id=certificate_id(cloud, new))
    return Made(cloud.rest.post("/v2/cdn/endpoints", body)["endpoint"]["id"])


def _read_cdn(cloud: Cloud, id_: str, _: Values) -> Values | None:
    """Read. The official provider waits half a minute for a CDN that is gone, then fails; here it is gone at once."""
    cdn = cloud.rest.find(f"/v2/cdn/endpoints/{id_}", "endpoint")
    if cdn is None:
        return None
    told: Values = {
        **shown(cdn, "origin", "ttl", "endpoint"),
        "createdAt": go_time(cdn["created_at"]),
        "customDomain": cdn.get("custom_domain") or "",
    }
    certificate = cdn.get("certificate_id") or ""
    if certificate == _CLOUDFLARE:
        told |= {"certificateId": certificate, "certificateName": certificate}
    elif certificate:
        named = cloud.rest.get(f"/v2/certificates/{certificate}")["certificate"]["name"]
        told |= {"certificateId": named, "certificateName": named}
    return told


def _update_cdn(cloud: Cloud, change: Change) -> None:
    path = f"/v2/cdn/endpoints/{change.id}"
    if change.of("ttl"):
        cloud.rest.put(path, {"ttl": change.new.get("ttl") or 0})
    if change.of("certificateId", "customDomain", "certificateName"):
        named = {"certificateName": change.new.get("certificateName")}
        body = {"custom_domain": change.new.get("customDomain") or "", "certificate_id": certificate_id(cloud, named)}
        cloud.rest.put(path, body)


CDN = Resource(
    name="Cdn",
    properties={
        "origin": how(replace=True, check=filled),
        "ttl": how(computed=True, check=between(0, 2**31)),
        "certificateId": how(computed=True),
        "certificateName": how(computed=True),
    },
    create=_create_cdn,
    read=_read_cdn,
    update=_update_cdn,
    delete=lambda cloud, id_, _: (
        retried(
            cloud,
            30,
            f"CDN {id_}: deleted",
            lambda: cloud.rest.delete(f"/v2/cdn/endpoints/{id_}"),
            again=lambda error: error.status == 429,
        )
        and None
    ),
)

RESOURCES = (SPACES_KEY, CDN)
