"""The rules. Each is a pure function from a preview to its violations, with what to do about them.

A resource may break a rule where the stack file says so, with a reason and maybe until a day: `ancla:exemptions`.
Which kinds hold data, take tags or cost something is in `blueprint.kinds`.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from blueprint.cost import resource_prices
from blueprint.kinds import KINDS
from blueprint.settings.environment import DISPOSABLE_ENVIRONMENTS, stem_of
from policy.openness import SSH_PORT, WEB_PORTS, mappings, named_ports, open_networks, opened, texts
from policy.preview import UNKNOWN, Preview, Resource

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
    for firewall, protocol, ports, sources in opened(preview):
        if protocol == "tcp" and SSH_PORT in ports:
            yield firewall, f"SSH is open to {', '.join(sources)}; name the networks in ancla:access.sshSources"


def ports_not_open(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """No port but 80, 443 and those that `ancla:edge.ports` names with a reason is open to the world."""
    allowed = WEB_PORTS | named_ports(preview)
    for holder, protocol, ports, sources in opened(preview):
        others = set(ports) - allowed - ({SSH_PORT} if protocol == "tcp" else set())  # SSH has a rule of its own
        if others:
            shown = str(ports[0]) if len(ports) == 1 else f"{ports[0]}-{ports[-1]}"
            yield holder, f"{protocol} {shown} is open to {', '.join(sources)}; name the networks that need it"


def droplets_behind_firewall(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """Every droplet is behind a cloud firewall."""
    firewalls = list(preview.of_kind("Firewall"))
    for droplet in preview.of_kind("Droplet"):
        tags = set(texts(droplet.inputs.get("tags")))
        covered = any(
            tags & set(texts(firewall.inputs.get("tags"))) or firewall.refers_to("dropletIds", droplet)
            for firewall in firewalls
        )
        if not covered:
            yield droplet, "no cloud firewall has its tag or its id, so every port is open"


def data_kept(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """Nothing that holds data is deleted or replaced, in any environment, unless an exemption names it."""
    for resource in preview.deleted:
        if resource.is_clouds and resource.kind in KINDS and KINDS[resource.kind].data:
            yield resource, f"the {resource.kind} would be deleted; if it may go, exempt it by this name"
    for resource in preview.where(lambda kind: kind.data):
        if resource.operation == "replace":
            yield (
                resource,
                f"the {resource.kind} would be replaced; if its data may go, exempt it by this name",
            )


def data_protected(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """In production, what holds data cannot be deleted before a person unprotects it."""
    if not _is_production(preview):
        return
    for resource in preview.where(lambda kind: kind.data):
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
            yield droplet, "has no image backup; set ancla:topology.backups to weekly or daily"
    backup = preview.config.get("backup")
    destinations = mappings(backup.get("destinations")) if isinstance(backup, dict) else []
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
    if not _is_production(preview) or not isinstance(backup, dict) or not mappings(backup.get("destinations")):
        return
    if not texts(backup.get("recipients")):
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
        rules = mappings(trusted.inputs.get("rules"))
        if not rules:
            yield trusted, "is empty, which lets everybody in"
        for rule in rules:
            value = str(rule.get("value"))
            if rule.get("type") == "ip_addr" and open_networks([value]):
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
    tag = stem_of(preview.config.get("project"), preview.config.get("environment"))
    for resource in preview.where(lambda kind: kind.tagged):
        tags = texts(resource.inputs.get("tags"))
        if tag not in tags and UNKNOWN not in tags:
            yield resource, f"lacks the tag {tag}"


def in_project(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """Every resource that a project can contain is in the environment's project."""
    lists = list(preview.of_kind("ProjectResources"))
    for resource in preview.where(lambda kind: kind.in_project):
        listed = any(resource.urn in item.property_dependencies.get("resources", []) for item in lists)
        if not listed and not resource.inputs.get("projectId"):
            yield resource, "is in no project of the environment"


