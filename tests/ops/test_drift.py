"""What `ops converge` and `ops drift` read of the engine: the documents of host commands, the events of a refresh."""

from __future__ import annotations

import json

import pytest

from ops.core.errors import StackError
from ops.stack import drift
from ops.stack.deployment import SECRET_SIGNATURE

PARENT = "urn:pulumi:prod::ancla::ancla:index:Environment$ancla:index:AppDroplet$ancla:index:"
COMMAND = "command:local:Command"


def command(kind: str, name: str, document: object, **more: object) -> dict[str, object]:
    text = json.dumps(json.dumps(document))
    stdin = {SECRET_SIGNATURE: "1b47061264138c4ac30d75fd1eb44270", "plaintext": text}
    return {"type": COMMAND, "urn": f"{PARENT}{kind}${COMMAND}::{name}-command", "inputs": {"stdin": stdin}, **more}


def exported(monkeypatch: pytest.MonkeyPatch, *resources: dict[str, object]) -> None:
    monkeypatch.setattr(drift, "pulumi_json", lambda *_, **__: {"deployment": {"resources": list(resources)}})


def test_the_documents_are_those_of_the_last_up_in_its_order(monkeypatch):
    exported(
        monkeypatch,
        command("FirstContact", "a-first", {"n": 0}),
        command("Converge", "a-converge", {"n": 1}),
        command("Converge", "old-converge", {"n": 2}, delete=True),
        command("OpsInstall", "a-ops", {"n": 3}),
        {"type": "digitalocean:index/droplet:Droplet", "urn": f"{PARENT}x::a"},
    )
    found = drift.host_commands("prod")
    assert [(one.name, one.verb, json.loads(one.document)) for one in found] == [
        ("a-converge", "converge", {"n": 1}),
        ("a-ops", "ops", {"n": 3}),
    ]
    assert "document" not in repr(found[0])


def test_a_stack_without_a_droplet_says_what_to_do(monkeypatch):
    exported(monkeypatch)
    with pytest.raises(StackError, match="prod: no droplet was converged yet; run `pulumi up`"):
        drift.host_commands("prod")


def test_a_changed_and_a_deleted_resource_are_named_and_what_is_as_it_was_is_not():
    firewall = "urn:pulumi:prod::ancla::ancla:index:Network$digitalocean:index/firewall:Firewall::prod-firewall"
    check = "urn:pulumi:prod::ancla::ancla:index:Monitoring$digitalocean:index/uptimeCheck:UptimeCheck::prod-uptime"
    steps = [
        {"op": "refresh", "urn": "urn:pulumi:prod::ancla::digitalocean:index/vpc:Vpc::prod", "detailedDiff": None},
        {"op": "update", "urn": firewall, "detailedDiff": {"inboundRules[3]": {"kind": "add"}}},
        {"op": "delete", "urn": check, "detailedDiff": None},
    ]
    changed, gone = drift.drifted({"steps": steps})
    assert (changed.name, changed.gone, changed.properties) == ("prod-firewall", False, ("inboundRules[3]",))
    assert changed.kind == "digitalocean:index/firewall:Firewall"
    assert (gone.name, gone.gone) == ("prod-uptime", True)
