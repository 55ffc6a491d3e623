"""Previews made by hand: one production environment that holds to every rule, to be broken one thing at a time."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from policy.preview import Preview, parse_preview

PREFIX = "urn:pulumi:prod::ancla::ancla:index:Environment$"
TOKENS = {
    "Command": "command:local:Command",
}


def token(kind: str) -> str:
    return TOKENS.get(kind, f"digitalocean:index/{kind[0].lower()}{kind[1:]}:{kind}")


def urn(kind: str, name: str) -> str:
    return f"{PREFIX}{token(kind)}::{name}"


def step(
    kind: str,
    name: str,
    inputs: dict[str, Any],
    *,
    op: str = "create",
    protect: bool = False,
    made_from: dict[str, list[str]] | None = None,
) -> dict[str, Any]:
    state = {"type": token(kind), "inputs": inputs, "protect": protect, "propertyDependencies": made_from or {}}
    return {"op": op, "urn": urn(kind, name), "newState": state}


def compliant() -> dict[str, Any]:
    """The document of a production environment that holds to every rule."""
    held = [urn("Droplet", "app"), urn("DatabaseCluster", "db"), urn("SpacesBucket", "backups"), urn("Domain", "zone")]
    rules = [{"protocol": "tcp", "portRange": "22", "sourceAddresses": ["203.0.113.0/24"]}]
    cluster = [urn("DatabaseCluster", "db")]
    policy = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}]}
    steps = [
        step("Firewall", "firewall", {"name": "acme-prod", "tags": ["acme-prod"], "inboundRules": rules}),
        step(
            "Droplet",
            "app",
            {"name": "acme-prod", "tags": ["acme-prod"], "backups": True, "size": "s-1vcpu-1gb"},
            protect=True,
        ),
        step(
            "DatabaseCluster", "db", {"name": "acme-db", "tags": ["acme-prod"], "size": "db-s-1vcpu-1gb"}, protect=True
        ),
        step(
            "DatabaseFirewall",
            "trusted",
            {"clusterId": "unknown", "rules": [{"type": "tag", "value": "acme-prod"}]},
            made_from={"clusterId": cluster},
        ),
        step("SpacesBucket", "backups", {"name": "acme-backups", "acl": "private"}, protect=True),
        step("SpacesBucketPolicy", "readers", {"bucket": "acme-backups", "policy": json.dumps(policy)}),
        step("Domain", "zone", {"name": "example.org"}, protect=True),
        step("ProjectResources", "held", {"project": "p"}, made_from={"resources": held}),
    ]
    config = {
        "ancla:environment": "prod",
        "ancla:project": "acme",
        "ancla:budget": "50",
        "ancla:backup": json.dumps(
            {"destinations": {"spaces": {"bucket": "acme-backups"}}, "recipients": ["age1acme"]}
        ),
    }
    return {"config": config, "steps": steps, "changeSummary": {"create": len(steps)}}


class Draft:
    """A compliant document that a test changes."""

    def __init__(self) -> None:
        self.document = deepcopy(compliant())

    def step(self, kind: str) -> dict[str, Any]:
        return next(item for item in self.document["steps"] if item["newState"]["type"] == token(kind))

    def inputs(self, kind: str) -> dict[str, Any]:
        return self.step(kind)["newState"]["inputs"]

    def remove(self, kind: str) -> None:
        self.document["steps"].remove(self.step(kind))

    def add(self, item: dict[str, Any]) -> None:
        self.document["steps"].append(item)

    def configure(self, key: str, value: Any) -> None:
        self.document["config"][f"ancla:{key}"] = value if isinstance(value, str) else json.dumps(value)

    def exempt(self, rule: str, resource: str, reason: str = "said so", **more: str) -> None:
        self.configure("exemptions", {rule: {resource: {"reason": reason, **more}}})

    def parse(self) -> Preview:
        return parse_preview(json.dumps(self.document))