def kinds_known(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """Every kind of resource is one that the rules know."""
    for resource in (*preview.resources, *preview.deleted):
        if resource.is_clouds and not _is_known(resource):
            yield resource, f"no rule looks at the kind {resource.type}; give it a row in blueprint/kinds.py"


def priced(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """Every resource has a known price."""
    prices = resource_prices((item.type, item.inputs) for item in preview.resources)
    for resource, price in zip(preview.resources, prices, strict=True):
        if price.monthly is None and _is_known(resource):
            yield resource, f"cannot be priced: {price.unknown.replace(UNKNOWN, 'known only after `up`')}"


def within_budget(preview: Preview) -> Iterator[tuple[Resource | str, str]]:
    """The monthly estimate, with the bills of others in `ancla:costs`, is within `ancla:budget`, where there is one."""
    budget = preview.config.get("budget")
    if budget in (None, ""):
        return
    prices = resource_prices((item.type, item.inputs) for item in preview.resources)
    total = round(sum(price.monthly or 0 for price in prices) + sum(other_costs(preview).values()), 2)
    if total > float(budget):
        yield "environment", f"costs {total:.2f} US dollars a month, and ancla:budget is {budget}"


RULES: Mapping[str, Rule] = {
    "ssh-not-open": ssh_not_open,
    "ports-not-open": ports_not_open,
    "droplets-behind-firewall": droplets_behind_firewall,
    "data-kept": data_kept,
    "data-protected": data_protected,
    "data-backed-up": data_backed_up,
    "backups-encrypted": backups_encrypted,
    "database-not-public": database_not_public,
    "bucket-not-public-write": bucket_not_public_write,
    "tagged": tagged,
    "in-project": in_project,
    "kinds-known": kinds_known,
    "priced": priced,
    "within-budget": within_budget,
}


def check(preview: Preview, rules: Mapping[str, Rule] = RULES, *, today: dt.date | None = None) -> list[Violation]:
    """Return every violation that no exemption covers, and every exemption that names no rule or no such day."""
    exemptions = mappings(preview.config.get("exemptions"))
    found = list(_wrong_exemptions(exemptions))
    day = today or dt.datetime.now(dt.UTC).date()
    for name, rule in rules.items():
        for resource, message in rule(preview):
            names = {resource} if isinstance(resource, str) else {resource.name, resource.logical_name}
            mine = [
                item
                for item in exemptions
                if item.get("rule") == name and str(item.get("resource")) in names and item.get("reason")
            ]
            if any(_holds(item, day) for item in mine):
                continue
            ended = f" (its exemption ended on {mine[0].get('until')})" if mine else ""
            shown = resource if isinstance(resource, str) else resource.name
            found.append(Violation(rule=name, resource=shown, message=message + ended))
    return found


def _wrong_exemptions(exemptions: Iterable[Mapping[str, Any]]) -> Iterator[Violation]:
    for item in exemptions:
        resource = str(item.get("resource"))
        if item.get("rule") not in RULES:
            yield Violation(rule="exemptions", resource=resource, message=f"no rule is called {item.get('rule')!r}")
        if item.get("until") is not None and _last_day(item) is None:
            message = f"until: {item.get('until')!r} is no day; write it as 2027-01-31"
            yield Violation(rule="exemptions", resource=resource, message=message)


def _last_day(exemption: Mapping[str, Any]) -> dt.date | None:
    try:
        return dt.date.fromisoformat(str(exemption.get("until")))
    except ValueError:
        return None


def _holds(exemption: Mapping[str, Any], today: dt.date) -> bool:
    if exemption.get("until") is None:
        return True
    last = _last_day(exemption)
    return last is not None and today <= last


def _is_known(resource: Resource) -> bool:
    return resource.type.startswith("digitalocean:") and resource.kind in KINDS


def other_costs(preview: Preview) -> Mapping[str, float]:
    """Return what others bill, by name: `ancla:costs`."""
    costs = preview.config.get("costs")
    return {name: float(cost) for name, cost in costs.items()} if isinstance(costs, Mapping) else {}


def _is_production(preview: Preview) -> bool:
    disposable = preview.config.get("disposable")  # the engine's text, a stack file's value, or nothing
    if disposable in (None, ""):
        return preview.config.get("environment") not in DISPOSABLE_ENVIRONMENTS
    return disposable not in (True, "true")


def _statements(policy: Any) -> list[Mapping[str, Any]]:
    if not isinstance(policy, str) or policy == UNKNOWN:
        return []
    try:
        document: Any = json.loads(policy)
    except json.JSONDecodeError:
        return []
    statements = document.get("Statement") if isinstance(document, dict) else None
    return mappings([statements] if isinstance(statements, dict) else statements)


def _is_everybody(principal: Any) -> bool:
    values: Iterable[Any] = principal.values() if isinstance(principal, dict) else [principal]
    return any("*" in (value if isinstance(value, list) else [value]) for value in values)


def _allows(statement: Mapping[str, Any], action: str) -> bool:
    if "NotAction" in statement:
        return not any(_matches(pattern, action) for pattern in _listed(statement["NotAction"]))
    return any(_matches(pattern, action) for pattern in _listed(statement.get("Action")))


def _listed(value: Any) -> list[str]:
    return texts(value) if isinstance(value, list) else [str(value)]


def _matches(pattern: str, action: str) -> bool:
    return fnmatchcase(action.lower(), pattern.lower())
