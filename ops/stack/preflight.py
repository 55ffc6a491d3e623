"""Ask an account, before the first `pulumi up`, for all that would stop it there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from blueprint.settings.database import ManagedPostgresql
from blueprint.settings.environment import EnvironmentSettings
from ops.core.errors import CloudError
from ops.stack.cloud import Cloud, RefusedError
from ops.stack.spaces import bucket_is_ours

_FORBIDDEN, _CONFLICT = 403, 409
_TIER_OF_SEVERAL = "professional"


@dataclass(kw_only=True)
class Findings:
    """Things made, problems that stop an `up`, and notes about what cannot be asked."""

    made: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def preflight(cloud: Cloud, settings: EnvironmentSettings) -> Findings:
    """Compare the account with the settings. Makes one thing: the region's default VPC, where there is no VPC.

    Raises:
        CloudError: the API does not answer, or refuses a read.
    """
    found = Findings()
    _check_token(cloud, found)
    if made := ensure_default_vpc(cloud, settings.region.value):
        found.made.append(made)
    _check_database(cloud, settings, found)
    _check_names(cloud, settings, found)
    _check_addresses(cloud, settings, found)
    return found


def ensure_default_vpc(cloud: Cloud, region: str) -> str | None:
    """Make a VPC where the region has none, and return its label.

    The first VPC of a region becomes its default, which nobody can delete: it must not be the environment's.

    Raises:
        CloudError: the API does not answer, or refuses.
    """
    if any(vpc.get("region") == region for vpc in cloud.items("/v2/vpcs", "vpcs")):
        return None
    name = f"default-{region}"
    cloud.send("POST", "/v2/vpcs", {"name": name, "region": region})
    return f"VPC {name}: the region's default, which stays (the first one of a region cannot be deleted)"


def _check_token(cloud: Cloud, found: Findings) -> None:
    """Find out whether the token sees passwords and makes Spaces keys; nothing else says so before it is too late."""
    online = [item for item in cloud.items("/v2/databases", "databases") if item.get("status") == "online"]
    blind = [str(item.get("name")) for item in online if not (item.get("connection") or {}).get("password")]
    if blind:
        found.problems.append(
            f"the token is shown no password of {', '.join(blind)}: it lacks the scope database:view_credentials; "
            "use one with full access"
        )
    try:
        cloud.get("/v2/spaces/keys?per_page=1")
    except RefusedError as error:
        if error.status != _FORBIDDEN:
            raise
        found.problems.append(
            "the token may not use Spaces keys: it lacks spaces_key:read and spaces_key:create_credentials; "
            "use one with full access"
        )


def _check_database(cloud: Cloud, settings: EnvironmentSettings, found: Findings) -> None:
    database = settings.database
    if not isinstance(database, ManagedPostgresql):
        return
    options: dict[str, Any] = ((cloud.get("/v2/databases/options") or {}).get("options") or {}).get("pg") or {}
    sizes = {
        size
        for layout in options.get("layouts") or []
        if layout.get("num_nodes") == database.nodes
        for size in layout.get("sizes") or []
    }
    offers: list[tuple[str, str, list[str]]] = [
        ("database.version", database.version, list(options.get("versions") or [])),
        ("database.size", database.size, sorted(sizes)),
        ("region", settings.region.value, list(options.get("regions") or [])),
    ]
    for name, wanted, offered in offers:
        if offered and wanted not in offered:
            found.problems.append(
                f"{name}: DigitalOcean sells no PostgreSQL of {wanted} today; it has {', '.join(offered)}"
            )


def _check_names(cloud: Cloud, settings: EnvironmentSettings, found: Findings) -> None:
    registry = settings.registry
    own = {item.get("name") for item in cloud.items("/v2/registries", "registries")}
    if registry is not None and registry.name not in own:
        try:
            cloud.send("POST", "/v2/registries/validate-name", {"name": registry.name})
        except RefusedError as error:
            why = "another account has it" if error.status == _CONFLICT else str(error)
            found.problems.append(f"registry.name: {registry.name} cannot be had ({why}); choose another name")
        if own and registry.tier != _TIER_OF_SEVERAL:
            found.problems.append(
                f"registry: the account has {', '.join(sorted(map(str, own)))}, and of the tier {registry.tier} it has "
                f"one registry; write its name and shared: true, or tier: {_TIER_OF_SEVERAL}"
            )
    region = settings.region.value
    places = [(item.space, item.region or region) for item in settings.backup.destinations.values() if item.space]
    places += [(bucket.bucket, region) for bucket in settings.buckets.values()]
    for bucket, where in places:
        try:
            bucket_is_ours(bucket, where)
        except CloudError as error:
            found.problems.append(str(error))


def _check_addresses(cloud: Cloud, settings: EnvironmentSettings, found: Findings) -> None:
    account = (cloud.get("/v2/account") or {}).get("account") or {}
    others = [email for email in settings.alerts.emails if email != account.get("email")]
    if others:
        found.notes.append(
            f"alerts.channels: {', '.join(others)}: must each be a verified member of the team; DigitalOcean refuses "
            "alerts to anybody else, and does not tell who is one"
        )
