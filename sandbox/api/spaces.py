"""Spaces keys and CDN endpoints. The buckets themselves are made by S3, at the Spaces endpoint."""

from __future__ import annotations

import string
from typing import Any

from sandbox import catalog
from sandbox.api.context import (
    ApiError,
    Body,
    Call,
    Cloud,
    invalid,
    job,
    new_uuid,
    not_found,
    now,
    operation,
    random_text,
)
from sandbox.api.desired import cdn_spec, spaces_keys
from sandbox.store import Record

_PERMISSIONS = ("read", "readwrite", "fullaccess")
_KEY_ALPHABET = string.ascii_uppercase + string.digits
NEEDS_CLOUDFLARE = "needs-cloudflare-cert"


# --- keys ------------------------------------------------------------------------------------------------------------


def new_key_pair() -> tuple[str, str]:
    """Return a new (access key, secret key) in DigitalOcean's style."""
    return "DO" + random_text(18, _KEY_ALPHABET), random_text(43, string.ascii_letters + string.digits + "+/")


def _shown(key: Record, *, secret: bool = False) -> Body:
    names = ("name", "grants", "access_key", "created_at")
    return {name: key[name] for name in names} | ({"secret_key": key["secret_key"]} if secret else {})


def _grants(call: Call) -> list[Record]:
    grants: list[Record] = []
    for given in call.objects("grants"):
        permission, bucket = given.get("permission"), given.get("bucket") or ""
        if permission not in _PERMISSIONS:
            raise ApiError(400, f"invalid permission; must be one of: {', '.join(_PERMISSIONS)}")
        if permission == "fullaccess":
            bucket = ""
        elif not bucket or not isinstance(bucket, str):
            raise ApiError(400, f"a bucket is required for the permission {permission}")
        grants.append({"bucket": bucket, "permission": permission})
    # "A fullaccess permission will be prioritized", says the API description.
    full = [grant for grant in grants if grant["permission"] == "fullaccess"]
    return full[:1] or grants


def _key(call: Call) -> Record:
    key = call.store.get("spaces_key", call.params["access_key"])
    if key is None:
        raise not_found("key not found")
    return key


@operation("spacesKey_list")
def list_keys(call: Call) -> Body:
    """List the keys, without secrets; by name, bucket or permission if asked."""
    keys = call.store.list("spaces_key")
    if name := call.query.get("name"):
        keys = [key for key in keys if key["name"] == name]
    for field in ("bucket", "permission"):
        if wanted := call.query.get(field):
            keys = [key for key in keys if any(grant[field] == wanted for grant in key["grants"])]
    return call.page("keys", keys, _shown)


@operation("spacesKey_create")
def create_key(call: Call) -> Body:
    """Make a key pair; its secret is shown this once."""
    access, secret = new_key_pair()
    key: Record = {
        "name": call.text("name", message="name is required"),
        "grants": _grants(call),
        "access_key": access,
        "secret_key": secret,
        "created_at": now(),
    }
    call.store.put("spaces_key", access, key)
    call.cloud.touch("spaces_keys")
    return {"key": _shown(key, secret=True)}


@operation("spacesKey_get")
def get_key(call: Call) -> Body:
    """Return one key, without its secret."""
    return {"key": _shown(_key(call))}


@operation("spacesKey_update", "spacesKey_patch")
def update_key(call: Call) -> Body:
    """Rename a key or change its grants."""
    key = _key(call)
    if "name" in call.body or call.operation.method == "PUT":
        key["name"] = call.text("name", message="name is required")
    if "grants" in call.body or call.operation.method == "PUT":
        key["grants"] = _grants(call)
    call.store.put("spaces_key", key["access_key"], key)
    call.cloud.touch("spaces_keys")
    return {"key": _shown(key)}


@operation("spacesKey_delete")
def delete_key(call: Call) -> None:
    """Remove a key; it is refused from now on."""
    call.store.delete("spaces_key", _key(call)["access_key"])
    call.cloud.touch("spaces_keys")


@job("spaces_keys")
def converge_keys(cloud: Cloud, _: str) -> None:
    """Tell the Spaces part every key."""
    cloud.parts.set_spaces_keys(spaces_keys(cloud.store))


