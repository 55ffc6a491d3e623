"""Spaces keys and CDN endpoints. The buckets themselves are made by S3, at the Spaces endpoint."""

from __future__ import annotations

import string
from typing import Any

from sandbox import catalog
from sandbox.api.context import (
    ApiError,
    Body,
    Call,
    converge,
    invalid,
    new_uuid,
    not_found,
    now,
    operation,
    pick,
    random_text,
)
from sandbox.api.desired import cdn_spec, cdn_specs, spaces_keys
from sandbox.api.dns_data import is_domain
from sandbox.api.kinds import Filters, Kind, by
from sandbox.store import Record

_PERMISSIONS = ("read", "readwrite", "fullaccess")
_KEY_ALPHABET = string.ascii_uppercase + string.digits
NEEDS_CLOUDFLARE = "needs-cloudflare-cert"


# --- keys ------------------------------------------------------------------------------------------------------------


def new_key_pair() -> tuple[str, str]:
    """Return a new (access key, secret key) in DigitalOcean's style."""
    return "DO" + random_text(18, _KEY_ALPHABET), random_text(43, string.ascii_letters + string.digits + "+/")


def _shown(_: Call, key: Record, *, secret: bool = False) -> Body:
    return pick(key, "name", "grants", "access_key", "created_at") | (
        {"secret_key": key["secret_key"]} if secret else {}
    )


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
    if not full:
        _refuse_policies(call, grants)
    return full[:1] or grants


def _refuse_policies(call: Call, grants: list[Record]) -> None:
    """Refuse a limited key of a bucket with a policy, as documented; status and text are not known."""
    named = {grant["bucket"] for grant in grants}
    if named and (shut := sorted(named & call.ask("policies", call.cloud.parts.spaces.with_policy))):
        raise invalid(f"limited access keys cannot be created for buckets with a bucket policy: {', '.join(shut)}")


def _by_grant(field: str) -> Filters:
    return {field: lambda key, wanted: any(grant[field] == wanted for grant in key["grants"])}


SPACES_KEY = Kind(
    name="spaces_key",
    singular="key",
    parameter="access_key",
    id="access_key",
    shown=_shown,
    missing="key not found",
    filters={**by("name"), **_by_grant("bucket"), **_by_grant("permission")},
    label="name",
    job="spaces_keys",
    lists=("spacesKey_list",),
    reads=("spacesKey_get",),
    removes=("spacesKey_delete",),
)


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
    SPACES_KEY.save(call, key)
    return {"key": _shown(call, key, secret=True)}


@operation("spacesKey_update", "spacesKey_patch")
def update_key(call: Call) -> Body:
    """Rename a key or change its grants."""
    key = SPACES_KEY.find(call)
    if "name" in call.body or call.operation.method == "PUT":
        key["name"] = call.text("name", message="name is required")
    if "grants" in call.body or call.operation.method == "PUT":
        key["grants"] = _grants(call)
    return SPACES_KEY.save(call, key)


converge("spaces_keys", lambda cloud, _: spaces_keys(cloud.store), lambda parts, keys: parts.spaces.set_keys(keys))


# --- CDN -------------------------------------------------------------------------------------------------------------


def _cdn_body(_: Call, cdn: Record) -> Body:
    return {name: value for name, value in cdn.items() if value is not None}


def _domain_fields(call: Call) -> Record:
    """Check a custom domain and its certificate: both or neither."""
    domain = str(call.body.get("custom_domain") or "").lower() or None
    certificate = call.body.get("certificate_id") or None
    if (domain is None) != (certificate is None):
        raise invalid("custom_domain and certificate_id must be provided together")
    if domain is not None and not is_domain(domain):
        raise invalid("custom_domain is not a valid domain name")
    if certificate not in (None, NEEDS_CLOUDFLARE):
        record = call.store.get("certificate", certificate)
        if record is None:
            raise not_found("certificate not found")
        if not any(_covers(name, str(domain)) for name in record["dns_names"]):
            raise invalid("certificate does not match the custom domain")
    return {"custom_domain": domain, "certificate_id": certificate}


def _covers(pattern: str, name: str) -> bool:
    return pattern == name or (pattern.startswith("*.") and name.partition(".")[2] == pattern[2:])


CDN = Kind(
    name="cdn",
    singular="endpoint",
    parameter="cdn_id",
    shown=_cdn_body,
    missing="cdn endpoint not found",
    certificates=lambda cdn: [cdn["certificate_id"]],
    label="endpoint",
    job="cdns",
    lists=("cdn_list_endpoints",),
    reads=("cdn_get_endpoint",),
    removes=("cdn_delete_endpoint",),
)


@operation("cdn_create_endpoint")
def create_cdn(call: Call) -> Body:
    """Put a CDN endpoint before a Space."""
    origin = call.text("origin", message="origin is required").lower()
    bucket, _, rest = origin.partition(".")
    region = rest.removesuffix(".digitaloceanspaces.com")
    if not rest.endswith(".digitaloceanspaces.com") or (region, bucket) not in call.ask(
        "buckets", call.cloud.parts.spaces.buckets
    ):
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
    return CDN.save(call, cdn)


@operation("cdn_update_endpoints")
def update_cdn(call: Call) -> Body:
    """Change the TTL, or the custom domain (empty takes it away)."""
    cdn = CDN.find(call)
    if call.body.get("ttl"):
        cdn["ttl"] = call.one_of("ttl", catalog.CDN_TTLS)
    if "custom_domain" in call.body or "certificate_id" in call.body:
        cdn |= _domain_fields(call)
    return CDN.save(call, cdn)


@operation("cdn_purge_cache")
def purge_cdn(call: Call) -> None:
    """Forget cached files, by path or with `*`."""
    cdn = CDN.find(call)
    files: list[Any] = call.texts("files")
    if not files:
        raise invalid("files is required")
    spec = cdn_spec(call.store, cdn)
    call.ask(("purge", spec), lambda: call.cloud.parts.edge.purge(spec, tuple(files)))


converge("cdns", lambda cloud, _: cdn_specs(cloud.store), lambda parts, cdns: parts.edge.set_cdns(cdns))
