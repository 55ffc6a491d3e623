from __future__ import annotations

import pytest

from blueprint.machine import FirewallSettings
from host.concerns.firewall import BEGIN, Rule, Ufw, build_commands, build_rules, ensure, lets_in, with_block
from host.look import Seen
from host.steps import text_digest
from host.templates import render

EVERYWHERE = ("0.0.0.0/0", "::/0")
CLOSED = ["DEFAULT_INPUT_POLICY=DROP", "DEFAULT_OUTPUT_POLICY=ACCEPT", "DEFAULT_FORWARD_POLICY=DROP"]
DIGEST = "d" * 64


def state(rules: list[Rule], *, active: bool = True, digest: str = DIGEST, defaults: list[str] = CLOSED) -> list[str]:
    """What the machine prints when it has these rules."""
    tuples = [
        f"### tuple ### {r.action} {r.protocol} {r.port} {r.destination} {r.source_port} {r.source} {r.direction}"
        for r in rules
    ]
    return [f"Status: {'active' if active else 'inactive'}", *tuples, *defaults, digest]


def test_rules_are_ssh_from_its_sources_and_the_two_web_ports_for_both_families():
    rules = build_rules(22, ["203.0.113.0/24", "2001:db8::/32"])
    assert {(r.port, r.source) for r in rules} == {
        ("22", "203.0.113.0/24"),
        ("22", "2001:db8::/32"),
        ("80", "0.0.0.0/0"),
        ("80", "::/0"),
        ("443", "0.0.0.0/0"),
        ("443", "::/0"),
    }
    assert all(r.action == "allow" and r.protocol == "tcp" and r.direction == "in" for r in rules)


def test_a_source_of_one_family_opens_nothing_for_the_other():
    assert [r.destination for r in build_rules(22, ["::/0"]) if r.port == "22"] == ["::/0"]


def test_nothing_is_done_when_everything_is_there():
    rules = build_rules(22, EVERYWHERE)
    assert build_commands(state(rules), rules, DIGEST) == []


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            "### tuple ### allow any 8080 0.0.0.0/0 any 0.0.0.0/0 in",
            "ufw delete allow in from 0.0.0.0/0 to 0.0.0.0/0 port 8080",
        ),
        (
            "### tuple ### allow tcp 5432 0.0.0.0/0 any 10.1.2.3 in comment=782079",
            "ufw delete allow in proto tcp from 10.1.2.3 to 0.0.0.0/0 port 5432",
        ),
        (
            "### tuple ### deny tcp 25 ::/0 any ::/0 out",
            "ufw delete deny out proto tcp from ::/0 to ::/0 port 25",
        ),
        (
            "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 Open%20SSH - in",
            "ufw delete allow in from 0.0.0.0/0 to 0.0.0.0/0 app 'Open SSH'",
        ),
    ],
)  # fmt: skip
def test_a_rule_made_by_hand_goes(found: str, expected: str):
    rules = build_rules(22, EVERYWHERE)
    assert build_commands([*state(rules), found], rules, DIGEST) == [expected]


def test_a_changed_source_is_let_in_before_the_former_goes():
    commands = build_commands(state(build_rules(22, ["198.51.100.0/24"])), build_rules(22, ["203.0.113.0/24"]), DIGEST)
    assert ["delete" in command for command in commands] == [False, True]


def test_a_fresh_machine_gets_its_rules_before_the_firewall_is_switched_on():
    rules = build_rules(22, EVERYWHERE)
    commands = build_commands(state([], active=False, digest=""), rules, DIGEST)
    assert commands.index("ufw --force enable") == len(rules)


def test_a_policy_opened_by_hand_is_closed_again():
    rules = build_rules(22, EVERYWHERE)
    opened = ["DEFAULT_INPUT_POLICY=ACCEPT", *CLOSED[1:]]
    assert build_commands(state(rules, defaults=opened), rules, DIGEST) == ["ufw default deny incoming"]


