"""A record's resource is named after the record: what is added or removed beside it leaves it alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.components.kit import Recording, Registered

SPF = {"type": "TXT", "name": "@", "value": "v=spf1 -all"}
CHECK = {"type": "TXT", "name": "@", "value": "site-check=abc"}
THIRD = {"type": "TXT", "name": "@", "value": "other-check=1"}
MANY: list[dict[str, Any]] = [
    SPF,
    CHECK,
    THIRD,
    {"type": "A", "name": "docs", "value": "203.0.113.9"},
    {"type": "A", "name": "docs", "value": "203.0.113.10"},
    {"type": "AAAA", "name": "docs", "value": "2001:db8::9"},
    {"type": "CNAME", "name": "help", "value": "pages.example.org"},
    {"type": "MX", "name": "@", "value": "mx1.example.org", "priority": 10},
    {"type": "MX", "name": "@", "value": "mx2.example.org", "priority": 10},
    {"type": "SRV", "name": "_sip._tcp", "value": "sip.example.org", "priority": 1, "weight": 1, "port": 5060},
    {"type": "SRV", "name": "_sip._tcp", "value": "sip.example.org", "priority": 1, "weight": 1, "port": 5061},
    {"type": "NS", "name": "lab", "value": "ns1.example.org"},
    {"type": "NS", "name": "lab", "value": "ns2.example.org"},
    {"type": "CAA", "name": "@", "value": ";", "flags": 0, "tag": "issuewild"},
    {"type": "TXT", "name": "apex", "value": "v=spf1 -all"},
]

Build = Callable[..., Recording]


def records(build: Build, *wanted: dict[str, Any], **changes: Any) -> dict[str, Registered]:
    labelled = {f"record-{number}": record for number, record in enumerate(wanted)}
    recording = build("prod", {"edge": {"dns": {"records": labelled}, **changes}})
    found = {item.name.partition("-dns-")[2]: item for item in recording.of_type("DnsRecord")}
    assert len(found) == len(recording.of_type("DnsRecord")), "two records, one name"
    return found


def inputs(found: dict[str, Registered]) -> dict[str, dict[str, Any]]:
    return {key: item.inputs for key, item in found.items()}


def test_a_second_text_at_the_apex_is_one_more_resource(build: Build):
    before, after = inputs(records(build, SPF)), inputs(records(build, SPF, CHECK))

    assert len(after.keys() - before.keys()) == 1
    assert before.items() <= after.items()


def test_the_first_of_three_goes_alone(build: Build):
    before, after = inputs(records(build, SPF, CHECK, THIRD)), inputs(records(build, CHECK, THIRD))

    assert len(before.keys() - after.keys()) == 1
    assert after.items() <= before.items()


def test_the_order_of_records_and_their_labels_name_nothing(build: Build):
    mixed = random.Random(1).sample(MANY, len(MANY))

    assert inputs(records(build, *MANY)) == inputs(records(build, *mixed))


@pytest.mark.parametrize("gone", range(len(MANY)))
def test_whichever_record_goes_the_others_stay(build: Build, gone: int):
    before = records(build, *MANY)
    after = records(build, *MANY[:gone], *MANY[gone + 1 :])

    for key, item in after.items():
        known = [key, *(alias.spec.name.partition("-dns-")[2] for alias in item.options.aliases)]
        assert any(before[name].inputs == item.inputs for name in known if name in before), key


def test_an_address_becomes_another_name_in_place_of_itself(build: Build):
    """The API lets no CNAME be beside an address: so it is one resource, whose delete comes first."""
    address = records(build, {"type": "A", "name": "docs", "value": "203.0.113.9"})["host-docs"]
    alias = records(build, {"type": "CNAME", "name": "docs", "value": "pages.example.org"})["host-docs"]

    assert address.urn == alias.urn
    assert address.options.deleteBeforeReplace
    assert alias.options.deleteBeforeReplace


def test_what_comes_to_a_name_waits_for_the_cname_to_go(build: Build):
    found = records(
        build,
        {"type": "TXT", "name": "docs", "value": "a"},
        {"type": "A", "name": "docs", "value": "203.0.113.9"},
    )
    text = next(item for key, item in found.items() if key.startswith("txt-docs-"))

    assert found["host-docs"].urn in text.options.dependencies


def test_a_second_address_takes_the_first_one_over(build: Build):
    one, two = ({"type": "A", "name": "docs", "value": f"203.0.113.{end}"} for end in (9, 10))
    alone, both = records(build, one), records(build, one, two)

    assert alone["host-docs"].inputs == both["a-docs-203.0.113.9"].inputs
    assert [alias.spec.name for alias in both["a-docs-203.0.113.9"].options.aliases] == [alone["host-docs"].name]
    assert not both["a-docs-203.0.113.10"].options.aliases
    assert [alias.spec.name for alias in alone["host-docs"].options.aliases] == [both["a-docs-203.0.113.9"].name]


@pytest.mark.parametrize(
    ("record", "value"),
    [
        ({"type": "MX", "name": "@", "value": ".", "priority": 0}, "."),
        ({"type": "SRV", "name": "_imap._tcp", "value": ".", "priority": 0, "weight": 0, "port": 0}, "."),
        ({"type": "CAA", "name": "@", "value": ";", "flags": 0, "tag": "issuewild"}, ";"),
    ],
)
def test_what_says_that_nothing_is_here_reaches_the_api_as_it_is(build: Build, record: dict[str, Any], value: str):
    found = next(item for item in records(build, record).values() if item.inputs["value"] == value)

    assert found.inputs["type"] == record["type"]
    assert list(found.options.ignoreChanges) == ["value"], "the provider adds a dot to what it reads"


def test_values_are_sent_in_one_form(build: Build):
    found = records(
        build,
        {"type": "AAAA", "name": "Docs", "value": "2001:DB8:0:0::9"},
        {"type": "CNAME", "name": "help.nextgentech.mx.", "value": "Pages.Example.org."},
    )
    sent = {(item.inputs["name"], item.inputs["value"]) for item in found.values()}

    assert {("docs", "2001:db8::9"), ("help", "pages.example.org.")} <= sent


def test_the_zone_may_be_above_the_names(build: Build):
    found = records(build, names=["app.nextgentech.mx", "www.app.nextgentech.mx"], zone="nextgentech.mx")

    assert {item.inputs["name"] for key, item in found.items() if key.startswith("host-")} == {"app", "www.app"}


def test_every_record_has_the_ttl_of_the_zone_or_its_own(build: Build):
    recording = build(
        "prod",
        {"edge": {"dns": {"ttl": "5m", "records": {"spf": SPF, "docs": {**MANY[3], "ttl": "1m"}}}}},
    )
    ttls = {item.name.partition("-dns-")[2]: item.inputs["ttl"] for item in recording.of_type("DnsRecord")}

    assert ttls.pop("host-docs") == 60
    assert set(ttls.values()) == {300}


@pytest.mark.parametrize(
    ("changes", "authorities"),
    [
        ({}, ["letsencrypt.org."]),
        ({"tls": {"issuer": "managed"}}, ["letsencrypt.org."]),
        ({"tls": {"issuer": "custom"}}, []),
        ({"tls": {"issuer": "custom"}, "dns": {"caa": ["sectigo.com"]}}, ["sectigo.com."]),
        ({"dns": {"caa": []}}, []),
    ],
)
def test_who_may_issue_certificates_follows_from_who_is_asked(
    build: Build, changes: dict[str, Any], authorities: list[str]
):
    recording = build("prod", {"edge": changes})

    assert [
        item.inputs["value"] for item in recording.of_type("DnsRecord") if item.inputs["type"] == "CAA"
    ] == authorities


def test_a_host_of_the_app_can_be_ones_own(build: Build):
    made, own = (
        records(build)["host-www"],
        records(build, {"type": "CNAME", "name": "www", "value": "shop.example.org"}, names=["nextgentech.mx"])[
            "host-www"
        ],
    )

    assert (made.inputs["type"], own.inputs["type"]) == ("A", "CNAME")
    assert made.urn == own.urn
