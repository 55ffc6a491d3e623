"""Retention: what it says of readable histories, and what holds for every history and policy."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from blueprint.fields import Duration
from blueprint.settings.backup import RetentionSettings
from ops.backup.retention import FAR_LESS, IN_PROGRESS, LATE_ARRIVAL, PERIODS, Candidate, decide

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOTHING = RetentionSettings(keep_last=1, hourly=0, daily=0, weekly=0, monthly=0, yearly=0, minimum_count=1).model_copy(
    update={"minimum_age": 0}
)
"""The policy that keeps least: what stays under it stays for a reason of its own."""


def backup(day, hour=3, **facts):
    """A good backup of 2026, unless the facts say otherwise; `day` is month-day."""
    at = datetime.fromisoformat(f"{facts.pop('year', 2026)}-{day}T{hour:02}:00:00+00:00")
    facts = {"stored_bytes": 1000, "tables": 12, "rows": 5000, "snapshot_at": at} | facts
    return Candidate(id=facts.pop("id", day), begun_at=at, **facts)


def daily(first, last, **facts):
    begin, end = (datetime.fromisoformat(f"2026-{day}") for day in (first, last))
    return [backup(f"{begin + timedelta(days=n):%m-%d}", **facts) for n in range((end - begin).days + 1)]


def policy(**numbers):
    return NOTHING.model_copy(update=numbers)


def kept(candidates, numbers, now=NOW):
    """The reasons of all that stays, by id."""
    return {d.id: list(d.reasons) for d in decide(candidates, numbers, now) if d.keep}


def gone(candidates, numbers, now=NOW):
    return {d.id: d.reasons[0] for d in decide(candidates, numbers, now) if not d.keep}


# --- examples ---------------------------------------------------------------------------------------------------------


def test_a_year_by_a_policy_of_days_weeks_months_and_years():
    history = daily("01-01", "11-23")
    assert kept(history, policy(keep_last=2, daily=3, weekly=2, monthly=3, yearly=1)) == {
        "01-01": ["yearly 2026"],
        "09-01": ["monthly 2026-09"],
        "10-01": ["monthly 2026-10"],
        "11-01": ["monthly 2026-11"],
        "11-16": ["weekly 2026-W47"],
        "11-21": ["daily 2026-11-21"],
        "11-22": ["last 2", "daily 2026-11-22"],
        "11-23": ["last 2", "daily 2026-11-23", "weekly 2026-W48", "newest good"],
    }
    assert gone(history, policy(keep_last=2))["11-20"] == "no rule keeps it"


def test_hours_days_and_years_are_of_utc_wherever_the_time_was_written_down():
    tokyo = timezone(timedelta(hours=9))
    late = replace(backup("11-20"), snapshot_at=datetime(2026, 11, 21, 1, tzinfo=tokyo))  # 16:00 UTC on the 20th
    reasons = kept([late, backup("11-22")], policy(daily=2, hourly=2))
    assert reasons["11-20"] == ["hourly 2026-11-20 16h", "daily 2026-11-20"]


@pytest.mark.parametrize(
    ("day", "week"),
    [("2024-12-30", "2025-W01"), ("2027-01-01", "2026-W53"), ("2026-01-01", "2026-W01"), ("2026-11-22", "2026-W47")],
)
def test_weeks_are_of_iso_8601_also_at_the_turn_of_the_year(day, week):
    assert PERIODS["weekly"](datetime.fromisoformat(f"{day}T12:00:00+00:00")) == week


def test_of_a_period_the_first_that_came_stays_and_what_comes_later_takes_no_place_from_it():
    history = [backup("11-20", hour, id=f"{hour}h") for hour in (3, 9, 15)] + [backup("11-22")]
    assert "3h" in kept(history, policy(daily=2))
    assert set(gone(history, policy(daily=2))) == {"9h", "15h"}
    late = backup("11-20", 1, id="later", stored_at=history[0].at + timedelta(hours=7))
    history = [replace(c, stored_at=c.at) for c in history]
    assert set(gone([*history, late], policy(daily=2))) == {"9h", "15h", "later"}


def test_the_last_drill_verified_stays_and_so_does_the_newest_one_that_ever_was():
    history = daily("11-01", "11-22")
    history[3] = replace(history[3], verified_at=NOW - timedelta(days=1))  # an old one, drilled yesterday
    history[9] = replace(history[9], verified_at=NOW - timedelta(days=5))  # a newer one, drilled before
    history[5] = replace(history[5], verified_at=NOW - timedelta(days=9))
    assert kept(history, NOTHING) == {
        "11-04": ["last drill-verified"],
        "11-10": ["newest drill-verified"],
        "11-22": ["last 1", "newest good"],
    }


def test_what_a_kept_one_depends_on_stays_and_so_on():
    chain = [
        backup("11-01", id="full"),
        backup("11-02", id="one", depends_on=("full",), stored_bytes=3),
        backup("11-03", id="other", depends_on=("full",), stored_bytes=3),
        backup("11-04", id="two", depends_on=("one",), stored_bytes=0),
    ]
    assert kept(chain, NOTHING) == {
        "full": ["one depends on it"],
        "one": ["two depends on it"],
        "two": ["last 1", "newest good"],
    }


def test_locked_young_and_unfinished_ones_stay_and_none_of_them_fills_a_place():
    history = [
        backup("11-01", immutable_until=NOW + timedelta(hours=1)),
        backup("11-02", immutable_until=NOW - timedelta(hours=1)),
        backup("11-20", complete=False, snapshot_at=None),
        backup("11-21"),
        backup("11-22", hour=13, complete=False, snapshot_at=None),
    ]
    assert kept(history, policy(keep_last=1)) == {
        "11-01": ["locked until 2026-11-23 13:00 UTC"],
        "11-21": ["last 1", "newest good"],
        "11-22": ["incomplete, may be in progress: younger than 24 h"],
    }
    assert gone(history, NOTHING) == {"11-02": "no rule keeps it", "11-20": "incomplete and older than 24 h"}
    assert kept(daily("11-20", "11-23"), policy(minimum_age=Duration("36h")))["11-22"] == ["younger than 36h"]


def test_the_minimum_count_is_filled_with_the_newest_that_would_have_gone():
    history = daily("11-01", "11-10")
    assert set(kept(history, policy(keep_last=1, monthly=1, minimum_count=3))) == {"11-01", "11-09", "11-10"}
    assert kept(history, policy(minimum_count=3))["11-09"] == ["one of at least 3"]
    assert len(kept(history[:2], policy(minimum_count=3))) == 2


def test_without_a_good_backup_nothing_goes_not_even_old_remains():
    remains = [backup("01-01", complete=False, snapshot_at=None), backup("02-01", faults=("the manifest is lost",))]
    assert gone(remains, NOTHING) == {}
    assert set(gone([*remains, backup("03-01")], NOTHING)) == set()  # the fault holds everything
    assert set(gone([remains[0], backup("03-01")], NOTHING)) == {"01-01"}


# --- what is wrong --------------------------------------------------------------------------------------------------

DATED = "dated 2026-11-01 03:00 UTC, arrived 2026-11-22 02:00 UTC"
WRONG = {
    "no rows": ({"rows": 0}, "0 rows, 5000 is the median of those before"),
    "no bytes": ({"stored_bytes": 0}, "0 bytes, 1000 is the median of those before"),
    "far smaller than the median": ({"stored_bytes": 499}, "499 bytes, 1000 is the median of those before"),
    "far fewer rows": ({"rows": 2499}, "2499 rows, 5000 is the median of those before"),
    "dated in the future": (
        {"snapshot_at": NOW + timedelta(hours=1)},
        "dated 2026-11-23 13:00 UTC, which is in the future: a clock is wrong",
    ),
    "dated before its arrival": (
        {"snapshot_at": datetime(2026, 11, 1, 3, tzinfo=UTC), "stored_at": datetime(2026, 11, 22, 2, tzinfo=UTC)},
        DATED,
    ),
    "dated after its arrival": (
        {"stored_at": datetime(2026, 11, 21, 2, tzinfo=UTC)},
        "dated 2026-11-22 02:00 UTC, arrived 2026-11-21 02:00 UTC",
    ),
    "of another environment": ({"doubts": ("of test/prod",)}, "of test/prod"),
    "of an unknown hand": ({"changes": ("not signed",)}, "not signed"),
    "damaged": ({"faults": ("toc.dat.zst: missing",)}, "toc.dat.zst: missing"),
    "of a chain that is broken": ({"depends_on": ("10-01",)}, "depends on 10-01, which is not complete"),
}


@pytest.mark.parametrize(("facts", "warning"), WRONG.values(), ids=WRONG.keys())
def test_while_something_is_wrong_nothing_goes_until_a_person_has_looked(facts, warning):
    newest = backup("11-22", 2, **facts)
    history = [*daily("10-10", "11-21"), backup("11-22", complete=False, id="broken off later", snapshot_at=None)]
    decisions = {decision.id: decision for decision in decide([*history, newest], NOTHING, NOW)}
    assert all(decision.keep for decision in decisions.values())
    assert decisions["11-22"].warnings == (warning,)
    assert decisions["11-22"].holds
    assert "check it, then --accept 11-22" in decisions["11-22"].reasons
    assert decisions["10-10"].reasons == ("held: 11-22 has a problem",)
    assert {"10-10", "broken off later"} <= set(
        gone([*history, replace(newest, accepted=True)], NOTHING)
    )  # the control


def test_what_is_wrong_with_the_whole_set_holds_everything():
    history = daily("10-10", "11-22")
    decisions = decide(history, NOTHING, NOW, held=["10-01 has vanished", "10-02 has vanished"])
    assert decisions[0].reasons == ("held: 10-01 has vanished, and 1 more",)
    assert all(decision.keep for decision in decisions)
    assert gone(history, NOTHING), "the control"


JUST_RIGHT = {
    "half the bytes": {"stored_bytes": 500},
    "half the rows": {"rows": 2500},
    "a table less": {"tables": 11},
    "a clock four minutes ahead": {"snapshot_at": NOW + timedelta(minutes=4)},
    "nothing known of tables and rows": {"tables": None, "rows": None},
    "an incremental one with nothing new": {"depends_on": ("11-21",), "stored_bytes": 0},
    "a run of twelve hours": {"stored_at": datetime(2026, 11, 22, 15, tzinfo=UTC)},
}


@pytest.mark.parametrize("facts", JUST_RIGHT.values(), ids=JUST_RIGHT.keys())
def test_what_is_not_wrong(facts):
    decisions = decide([*daily("10-10", "11-21"), backup("11-22", **facts)], NOTHING, NOW)
    assert not any(decision.warnings for decision in decisions)
    assert not all(decision.keep for decision in decisions)


def test_a_source_that_stays_broken_pushes_nothing_out_however_long():
    good, bad = daily("10-01", "10-10"), daily("10-11", "11-22", rows=3)
    assert gone([*good, *bad], NOTHING) == {}
    decisions = decide([*good, *bad], NOTHING, NOW)
    assert decisions[-1].warnings == ("3 rows, 5000 is the median of those before",)


def test_when_the_source_is_well_again_it_holds_nothing_more():
    history = [*daily("10-01", "10-31"), *daily("11-01", "11-05", rows=3), *daily("11-06", "11-22")]
    assert len(gone(history, NOTHING)) == len(history) - 1


def test_newer_ones_are_compared_with_an_accepted_backup_and_so_it_stays():
    halved = [*daily("10-01", "10-31"), backup("11-01", rows=9, accepted=True), *daily("11-02", "11-22", rows=9)]
    assert kept(halved, NOTHING) == {
        "11-01": ["accepted: newer ones are compared with it"],
        "11-22": ["last 1", "newest good"],
    }
    halved_again = [*halved, backup("11-23", rows=4)]
    assert gone(halved_again, NOTHING) == {}


def test_an_empty_source_that_a_person_has_accepted_may_stay_empty():
    empty = [*daily("10-01", "10-31"), *daily("11-01", "11-22", rows=0)]
    assert gone(empty, NOTHING) == {}
    empty[-2] = replace(empty[-2], accepted=True)
    assert len(gone(empty, NOTHING)) == len(empty) - 2


def test_a_damaged_one_that_was_looked_at_goes_and_is_never_taken_for_good():
    history = [*daily("11-01", "11-21"), backup("11-22", faults=("digest",), accepted=True)]
    history.append(backup("11-23", accepted=True))
    decisions = {d.id: d for d in decide(history, NOTHING, NOW)}
    assert "newest good" in decisions["11-23"].reasons
    assert decisions["11-22"].reasons == ("not good, and checked by a person",)


CHANGED = {"signed with a former key": {"changes": ("not signed",)}, "in a bucket that was copied": {"stored_at": NOW}}


@pytest.mark.parametrize("facts", CHANGED.values(), ids=CHANGED.keys())
def test_what_a_change_makes_of_older_ones_is_accepted_with_the_newest_of_them_and_not_of_what_arrives_later(facts):
    history = daily("10-01", "11-22", **facts)
    assert gone(history, policy(monthly=2)) == {}
    history[-1] = replace(history[-1], accepted=True)
    assert "monthly 2026-10" in kept(history, policy(monthly=2))["10-01"]
    assert gone(history, policy(monthly=2))
    arrived = backup("10-05", 4, id="backdated", stored_at=NOW + timedelta(minutes=1))
    assert gone([*history, arrived], policy(monthly=2)) == {}


def test_a_red_drill_of_an_older_one_is_not_accepted_with_a_newer_one():
    history = daily("10-01", "11-22")
    history[3] = replace(history[3], doubts=("the drill was red",))
    history[-1] = replace(history[-1], accepted=True)
    assert gone(history, NOTHING) == {}


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="same id"):
        decide([backup("11-01"), backup("11-01")], NOTHING, NOW)
    with pytest.raises(ValueError, match="time zone"):
        decide([replace(backup("11-01"), begun_at=datetime(2026, 11, 1))], NOTHING, NOW)  # noqa: DTZ001  # the point


# --- every history and policy -----------------------------------------------------------------------------------------

small = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
hours = st.integers(0, 24 * 500)

CALM = [
    {},
    {"stored_bytes": 1100, "rows": 510},
    {"verified_at": NOW - timedelta(days=2)},
    {"verified_at": NOW - timedelta(days=20)},
    {"immutable_until": NOW + timedelta(hours=50)},
    {"immutable_until": NOW - timedelta(hours=50)},
    {"needs": 1, "stored_bytes": 0},
    {"needs": 1, "stored_bytes": 7},
    {"needs": 1, "stored_bytes": 9},
    {"needs": 2, "stored_bytes": 7},
    {"complete": False, "snapshot_at": None},
]
WILD = [
    *CALM,
    {"stored_bytes": 2500, "rows": 1500, "tables": 13},
    {"stored_bytes": 400},
    {"rows": 200, "accepted": True},
    {"tables": 11, "verified_at": NOW - timedelta(days=3)},
    {"tables": None, "rows": None},
    {"rows": 0},
    {"faults": ("damaged",)},
    {"faults": ("damaged",), "accepted": True},
    {"accepted": True},
    {"changes": ("not signed",)},
    {"changes": ("not signed",), "accepted": True},
    {"doubts": ("the drill was red",)},
    {"doubts": ("the drill was red",), "accepted": True},
]
"""What a backup may be like. `needs` counts those before it that it depends on."""


def history_of(drawn):
    found = []
    for number, (age, facts) in enumerate(sorted(drawn, key=lambda each: -each[0])):
        at = NOW - timedelta(hours=age, minutes=7)
        more = {"snapshot_at": at, "stored_bytes": 1000, "tables": 12, "rows": 500} | facts
        whole = [c.id for c in found if c.complete]
        needs = whole[-more.pop("needs") :] if "needs" in more else []
        if facts.get("needs") and not needs:
            more["stored_bytes"] = 1000  # there is nothing that it could be incremental to
        found.append(Candidate(id=f"b{number:02}", begun_at=at, depends_on=tuple(needs), **more))
    return found


def histories(kinds, ages):
    return st.lists(st.tuples(ages, st.sampled_from(kinds)), min_size=1, max_size=18, unique_by=lambda each: each[0])


calm_histories = histories(CALM, st.one_of(hours, st.integers(2, 200))).map(history_of)
some = st.one_of(calm_histories, histories(WILD, st.one_of(hours, st.integers(-30, 100))).map(history_of))

count = st.sampled_from([0, 0, 1, 2, 4])
policies = st.builds(
    RetentionSettings,
    keep_last=st.integers(1, 4),
    hourly=count,
    daily=count,
    weekly=count,
    monthly=count,
    yearly=count,
    minimum_count=st.integers(1, 5),
    minimum_age=st.sampled_from([Duration(age) for age in ("1s", "1s", "1h", "24h", "500h")]),
)


def run(history, numbers, now=NOW):
    decisions = {d.id: d for d in decide(history, numbers, now)}
    left = [c for c in history if decisions[c.id].keep]
    deleted = [c for c in history if not decisions[c.id].keep]
    event("something is deleted" if deleted else "nothing is deleted")
    return decisions, left, deleted


def good(history, decisions):
    return sorted((c for c in history if c.complete and not decisions[c.id].warnings), key=lambda c: (c.at, c.id))


@small
@given(some, policies)
def test_every_backup_gets_one_decision_with_a_reason(history, numbers):
    decisions = decide(history, numbers, NOW)
    assert sorted(d.id for d in decisions) == sorted(c.id for c in history)
    assert all(d.reasons for d in decisions)


@small
@given(some, policies)
def test_what_must_stay_is_never_deleted(history, numbers):
    decisions, left, deleted = run(history, numbers)
    sound = good(history, decisions)
    if deleted:
        assert sound
        assert sound[-1] in left
        assert len([c for c in left if c in sound]) >= min(numbers.minimum_count, len(sound))
        assert sound[-numbers.keep_last :] == [c for c in sound if c in left][-numbers.keep_last :]
    for candidate in deleted:
        assert candidate.immutable_until is None or candidate.immutable_until <= NOW
        if candidate.complete:
            assert NOW - candidate.at >= timedelta(seconds=numbers.minimum_age)
            assert not decisions[candidate.id].holds
        else:
            assert NOW - candidate.begun_at >= IN_PROGRESS
    if verified := [c for c in sound if c.verified_at]:
        assert verified[-1] in left
        assert any(c.verified_at == max(v.verified_at for v in verified) for c in verified if c in left)


@small
@given(some, policies)
def test_accepting_one_makes_no_other_good_that_a_drill_could_not_restore_or_that_is_damaged(history, numbers):
    decisions, _, _ = run(history, numbers)
    for candidate in good(history, decisions):
        assert candidate.accepted or not candidate.doubts
        assert not candidate.faults


@small
@given(some, policies)
def test_every_kept_chain_is_whole(history, numbers):
    _, left, deleted = run(history, numbers)
    needed = {name for candidate in left for name in candidate.depends_on}
    assert not needed & {candidate.id for candidate in deleted}


@small
@given(some, policies)
def test_run_again_at_the_same_time_it_deletes_nothing_more(history, numbers):
    _, left, _ = run(history, numbers)
    assert gone(left, numbers) == {}


@small
@given(some, policies)
def test_while_a_backup_has_a_problem_that_nobody_has_looked_at_nothing_goes(history, numbers):
    decisions, _, deleted = run(history, numbers)
    assert {c.id for c in history if decisions[c.id].warnings and not c.accepted} == {
        name for name, decision in decisions.items() if decision.holds
    }
    if any(decision.holds for decision in decisions.values()):
        assert deleted == []


FORGED = {
    "backdated": {},
    "signed by another key": {"changes": ("not signed",)},
    "for other recipients": {"changes": ("encrypted for others",)},
    "rewritten": {"doubts": ("rewritten since it was verified",)},
}


@settings(small, max_examples=300)
@given(
    calm_histories,
    policies,
    st.lists(
        st.tuples(st.integers(14, 24 * 500), st.integers(0, 40), st.sampled_from([*FORGED.values()])),
        min_size=1,
        max_size=8,
    ),
)
def test_whatever_is_forged_later_retention_never_deletes_what_it_would_have_kept_without_it(history, numbers, drawn):
    """Each is at least as large as the honest ones, and dated at will; it arrives after all of them."""
    history = [replace(c, stored_at=c.at) for c in history]
    forged = [
        Candidate(
            id=f"f{n:02}",
            begun_at=NOW - timedelta(hours=age),
            snapshot_at=NOW - timedelta(hours=age, minutes=1),
            stored_at=NOW - timedelta(minutes=minutes),
            stored_bytes=2000,
            tables=12,
            rows=900,
            **facts,
        )
        for n, (age, minutes, facts) in enumerate(drawn)
    ]
    assert timedelta(hours=14) - timedelta(minutes=40) > LATE_ARRIVAL
    before = kept(history, numbers)
    after = kept([*history, *forged], numbers)
    event("something would have gone" if len(before) < len(history) else "nothing would have gone")
    assert before.keys() <= after.keys()


@small
@given(calm_histories, policies, st.integers(0, 17), st.integers(1, 12))
def test_what_arrives_later_takes_no_place_of_a_period_from_what_has_it(history, numbers, which, late):
    """Though it is dated as honestly as can be: within the same hour, day, … as another, some hours before it came."""
    history = [replace(c, stored_at=c.at) for c in history]
    whole = [c for c in history if c.complete]
    assume(whole)
    model = whole[which % len(whole)]
    came = max(c.arrived for c in whole) + timedelta(minutes=1)
    assume(came - model.at < timedelta(hours=late))
    later = replace(model, id="later", stored_at=came, depends_on=(), immutable_until=None, stored_bytes=1000)
    before, after = kept(history, numbers), kept([*history, later], numbers)
    for name, reasons in before.items():
        assert {r for r in reasons if r.split()[0] in PERIODS} <= set(after.get(name, [])), name


@small
@given(calm_histories, policies, st.sampled_from(["stored_bytes", "rows"]), st.floats(0, 1))
def test_a_newest_backup_that_lost_much_stops_everything(history, numbers, what, share):
    """The newest is as the one before it, but for one measure."""
    assume(any(c.complete and not c.depends_on for c in history))
    last = max((c for c in history if c.complete), key=lambda c: (c.at, c.id))
    usual = {"stored_bytes": 1000, "rows": 500}[what]
    lost = int(usual * share * FAR_LESS)
    shrunk = replace(
        last,
        id="shrunk",
        begun_at=NOW,
        snapshot_at=NOW,
        accepted=False,
        depends_on=(),
        **{"stored_bytes": 1000, what: lost},
    )
    assume(lost < FAR_LESS * usual)
    assert gone([*history, shrunk], numbers) == {}


@small
@given(some, policies, st.randoms(use_true_random=False))
def test_the_order_of_the_listing_does_not_matter(history, numbers, chance: random.Random):
    shuffled = history[:]
    chance.shuffle(shuffled)
    assert decide(shuffled, numbers, NOW) == decide(history, numbers, NOW)


@small
@given(some, policies, policies)
def test_a_policy_that_asks_for_more_keeps_all_that_the_smaller_one_keeps(history, numbers, more):
    """But for the minimum count: where a policy keeps few it fills up, with others than the larger policy keeps."""
    numbers = numbers.model_copy(update={"minimum_count": 1})
    larger = numbers.model_copy(update={n: v + getattr(more, n) for n, v in numbers.model_dump().items()})
    _, left, _ = run(history, numbers)
    _, left_by_larger, _ = run(history, larger.model_copy(update={"minimum_count": 1}))
    assert all(c in left_by_larger for c in left)


@small
@given(calm_histories, policies, hours)
def test_time_alone_only_ever_lets_more_go(history, numbers, later):
    numbers = numbers.model_copy(update={"minimum_count": 1})
    assert set(gone(history, numbers)) <= set(gone(history, numbers, NOW + timedelta(hours=later)))


@small
@given(some, policies)
def test_each_place_of_the_policy_is_filled_from_different_periods(history, numbers):
    decisions, _, _ = run(history, numbers)
    for name, period in PERIODS.items():
        named = [r for d in decisions.values() for r in d.reasons if r.startswith(f"{name} ")]
        wanted = {period(c.at) for c in good(history, decisions)}
        assert sorted(named) == sorted(f"{name} {p}" for p in sorted(wanted, reverse=True)[: getattr(numbers, name)])