def test_changed_container_rules_are_loaded():
    rules = build_rules(22, EVERYWHERE)
    assert build_commands(state(rules, digest="former"), rules, DIGEST)[0] == "ufw reload"


def test_block_goes_to_the_end_and_is_replaced_in_place():
    once = with_block("*filter\nCOMMIT\n", "one\n")
    assert once == f"*filter\nCOMMIT\n{BEGIN}\none\n# END ancla\n"
    assert with_block(once, "one\n") == once
    assert with_block(once + "by hand\n", "two\n") == f"*filter\nCOMMIT\n{BEGIN}\ntwo\n# END ancla\nby hand\n"
    assert with_block("no newline", "one\n").startswith("no newline\n# BEGIN")


def test_containers_get_nothing_new_from_outside():
    rules = [line for line in render("docker-user.rules").splitlines() if line.startswith("-A")]
    assert rules[-1] == "-A DOCKER-USER -j DROP"
    # what passes before is answers, and what containers themselves begin
    assert all("RELATED,ESTABLISHED" in rule or "-i docker0" in rule or "-i br-+" in rule for rule in rules[:-1])


@pytest.mark.parametrize(
    ("sources", "address", "expected"),
    [
        (["203.0.113.0/24"], "203.0.113.9", True),
        (["203.0.113.0/24"], "198.51.100.1", False),
        (["203.0.113.0/24"], "::ffff:203.0.113.9", True),
        (["::/0"], "203.0.113.9", False),
        (["2001:db8::/32"], "2001:db8::1", True),
    ],
)
def test_a_door_is_known_to_be_open_or_shut(sources: list[str], address: str, *, expected: bool):
    assert lets_in(sources, address) is expected


# --- the step --------------------------------------------------------------------------------------------------------

AFTER = ("/etc/ufw/after.rules", "/etc/ufw/after6.rules")


def step() -> Ufw:
    (made,) = ensure(FirewallSettings(ssh_sources=EVERYWHERE))
    assert isinstance(made, Ufw)
    return made


def seen(*, extra: str = "", block: str | None = None, stamp: bool = True) -> Seen:
    """What is seen of a machine that has the step's rules."""
    text = with_block("*filter\nCOMMIT\n", block or step().block)
    digest = text_digest(step().block)
    lines = state(list(step().rules), digest=digest if stamp else "")
    return Seen(lines={"ufw": (*lines, *([extra] if extra else [])), **dict.fromkeys(AFTER, tuple(text.splitlines()))})


def scripts(found: Seen) -> list[str]:
    return [command.script for command in step().change(found).commands]


def test_a_machine_with_all_rules_has_nothing_to_do():
    assert step().change(seen()).commands == ()


def test_rules_for_containers_edited_by_hand_are_placed_and_loaded():
    change = step().change(seen(block="-A DOCKER-USER -j RETURN\n"))
    assert change.differences == tuple(f"{path} lacks the rules for containers" for path in AFTER)
    commands = [command.script for command in change.commands]
    assert "ufw reload" in commands
    assert [command.stdin is not None and step().block in command.stdin for command in change.commands].count(True) == 2


@pytest.mark.parametrize(
    "found", [{"block": "edited\n"}, {"stamp": False}, {"extra": "### tuple ### allow any 1 ::/0 any ::/0 in"}]
)
def test_whatever_is_done_ends_with_the_stamp_so_that_the_next_run_does_nothing(found: dict[str, object]):
    """The stamp goes with the copies that are kept at the beginning."""
    commands = scripts(seen(**found))
    assert "rm -f /var/lib/ancla/applied/ufw" in commands[0]
    assert commands[-1].endswith(">/var/lib/ancla/applied/ufw")


def test_a_rule_too_many_is_named():
    change = step().change(seen(extra="### tuple ### allow any 8080 0.0.0.0/0 any 0.0.0.0/0 in"))
    assert change.differences == ("a rule too many: allow in from 0.0.0.0/0 to 0.0.0.0/0 port 8080",)