# --- CDN -------------------------------------------------------------------------------------------------------------


def _cdn(call: Call) -> Record:
    cdn = call.store.get("cdn", call.params["cdn_id"])
    if cdn is None:
        raise not_found("cdn endpoint not found")
    return cdn


def _cdn_body(cdn: Record) -> Body:
    return {name: value for name, value in cdn.items() if value is not None}


def _domain_fields(call: Call) -> Record:
    """Check a custom domain and its certificate: both or neither."""
    domain = call.body.get("custom_domain") or None
    certificate = call.body.get("certificate_id") or None
    if (domain is None) != (certificate is None):
        raise invalid("custom_domain and certificate_id must be provided together")
    if certificate not in (None, NEEDS_CLOUDFLARE):
        record = call.store.get("certificate", certificate)
        if record is None:
            raise not_found("certificate not found")
        if not any(_covers(name, str(domain)) for name in record["dns_names"]):
            raise invalid("certificate does not match the custom domain")
    return {"custom_domain": domain, "certificate_id": certificate}


def _covers(pattern: str, name: str) -> bool:
    return pattern == name or (pattern.startswith("*.") and name.partition(".")[2] == pattern[2:])


@operation("cdn_list_endpoints")
def list_cdns(call: Call) -> Body:
    """List the CDN endpoints."""
    return call.page("endpoints", call.store.list("cdn"), _cdn_body)


@operation("cdn_create_endpoint")
def create_cdn(call: Call) -> Body:
    """Put a CDN endpoint before a Space."""
    origin = call.text("origin", message="origin is required").lower()
    bucket, _, rest = origin.partition(".")
    region = rest.removesuffix(".digitaloceanspaces.com")
    spaces: tuple[tuple[str, str], ...] = call.cloud.parts.buckets()
    if not rest.endswith(".digitaloceanspaces.com") or (region, bucket) not in spaces:
        raise invalid("origin is not a valid Space")
    if call.store.list("cdn", origin=origin):
        raise ApiError(409, "cdn endpoint already exists for this origin")
    ttl = call.one_of("ttl", catalog.CDN_TTLS, default=3600) if call.body.get("ttl") else 3600
    cdn: Record = {
        "id": new_uuid(),
        "origin": origin,
        "endpoint": f"{bucket}.{region}.cdn.digitaloceanspaces.com",
        "ttl": ttl,
        "created_at": now(),
        **_domain_fields(call),
    }
    call.cloud.touch("cdns")
    return {"endpoint": _cdn_body(call.store.put("cdn", cdn["id"], cdn))}


@operation("cdn_get_endpoint")
def get_cdn(call: Call) -> Body:
    """Return one CDN endpoint."""
    return {"endpoint": _cdn_body(_cdn(call))}


@operation("cdn_update_endpoints")
def update_cdn(call: Call) -> Body:
    """Change the TTL, or the custom domain (empty takes it away)."""
    cdn = _cdn(call)
    if call.body.get("ttl"):
        cdn["ttl"] = call.one_of("ttl", catalog.CDN_TTLS)
    if "custom_domain" in call.body or "certificate_id" in call.body:
        cdn |= _domain_fields(call)
    call.cloud.touch("cdns")
    return {"endpoint": _cdn_body(call.store.put("cdn", cdn["id"], cdn))}


@operation("cdn_delete_endpoint")
def delete_cdn(call: Call) -> None:
    """Remove a CDN endpoint; the Space stays."""
    call.store.delete("cdn", _cdn(call)["id"])
    call.cloud.touch("cdns")


@operation("cdn_purge_cache")
def purge_cdn(call: Call) -> None:
    """Forget cached files, by path or with `*`."""
    cdn = _cdn(call)
    files: list[Any] = call.texts("files")
    if not files:
        raise invalid("files is required")
    call.cloud.parts.purge_cdn(cdn_spec(call.store, cdn), tuple(files))


@job("cdns")
def converge_cdns(cloud: Cloud, _: str) -> None:
    """Tell the CDN part every endpoint."""
    with cloud.store.transaction():
        wanted = tuple(cdn_spec(cloud.store, cdn) for cdn in cloud.store.list("cdn"))
    cloud.parts.set_cdns(wanted)
