"""The container registry. `/v2/registry` (one an account) and `/v2/registries` show the same registries."""

from __future__ import annotations

import base64
import time

from sandbox import catalog
from sandbox.api.context import ApiError, Body, Call, converge, invalid, not_found, now, operation, pick, random_text
from sandbox.api.desired import registry_logins
from sandbox.api.kinds import Kind
from sandbox.api.switches import switches_of
from sandbox.store import Record

HOST = "registry.digitalocean.com"
_NAME = r"[a-z0-9-]{1,63}"
_SEVERAL = (
    "This API is not supported if you have created multiple registries. Please use "
    "`/v2/registries/{registry_name}` instead. Refer to "
    "https://docs.digitalocean.com/reference/api/digitalocean/#tag/Container-Registry for more info."
)


def _subscription(call: Call) -> Body:
    found = call.store.get_meta("registry_subscription")
    if found is None:
        raise not_found("subscription does not exist")
    return {"tier": catalog.REGISTRY_TIERS[found["tier"]], **pick(found, "created_at", "updated_at")}


def _body(call: Call, registry: Record) -> Body:
    body: Body = {
        **pick(registry, "name", "created_at", "region"),
        "storage_usage_bytes": 0,
        "storage_usage_bytes_updated_at": registry["created_at"],
    }
    return body | ({"subscription": _subscription(call)} if call.operation.id.startswith("registry_") else {})


def _stored(call: Call) -> tuple[str, ...]:
    return call.ask("repositories", call.cloud.parts.registry.repositories)


def _check_name(call: Call) -> str:
    name = call.text("name", pattern=_NAME, message="invalid registry name")
    if call.store.get("registry", name) or name in switches_of(call.store).foreign_registries:
        raise ApiError(409, "registry name is already in use")
    return name


def _lookup(call: Call) -> Record | None:
    """Find the registry by the name in the path, or the only one."""
    name = call.params.get("registry_name")
    registries = call.store.list("registry")
    if name is None and len(registries) > 1:
        raise ApiError(412, _SEVERAL)
    return next((registry for registry in registries if name in (None, registry["name"])), None)


def _end_logins(call: Call, _: Record) -> None:
    for login in call.store.list("registry_login"):
        call.store.delete("registry_login", login["username"])


REGISTRY = Kind(
    name="registry",
    plural="registries",
    parameter="registry_name",
    id="name",
    shown=_body,
    lookup=_lookup,
    missing="registry does not exist",
    label="name",
    job="registry_logins",
    reads=("registry_get", "registries_get"),
    removes=("registry_delete", "registries_delete"),
    removing=_end_logins,
)


@operation("registries_list")
def list_registries(call: Call) -> Body:
    """List the registries."""
    return {"registries": [_body(call, registry) for registry in call.store.list("registry")]}


@operation("registry_create", "registries_create")
def create_registry(call: Call) -> Body:
    """Make a registry; tiers below professional allow one."""
    name = _check_name(call)
    tier = call.one_of("subscription_tier_slug", catalog.REGISTRY_TIERS, "invalid subscription tier", default="basic")
    region = call.one_of("region", catalog.REGISTRY_REGIONS, "invalid region", default="nyc3")
    if call.store.list("registry") and tier != "professional":
        raise ApiError(409, "registry already exists; the subscription tier allows one")
    _subscribe(call, tier)
    registry: Record = {"name": name, "region": region, "created_at": now()}
    return REGISTRY.save(call, registry)


@operation("registry_validate_name", "registries_validate_name")
def validate_name(call: Call) -> None:
    """Return True if a registry could have this name."""
    _check_name(call)


def _subscribe(call: Call, tier: str) -> None:
    before = call.store.get_meta("registry_subscription") or {"created_at": now()}
    call.store.set_meta("registry_subscription", {**before, "tier": tier, "updated_at": now()})


@operation("registry_get_subscription", "registries_get_subscription")
def get_subscription(call: Call) -> Body:
    """Return the subscription, which outlives its registries."""
    return {"subscription": _subscription(call)}


@operation("registry_update_subscription", "registries_update_subscription")
def update_subscription(call: Call) -> Body:
    """Change the tier."""
    tier = call.one_of("tier_slug", catalog.REGISTRY_TIERS, "invalid subscription tier")
    included = catalog.REGISTRY_TIERS[tier]["included_repositories"]
    if included and len(_stored(call)) > included:
        raise ApiError(412, "OverRepositoryLimit")
    _subscribe(call, tier)
    return {"subscription": _subscription(call)}


@operation("registry_get_options", "registries_get_options")
def get_options(call: Call) -> Body:
    """List tiers and regions."""
    repositories = len(_stored(call))
    tiers: list[Body] = []
    for tier in catalog.REGISTRY_TIERS.values():
        fits = not tier["included_repositories"] or repositories <= tier["included_repositories"]
        tiers.append({**tier, "eligible": fits, **({} if fits else {"eligibility_reasons": ["OverRepositoryLimit"]})})
    return {"options": {"available_regions": list(catalog.REGISTRY_REGIONS), "subscription_tiers": tiers}}


@operation("registry_get_dockerCredentials", "registries_get_dockerCredentials")
def get_credentials(call: Call) -> Body:
    """Return a Docker `config.json` with a login of its own, valid for `expiry_seconds` (0 is for ever).

    Every login here may push: what `read_write` narrows at DigitalOcean is not narrowed.
    """
    REGISTRY.find(call)
    text = call.query.get("expiry_seconds", "0")
    if not text.isdigit():
        raise invalid("expiry_seconds must be a number of seconds")
    for login in call.store.list("registry_login"):
        if login["expires"] is not None and login["expires"] < time.time():
            call.store.delete("registry_login", login["username"])
    secret = "dop_v1_sandbox_" + random_text(48)
    login = {"username": secret, "password": secret, "expires": time.time() + int(text) if int(text) else None}
    call.store.put("registry_login", secret, login)
    call.cloud.touch("registry_logins")
    return {"auths": {HOST: {"auth": base64.b64encode(f"{secret}:{secret}".encode()).decode()}}}


def _repositories(call: Call) -> list[str]:
    prefix = REGISTRY.find(call)["name"] + "/"
    return [name.removeprefix(prefix) for name in _stored(call) if name.startswith(prefix)]


@operation("registry_list_repositories", "registry_list_repositoriesV2", "registries_list_repositoriesV2")
def list_repositories(call: Call) -> Body:
    """List the repositories, by name only: tags and digests are asked of the registry itself."""
    name = REGISTRY.find(call)["name"]
    return call.page("repositories", [{"registry_name": name, "name": repo} for repo in _repositories(call)])


converge(
    "registry_logins",
    lambda cloud, _: registry_logins(cloud),
    lambda parts, logins: parts.edge.set_registry_logins(logins),
)
