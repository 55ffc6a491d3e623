"""Each rule on what holds to it, what breaks it, what is missing, what is unknown, and what is exempt."""

from __future__ import annotations

import json
from collections.abc import Callable
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
    ("ssh-not-open", "acme-prod", ssh_from("0.0.0.0/0", ports="1-1024")),
    ("ssh-not-open", "acme-prod", ssh_from("0.0.0.0/0", ports="all")),
    ("ssh-not-open", "acme-prod", ssh_from("0.0.0.0/0", ports="0")),
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
    ("tagged", "acme-db", drop_input("DatabaseCluster", "tags")),
    ("in-project", "acme-prod", out_of_project),
    ("in-project", "acme-db", lambda draft: draft.remove("ProjectResources")),
]

COMPLIANT: list[tuple[str, Change]] = [
    ("as it is", lambda _: None),
    ("SSH from one address", ssh_from("203.0.113.7/32")),
    ("web from everywhere", ssh_from("0.0.0.0/0", ports="80")),
    ("a range without 22", ssh_from("0.0.0.0/0", ports="1000-2000")),
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
    assert {rule for rule, _, _ in MISSING} | {"ssh-not-open", "bucket-not-public-write", "within-budget"} == set(RULES)


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


def test_an_environment_of_another_name_is_production():
    draft = Draft()
    draft.configure("environment", "live")
    unprotect("DatabaseCluster")(draft)

    assert "data-protected" in {item.rule for item in check(draft.parse())}
