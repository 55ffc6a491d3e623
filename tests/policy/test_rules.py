"""Each rule on what holds to it, what breaks it, what is missing, what is unknown, and what is exempt."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from policy.preview import UNKNOWN
from policy.rules import RULES, Violation, check
from tests.policy.builders import Draft, step

Change = Callable[[Draft], Any]


def broken(change: Change) -> list[Violation]:
    draft = Draft()
    change(draft)
    return check(draft.parse())


def set_input(kind: str, key: str, value: Any) -> Change:
    return lambda draft: draft.inputs(kind).update({key: value})


def drop_input(kind: str, key: str) -> Change:
    return lambda draft: draft.inputs(kind).pop(key)


def ssh_from(*sources: str, ports: str = "22", protocol: str = "tcp") -> Change:
    rule = {"protocol": protocol, "portRange": ports, "sourceAddresses": list(sources)}
    return set_input("Firewall", "inboundRules", [rule])


def named_port(port: int, why: str) -> Change:
    def change(draft: Draft) -> None:
        ssh_from("0.0.0.0/0", ports=str(port), protocol="udp")(draft)
        draft.configure("edge", {"ports": {"tunnel": {"port": port, "protocol": "udp", "why": why}}})

    return change


def balancer(port: int, allows: list[str] | None = None) -> Change:
    inputs: dict[str, Any] = {
        "name": "lb",
        "projectId": "p",
        "forwardingRules": [{"entryProtocol": "tcp", "entryPort": port}],
        "firewall": {"allows": allows or []},
    }
    return lambda draft: [draft.configure("budget", "100"), draft.add(step("LoadBalancer", "lb", inputs, protect=True))]


def operation(kind: str, op: str) -> Change:
    return lambda draft: draft.step(kind).update(op=op)


def deleted(kind: str, name: str, **state: Any) -> Change:
    def change(draft: Draft) -> None:
        item = step(kind, name, {"name": name}, op="delete")
        draft.add({**item, "newState": None, "oldState": {**item["newState"], **state}})

    return change


def foreign(token: str, name: str) -> dict[str, Any]:
    return {"op": "create", "urn": f"urn:x::{token}::{name}", "newState": {"type": token, "inputs": {"name": name}}}


def statement(**changes: Any) -> Change:
    item = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*", **changes}
    return set_input("SpacesBucketPolicy", "policy", json.dumps({"Statement": [item]}))


def unprotect(kind: str) -> Change:
    return lambda draft: draft.step(kind)["newState"].update(protect=False)


def trusted(*values: str) -> Change:
    return set_input("DatabaseFirewall", "rules", [{"type": "ip_addr", "value": value} for value in values])


def second_list(draft: Draft) -> None:
    original = draft.step("DatabaseFirewall")
    draft.add({**original, "urn": original["urn"] + "-2"})


def out_of_project(draft: Draft) -> None:
    draft.step("ProjectResources")["newState"]["propertyDependencies"] = {"resources": []}


def backup(destination: dict[str, str]) -> dict[str, Any]:
    return {"destinations": [destination], "recipients": ["age1who"]}


VIOLATING: list[tuple[str, str, Change]] = [
    # rule, the resource it names, what breaks it
    ("ssh-not-open", "acme-prod", ssh_from("0.0.0.0/0")),
    ("ssh-not-open", "acme-prod", ssh_from("203.0.113.0/24", "::/0")),
    ("ssh-not-open", "acme-prod", ssh_from("0.0.0.0/1")),
    ("ssh-not-open", "acme-prod", ssh_from(*(f"{first}.0.0.0/8" for first in range(16, 32)))),
    ("ssh-not-open", "acme-prod", ssh_from("2000::/3")),
    ("ssh-not-open", "acme-prod", ssh_from("everywhere")),
    ("ports-not-open", "acme-prod", ssh_from("0.0.0.0/0", ports="5432")),
    ("ports-not-open", "acme-prod", ssh_from("::/0", ports="6379")),
    ("ports-not-open", "acme-prod", ssh_from("128.0.0.0/1", ports="9000-9100")),
    ("ports-not-open", "acme-prod", ssh_from("0.0.0.0/0", ports="53", protocol="udp")),
    ("ports-not-open", "acme-prod", ssh_from("0.0.0.0/0", ports="22", protocol="udp")),
    ("ports-not-open", "lb", balancer(8080)),
    ("data-kept", "acme-db", operation("DatabaseCluster", "replace")),
    ("data-kept", "acme-prod", operation("Droplet", "create-replacement")),
    ("data-kept", "acme-old", deleted("SpacesBucket", "acme-old")),
    ("data-kept", "acme-data", deleted("Volume", "acme-data")),
    ("droplets-behind-firewall", "acme-prod", set_input("Firewall", "tags", ["other"])),
    ("data-protected", "acme-prod", unprotect("Droplet")),
    ("data-protected", "acme-db", unprotect("DatabaseCluster")),
    ("data-protected", "acme-backups", unprotect("SpacesBucket")),
    ("data-protected", "example.org", unprotect("Domain")),
    ("data-protected", "acme-backups", set_input("SpacesBucket", "forceDestroy", True)),
    ("data-protected", "acme", lambda draft: draft.add(step("DatabaseDb", "d", {"name": "acme"}))),
    ("data-backed-up", "acme-prod", set_input("Droplet", "backups", False)),
    ("data-backed-up", "elsewhere", lambda d: d.configure("backup", backup({"bucket": "elsewhere"}))),
    (
        "backups-encrypted",
        "backup",
        lambda d: d.configure("backup", {**backup({"bucket": "acme-backups"}), "recipients": []}),
    ),
    ("database-not-public", "trusted", trusted("0.0.0.0/0")),
    ("database-not-public", "trusted", trusted("203.0.113.7/32", "::/0")),
    ("database-not-public", "trusted", trusted("0.0.0.0")),
    ("database-not-public", "acme-db", second_list),
    ("bucket-not-public-write", "acme-backups", set_input("SpacesBucket", "acl", "public-read-write")),
    ("bucket-not-public-write", "readers", statement(Action="s3:PutObject")),
    ("bucket-not-public-write", "readers", statement(Action=["s3:GetObject", "s3:*"])),
    ("bucket-not-public-write", "readers", statement(Action="*", Principal={"AWS": "*"})),
    ("bucket-not-public-write", "readers", statement(Action="S3:deleteobject", Principal={"AWS": ["*"]})),
    (
        "tagged",
        "acme-prod",
        lambda d: [set_input("Droplet", "tags", ["x"])(d), set_input("Firewall", "tags", ["x"])(d)],
    ),
    ("tagged", "acme-db", set_input("DatabaseCluster", "tags", [])),
    ("kinds-known", "vm", lambda draft: draft.add(step("Microvm", "vm", {"name": "vm"}))),
    ("kinds-known", "vm", deleted("Microvm", "vm")),
    ("kinds-known", "else", lambda draft: draft.add(foreign("aws:s3/bucket:Bucket", "else"))),
    ("priced", "acme-prod", set_input("Droplet", "size", "m-2vcpu-16gb")),
    ("priced", "acme-db", set_input("DatabaseCluster", "size", UNKNOWN)),
    ("within-budget", "environment", lambda draft: draft.configure("budget", "10")),
]

MISSING: list[tuple[str, str, Change]] = [
    ("droplets-behind-firewall", "acme-prod", lambda draft: draft.remove("Firewall")),
    ("data-protected", "example.org", lambda draft: draft.step("Domain")["newState"].pop("protect")),
    ("data-backed-up", "acme-prod", drop_input("Droplet", "backups")),
    ("data-backed-up", "backup", lambda draft: draft.document["config"].pop("ancla:backup")),
    ("data-backed-up", "backup", lambda draft: draft.configure("backup", {"schedule": "daily"})),
    ("backups-encrypted", "backup", lambda d: d.configure("backup", {"destinations": [{"bucket": "acme-backups"}]})),
    ("database-not-public", "acme-db", lambda draft: draft.remove("DatabaseFirewall")),
    ("database-not-public", "trusted", drop_input("DatabaseFirewall", "rules")),
    ("database-not-public", "trusted", set_input("DatabaseFirewall", "rules", [])),
    ("priced", "acme-db", drop_input("DatabaseCluster", "size")),
    ("tagged", "acme-db", drop_input("DatabaseCluster", "tags")),
    ("in-project", "acme-prod", out_of_project),
    ("in-project", "acme-db", lambda draft: draft.remove("ProjectResources")),
]

COMPLIANT: list[tuple[str, Change]] = [
    ("as it is", lambda _: None),
    ("SSH from one address", ssh_from("203.0.113.7/32")),
    ("web from everywhere", ssh_from("0.0.0.0/0", ports="80")),
    ("HTTPS from everywhere", ssh_from("0.0.0.0/0", "::/0", ports="443")),
    ("a port that the stack file names", named_port(51820, why="the tunnel of the team")),
    ("a port of one network", ssh_from("203.0.113.0/24", ports="9100")),
    ("a private network", ssh_from("10.0.0.0/8", ports="1-65535")),
    ("an address with host bits", ssh_from("203.0.113.7/24", ports="22")),
    ("sources known only after up", ssh_from(UNKNOWN, ports="22")),
    ("a balancer of the web", balancer(443)),
    ("a balancer's port for one network", balancer(8080, allows=["cidr:203.0.113.0/24"])),
    ("a retained bucket that leaves the program", deleted("SpacesBucket", "old", retainOnDelete=True)),
    ("a record that goes", deleted("DnsRecord", "www")),
    ("a command that is run again", lambda draft: draft.add({**step("Command", "c", {}), "op": "replace"})),
    ("ping from everywhere", ssh_from("0.0.0.0/0", ports="", protocol="icmp")),
    ("no firewall rule at all", drop_input("Firewall", "inboundRules")),
    ("a database of one network", trusted("203.0.113.0/24")),
    ("a bucket with no ACL said", drop_input("SpacesBucket", "acl")),
    ("a bucket that anybody may list", statement(Action=["s3:GetObject", "s3:ListBucket"])),
    ("a bucket that one user may write", statement(Action="s3:*", Principal={"AWS": "arn:aws:iam:::user/one"})),
    ("a bucket that nobody may write", statement(Effect="Deny", Action="s3:PutObject")),
    ("no budget", lambda draft: draft.document["config"].pop("ancla:budget")),
    (
        "a bucket elsewhere",
        lambda d: d.configure("backup", backup({"bucket": "b", "endpoint": "https://s"})),
    ),
]

UNKNOWN_VALUES: list[Change] = [
    set_input("Droplet", "tags", [UNKNOWN]),
    set_input("DatabaseCluster", "tags", [UNKNOWN]),
    set_input("DatabaseFirewall", "rules", UNKNOWN),
    set_input("SpacesBucketPolicy", "policy", UNKNOWN),
]


@pytest.mark.parametrize(("rule", "resource", "change"), VIOLATING)
def test_violating(rule: str, resource: str, change: Change):
    assert [(item.rule, item.resource) for item in broken(change)] == [(rule, resource)]


@pytest.mark.parametrize("ports", ["1-1024", "all", "0"])
def test_a_range_that_has_ssh_breaks_both_rules(ports: str):
    found = broken(ssh_from("0.0.0.0/0", ports=ports))

    assert [item.rule for item in found] == ["ssh-not-open", "ports-not-open"]


def test_a_port_named_without_a_reason_stays_closed():
    assert [item.rule for item in broken(named_port(51820, why=""))] == ["ports-not-open"]


@pytest.mark.parametrize("environment", ["staging", "development", "prod"])
@pytest.mark.parametrize("protect", [True, False])
def test_data_is_kept_in_every_environment_protected_or_not(environment: str, protect: bool):
    draft = Draft()
    draft.configure("environment", environment)
    deleted("DatabaseCluster", "acme-old", protect=protect)(draft)

    assert ("data-kept", "acme-old") in [(item.rule, item.resource) for item in check(draft.parse())]


@pytest.mark.parametrize(("day", "holds"), [("2027-01-30", True), ("2027-01-31", True), ("2027-02-01", False)])
def test_an_exemption_may_have_a_last_day(day: str, holds: bool):
    draft = Draft()
    ssh_from("0.0.0.0/0")(draft)
    draft.exempt("ssh-not-open", "acme-prod", until="2027-01-31")

    found = check(draft.parse(), today=date.fromisoformat(day))

    assert (found == []) is holds
    assert holds or str(found[0]).endswith("(its exemption ended on 2027-01-31)")


def test_an_exemption_until_no_day_is_a_violation_and_covers_nothing():
    draft = Draft()
    ssh_from("0.0.0.0/0")(draft)
    draft.exempt("ssh-not-open", "acme-prod", until="soon")

    assert [item.rule for item in check(draft.parse())] == ["exemptions", "ssh-not-open"]


@pytest.mark.parametrize(("rule", "resource", "change"), MISSING)
def test_missing(rule: str, resource: str, change: Change):
    assert (rule, resource) in [(item.rule, item.resource) for item in broken(change)]
    assert {item.rule for item in broken(change)} <= {rule, "droplets-behind-firewall"}


@pytest.mark.parametrize(("name", "change"), COMPLIANT)
def test_compliant(name: str, change: Change):
    assert broken(change) == []


@pytest.mark.parametrize("change", UNKNOWN_VALUES[2:])
def test_what_is_known_only_after_up_is_no_violation(change: Change):
    assert broken(change) == []


def test_an_unknown_tag_counts_as_the_environments():
    assert "tagged" not in {item.rule for item in broken(UNKNOWN_VALUES[0])}
    assert broken(UNKNOWN_VALUES[1]) == []


@pytest.mark.parametrize(("rule", "resource", "change"), [*VIOLATING, *MISSING])
def test_exempt(rule: str, resource: str, change: Change):
    draft = Draft()
    change(draft)
    draft.exempt(rule, resource)

    assert (rule, resource) not in [(item.rule, item.resource) for item in check(draft.parse())]


@pytest.mark.parametrize(("rule", "resource", "change"), VIOLATING)
@pytest.mark.parametrize(
    ("other", "reason"), [({"resource": "another"}, "said so"), ({}, ""), ({"rule": "tagged"}, "said so")]
)
def test_an_exemption_of_something_else_or_without_reason_changes_nothing(
    rule: str, resource: str, change: Change, other: dict[str, str], reason: str
):
    if other.get("rule") == rule:
        pytest.skip("the same rule")
    draft = Draft()
    change(draft)
    draft.exempt(**{"rule": rule, "resource": resource, **other}, reason=reason)

    assert (rule, resource) in [(item.rule, item.resource) for item in check(draft.parse())]


def test_an_exemption_from_no_rule_is_a_violation():
    draft = Draft()
    draft.exempt("shh-not-open", "acme-prod")

    assert [(item.rule, item.resource) for item in check(draft.parse())] == [("exemptions", "acme-prod")]


def test_every_rule_has_cases_of_every_kind():
    assert {rule for rule, _, _ in VIOLATING} | {"in-project"} == set(RULES)
    present = {"ssh-not-open", "ports-not-open", "bucket-not-public-write", "data-kept", "kinds-known", "within-budget"}
    assert {rule for rule, _, _ in MISSING} | present == set(RULES)


def test_every_rule_says_what_it_wants():
    assert all((rule.__doc__ or "").endswith(".") for rule in RULES.values())


@pytest.mark.parametrize("environment", ["staging", "development"])
def test_where_data_may_go_it_needs_no_protection_and_no_backup(environment: str):
    draft = Draft()
    draft.configure("environment", environment)
    draft.configure("project", "acme")
    for kind in ("Droplet", "DatabaseCluster", "Firewall"):
        draft.inputs(kind)["tags"] = [f"acme-{environment}"]
    unprotect("DatabaseCluster")(draft)
    draft.inputs("Droplet")["backups"] = False

    assert check(draft.parse()) == []


@pytest.mark.parametrize(
    ("environment", "disposable", "kept"),
    [("live", "true", False), ("live", True, False), ("staging", "false", True), ("staging", False, True)],
)
def test_the_stack_file_may_say_whether_data_may_go(environment: str, disposable: object, kept: bool):
    draft = Draft()
    draft.configure("environment", environment)
    unprotect("DatabaseCluster")(draft)
    preview = draft.parse()
    # The engine gives text, a stack file the value.
    preview = dataclasses.replace(preview, config={**preview.config, "disposable": disposable})

    assert ("data-protected" in {item.rule for item in check(preview)}) is kept


def test_the_bills_of_others_count_towards_the_budget():
    draft = Draft()
    draft.configure("budget", "1000")
    assert "within-budget" not in {item.rule for item in check(draft.parse())}
    draft.configure("costs", {"sendgrid": 990})

    assert "within-budget" in {item.rule for item in check(draft.parse())}


def test_an_environment_of_another_name_is_production():
    draft = Draft()
    draft.configure("environment", "live")
    unprotect("DatabaseCluster")(draft)

    assert "data-protected" in {item.rule for item in check(draft.parse())}
