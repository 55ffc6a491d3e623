"""The rules. Each is a pure function from a preview to its violations, with what to do about them.

A resource may break a rule where the stack file says so, with a reason: `ancla:exemptions`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from blueprint.cost import resource_prices
from blueprint.settings import DISPOSABLE_ENVIRONMENTS
from policy.preview import UNKNOWN, Preview, Resource

ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
_SSH_PORT = 22
_DATA = ("Droplet", "DatabaseCluster", "DatabaseDb", "SpacesBucket", "Domain")
_TAGGED = ("Droplet", "DatabaseCluster", "Volume")
_IN_PROJECT = ("Droplet", "DatabaseCluster", "SpacesBucket", "Domain")
_WRITES = (
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:DeleteObject",
    "s3:PutBucketPolicy",
    "s3:PutBucketAcl",
    "s3:DeleteBucket",
)


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One resource that breaks one rule."""

    rule: str
    resource: str
    message: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.rule}: {self.resource}: {self.message}"


Rule = Callable[[Preview], Iterator[tuple[Resource | str, str]]]


def ssh_not_open(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """Port 22 is open to named networks, not to the world."""
    for firewall in preview.of_kind("Firewall"):
        for rule in _mappings(firewall.inputs.get("inboundRules")):
            open_to = [source for source in _texts(rule.get("sourceAddresses")) if source.endswith("/0")]
            if rule.get("protocol") == "tcp" and _covers(rule.get("portRange"), _SSH_PORT) and open_to:
                yield firewall, f"SSH is open to {', '.join(open_to)}; name the networks in ancla:access.sshSources"


def droplets_behind_firewall(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """Every droplet is behind a cloud firewall."""
    firewalls = list(preview.of_kind("Firewall"))
    for droplet in preview.of_kind("Droplet"):
        tags = set(_texts(droplet.inputs.get("tags")))
        covered = any(
            tags & set(_texts(firewall.inputs.get("tags"))) or firewall.refers_to("dropletIds", droplet)
            for firewall in firewalls
        )
        if not covered:
            yield droplet, "no cloud firewall has its tag or its id, so every port is open"


def data_protected(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """In production, what holds data cannot be deleted before a person unprotects it."""
    if not _is_production(preview):
        return
    for resource in preview.of_kind(*_DATA):
        if not resource.protect:
            yield resource, "holds production data and is not protected"
        if resource.inputs.get("forceDestroy"):
            yield resource, "force_destroy deletes the bucket with its objects"


def data_backed_up(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """In production, backups have a destination, and the droplet has image backups."""
    if not _is_production(preview):
        return
    for droplet in preview.of_kind("Droplet"):
        if not droplet.inputs.get("backups"):
            yield droplet, "has no image backup; set ancla:droplet.backups to weekly or daily"
    backup = preview.config.get("backup")
    destinations = _mappings(backup.get("destinations")) if isinstance(backup, dict) else []
    buckets = {bucket.name for bucket in preview.of_kind("SpacesBucket")}
    if not destinations:
        yield "backup", "has no destination; name a bucket in ancla:backup.destinations"
    for destination in destinations:
        name = str(destination.get("bucket"))
        if "endpoint" not in destination and name not in buckets:
            yield name, "is a backup destination, and no bucket of that name is in the preview"


def backups_encrypted(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """In production, backups are encrypted: the bucket's key alone is not enough to read them."""
    backup = preview.config.get("backup")
    if not _is_production(preview) or not isinstance(backup, dict) or not _mappings(backup.get("destinations")):
        return
    if not _texts(backup.get("recipients")):
        yield "backup", "is not encrypted; `ops backup keygen` makes a key for ancla:backup.recipients"


def database_not_public(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """Every cluster has trusted sources, and the world is not among them."""
    lists = list(preview.of_kind("DatabaseFirewall"))
    for cluster in preview.of_kind("DatabaseCluster"):
        mine = [trusted for trusted in lists if trusted.refers_to("clusterId", cluster)]
        if len(mine) != 1:
            found = "no list" if not mine else f"{len(mine)} lists"
            yield cluster, f"has {found} of trusted sources, and needs exactly one: without, anybody may try a password"
    for trusted in lists:
        if trusted.inputs.get("rules") == UNKNOWN:
            continue
        rules = _mappings(trusted.inputs.get("rules"))
        if not rules:
            yield trusted, "is empty, which lets everybody in"
        for rule in rules:
            value = str(rule.get("value"))
            if rule.get("type") == "ip_addr" and (value.endswith("/0") or value in ANY_ADDRESS):
                yield trusted, f"lets {value} in"


def bucket_not_public_write(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """Buckets are not publicly writable."""
    for bucket in preview.of_kind("SpacesBucket"):
        if bucket.inputs.get("acl") == "public-read-write":
            yield bucket, "its ACL is public-read-write; use private"
    for resource in preview.of_kind("SpacesBucketPolicy"):
        for statement in _statements(resource.inputs.get("policy")):
            public = statement.get("Effect") == "Allow" and _is_everybody(statement.get("Principal"))
            allowed = [action for action in _WRITES if _allows(statement, action)]
            if public and allowed:
                yield resource, f"lets anybody do {', '.join(allowed)}"


def tagged(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """Every resource that takes tags has the tag of its environment."""
    tag = f"{preview.config.get('project')}-{preview.config.get('environment')}"
    for resource in preview.of_kind(*_TAGGED):
        tags = _texts(resource.inputs.get("tags"))
        if tag not in tags and UNKNOWN not in tags:
            yield resource, f"lacks the tag {tag}"


def in_project(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """Every resource that a project can contain is in the environment's project."""
    lists = list(preview.of_kind("ProjectResources"))
    for resource in preview.of_kind(*_IN_PROJECT):
        if not any(resource.urn in item.property_dependencies.get("resources", []) for item in lists):
            yield resource, "is in no project of the environment"


def within_budget(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """The monthly estimate is within `ancla:budget`, where there is one."""
    budget = preview.config.get("budget")
    if budget in (None, ""):
        return
    total = round(sum(resource_prices((item.type, item.inputs) for item in preview.resources)), 2)
    if total > float(budget):
        yield "environment", f"costs {total:.2f} US dollars a month, and ancla:budget is {budget}"


RULES: Mapping[str, Rule] = {
    "ssh-not-open": ssh_not_open,
    "droplets-behind-firewall": droplets_behind_firewall,
    "data-protected": data_protected,
    "data-backed-up": data_backed_up,
    "backups-encrypted": backups_encrypted,
    "database-not-public": database_not_public,
    "bucket-not-public-write": bucket_not_public_write,
    "tagged": tagged,
    "in-project": in_project,
    "within-budget": within_budget,
}


def check(preview: Preview, rules: Mapping[str, Rule] = RULES) -> list[Violation]:
    """Return every violation that no exemption covers, and every exemption that names no rule."""
    exemptions = _mappings(preview.config.get("exemptions"))
    exempt = {(str(item.get("rule")), str(item.get("resource"))) for item in exemptions if item.get("reason")}
    found = [
        Violation(
            rule="exemptions", resource=str(item.get("resource")), message=f"no rule is called {item.get('rule')!r}"
        )
        for item in exemptions
        if item.get("rule") not in RULES
    ]
    for name, rule in rules.items():
        for resource, message in rule(preview):
            names = {resource} if isinstance(resource, str) else {resource.name, resource.logical_name}
            if not any((name, known) in exempt for known in names):
                shown = resource if isinstance(resource, str) else resource.name
                found.append(Violation(rule=name, resource=shown, message=message))
    return found


def _is_production(preview: Preview) -> bool:
    return preview.config.get("environment") not in DISPOSABLE_ENVIRONMENTS


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _covers(port_range: Any, port: int) -> bool:
    """Return True if a port is in a range as firewalls write it: `22`, `1-1024`, and `all` or `0` for every port."""
    text = str(port_range or "")
    if text in ("all", "0"):
        return True
    low, _, high = text.partition("-")
    return low.isdigit() and int(low) <= port <= int(high if high.isdigit() else low)


def _statements(policy: Any) -> list[Mapping[str, Any]]:
    if not isinstance(policy, str) or policy == UNKNOWN:
        return []
    try:
        document: Any = json.loads(policy)
    except json.JSONDecodeError:
        return []
    statements = document.get("Statement") if isinstance(document, dict) else None
    return _mappings([statements] if isinstance(statements, dict) else statements)


def _is_everybody(principal: Any) -> bool:
    values: Iterable[Any] = principal.values() if isinstance(principal, dict) else [principal]
    return any("*" in (value if isinstance(value, list) else [value]) for value in values)


def _allows(statement: Mapping[str, Any], action: str) -> bool:
    if "NotAction" in statement:
        return not any(_matches(pattern, action) for pattern in _listed(statement["NotAction"]))
    return any(_matches(pattern, action) for pattern in _listed(statement.get("Action")))


def _listed(value: Any) -> list[str]:
    return _texts(value) if isinstance(value, list) else [str(value)]


def _matches(pattern: str, action: str) -> bool:
    return fnmatchcase(action.lower(), pattern.lower())
