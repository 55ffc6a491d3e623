"""Properties: their types, what counts as a difference, and the order the official provider gives to sets."""

from __future__ import annotations

import pytest

from sandbox.plugins.fields import (
    Field,
    boolean,
    coerce,
    differs,
    integer,
    list_of,
    number,
    ordered,
    set_of,
    string,
)
from sandbox.plugins.resources.common import TAGS, go_time, in_32_bits, shortest_in_32_bits, unique_id
from sandbox.plugins.values import UNKNOWN, Secret, contains_secret, decode, encode, reveal

WORLD = ["0.0.0.0/0", "::/0"]
RULE = Field(
    kind="object",
    fields={
        "protocol": string(required=True),
        "portRange": string(),
        "sourceAddresses": set_of(string()),
        "sourceDropletIds": set_of(integer()),
        "sourceLoadBalancerUids": set_of(string()),
        "sourceKubernetesIds": set_of(string()),
        "sourceTags": TAGS,
    },
)


def test_values_survive_the_wire() -> None:
    values = {"a": 1, "b": 1.5, "c": [True, "x", UNKNOWN], "d": Secret({"e": "hidden"}), "f": {}}
    assert decode(encode(values)) == values


def test_what_is_none_is_left_out() -> None:
    assert decode(encode({"a": None, "b": {"c": None}})) == {"b": {}}


def test_a_secret_is_found_at_any_depth_and_never_printed() -> None:
    value = {"a": [{"b": Secret("canary")}]}
    assert contains_secret(value)
    assert not contains_secret(reveal(value))
    assert "canary" not in repr(value)


@pytest.mark.parametrize(
    ("value", "like", "expected"),
    [
        ("123", integer(), 123),
        (80, string(), "80"),
        (True, string(), "true"),
        ("true", boolean(), True),
        ("0.5", number(), 0.5),
        (3, number(), 3),
    ],
)
def test_a_value_is_brought_to_its_type(value: object, like: object, expected: object) -> None:
    assert coerce(value, like) == expected


@pytest.mark.parametrize(
    ("value", "like"),
    [
        ("many", integer()),
        (1.5, integer()),
        ("yes", boolean()),
        ("x", list_of(string())),
        ({}, string()),
        (True, integer()),
    ],
)
def test_another_type_is_refused_without_repeating_a_text(value: object, like: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        coerce(value, like)


@pytest.mark.parametrize(
    ("old", "new", "like", "expected"),
    [
        ("a", "b", string(), True),
        ("a", None, string(), True),
        ("a", None, string(computed=True), False),
        ("", None, string(), False),
        (False, None, boolean(), False),
        (None, UNKNOWN, string(), True),
        ("NYC3", "nyc3", string(same=lambda old, new, _: old.lower() == new.lower()), False),
        ("nyc3", "NYC3", string(stored=str.lower), False),
        (["a", "b"], ["b", "a"], set_of(string()), False),
        (["a", "b"], ["b", "a"], list_of(string()), True),
        (["a", "b"], ["a", "a"], set_of(string()), True),
        (["Web"], ["web"], TAGS, False),
        (
            {"a": 1, "b": 2},
            {"a": 1},
            Field(kind="object", fields={"a": integer(), "b": integer(output_only=True)}),
            False,
        ),
        ({"a": 1}, {"a": 2}, Field(kind="object", fields={"a": integer()}), True),
    ],
)
def test_what_differs(old: object, new: object, like: object, expected: bool) -> None:
    assert differs(old, new, like, {}) is expected


def test_sets_come_in_the_official_order() -> None:
    """The orders that the official plugin's own bodies had."""
    assert ordered(["zeta", "alpha", "ancla-web"], TAGS) == ["ancla-web", "alpha", "zeta"]
    assert ordered(["us_east", "eu_west"], set_of(string())) == ["eu_west", "us_east"]
    rules = [{"protocol": "tcp", "portRange": port, "sourceAddresses": WORLD} for port in ("22", "80", "443")]
    icmp = {"protocol": "icmp", "sourceAddresses": ["0.0.0.0/0"]}
    found = [rule.get("portRange", "icmp") for rule in ordered([icmp, *rules], set_of(RULE))]
    assert found == ["22", "80", "icmp", "443"]


def test_doubles_in_a_set_are_one() -> None:
    assert ordered(["a", "a"], set_of(string())) == ["a"]


def test_numbers_of_32_bits() -> None:
    assert in_32_bits(0.2) == 0.20000000298023224
    assert shortest_in_32_bits(0.2) == 0.2
    assert shortest_in_32_bits(75.1) == 75.1
    assert shortest_in_32_bits(16777216) == 16777216


def test_times_as_go_prints_them() -> None:
    assert go_time("2024-06-14T10:30:49Z") == "2024-06-14 10:30:49 +0000 UTC"
    assert go_time(None) is None


def test_a_unique_id_has_the_official_length() -> None:
    assert len(unique_id("")) == 26
    assert unique_id("x-") != unique_id("x-")
