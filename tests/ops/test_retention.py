"""Retention: what it says of readable histories, and what holds for every history and policy."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from blueprint.backup import RetentionSettings
from ops.backup.retention import FAR_LESS, IN_PROGRESS, PERIODS, UNSIGNED, Candidate, decide

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOTHING = RetentionSettings(
    keep_last=1, hourly=0, daily=0, weekly=0, monthly=0, yearly=0, minimum_count=1, minimum_age_hours=0
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
        "09-30": ["monthly 2026-09"],
        "10-31": ["monthly 2026-10"],
        "11-21": ["daily 2026-11-21"],
        "11-22": ["last 2", "daily 2026-11-22", "weekly 2026-W47"],
        "11-23": [
            "last 2",
            "daily 2026-11-23",
            "weekly 2026-W48",
            "monthly 2026-11",
            "yearly 2026",
            "newest good",
        ],
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


def test_of_a_period_the_newest_stays_so_that_the_same_one_stays_tomorrow():
    history = [backup("11-20", hour, id=f"{hour}h") for hour in (3, 9, 15)] + [backup("11-22")]
    assert "15h" in kept(history, policy(daily=2))
    assert set(gone(history, policy(daily=2))) == {"3h", "9h"}


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
        "11-22": ["incomplete, and may be in progress: younger than 24 h"],
    }
    assert gone(history, NOTHING) == {"11-02": "no rule keeps it", "11-20": "incomplete, and older than 24 h"}
    assert kept(daily("11-20", "11-23"), policy(minimum_age_hours=36))["11-22"] == ["younger than 36 h"]


def test_the_minimum_count_is_filled_with_the_newest_that_would_have_gone():
    history = daily("11-01", "11-10")
    assert set(kept(history, policy(keep_last=1, monthly=1, minimum_count=3))) == {"11-08", "11-09", "11-10"}
    assert kept(history, policy(minimum_count=3))["11-09"] == ["one of at least 3"]
    assert len(kept(history[:2], policy(minimum_count=3))) == 2


def test_without_a_good_backup_nothing_goes_not_even_old_remains():
    remains = [backup("01-01", complete=False, snapshot_at=None), backup("02-01", faults=("the manifest is lost",))]
    assert gone(remains, NOTHING) == {}
    assert set(gone([*remains, backup("03-01")], NOTHING)) == set()  # the fault holds what came before it
    assert set(gone([remains[0], backup("03-01")], NOTHING)) == {"01-01"}


# --- suspicious ones --------------------------------------------------------------------------------------------------

SUSPICIOUS = {
    "no rows": ({"rows": 0}, "empty: no rows"),
    "no tables": ({"tables": 0, "rows": 0}, "empty: no tables, no rows"),
    "no bytes": ({"stored_bytes": 0}, "empty: no bytes"),
    "far smaller than the median": ({"stored_bytes": 499}, "499 bytes, 1000 is the median of those before"),
    "fewer tables": ({"tables": 11}, "11 tables, 12 in 11-21"),
    "far fewer rows": ({"rows": 2499}, "2499 rows, 5000 in 11-21"),
    "dated in the future": (
        {"snapshot_at": NOW + timedelta(hours=1)},
        "dated 2026-11-23 13:00 UTC, which is to come: a clock is wrong",
    ),
    "of an unknown hand": ({"doubts": ("not signed",)}, "not signed"),
    "damaged": ({"faults": ("toc.dat.zst: missing",)}, "toc.dat.zst: missing"),
    "of a chain that is broken": ({"depends_on": ("10-01",)}, "depends on 10-01, which is not whole"),
}


@pytest.mark.parametrize(("facts", "warning"), SUSPICIOUS.values(), ids=SUSPICIOUS.keys())
def test_after_a_suspicious_backup_nothing_goes_until_a_person_has_looked(facts, warning):
    newest = backup("11-22", 2, **facts)
    history = [*daily("10-10", "11-21"), backup("11-22", complete=False, id="broken off later", snapshot_at=None)]
    decisions = {decision.id: decision for decision in decide([*history, newest], NOTHING, NOW)}
    assert all(decision.keep for decision in decisions.values())
    assert decisions["11-22"].warnings == (warning,)
    assert decisions["11-22"].reasons[-1] == "in doubt: look at it, then --accept 11-22"
    assert decisions["10-10"].reasons == ("held: 11-22 is in doubt",)
    assert {"10-10", "broken off later"} <= set(
        gone([*history, replace(newest, accepted=True)], NOTHING)
    )  # the control


JUST_RIGHT = {
    "half the bytes": {"stored_bytes": 500},
    "half the rows": {"rows": 2500},
    "a table more": {"tables": 13},
    "a clock four minutes ahead": {"snapshot_at": NOW + timedelta(minutes=4)},
    "nothing known of tables and rows": {"tables": None, "rows": None},
    "an incremental one with nothing new": {"depends_on": ("11-21",), "stored_bytes": 0},
}


@pytest.mark.parametrize("facts", JUST_RIGHT.values(), ids=JUST_RIGHT.keys())
def test_what_is_not_suspicious(facts):
    decisions = decide([*daily("10-10", "11-21"), backup("11-22", **facts)], NOTHING, NOW)
    assert not any(decision.warnings for decision in decisions)
    assert not all(decision.keep for decision in decisions)


def test_a_source_that_stays_broken_stays_suspicious_and_pushes_nothing_out():
    good, bad = daily("10-01", "10-31"), daily("11-01", "11-22", rows=3)
    assert gone([*good, *bad], NOTHING) == {}
    decisions = decide([*good, *bad], NOTHING, NOW)
    assert all(decision.warnings == ("3 rows, 5000 in 10-31",) for decision in decisions[len(good) :])
    assert "newest good" in decisions[len(good) - 1].reasons


def test_when_the_source_is_well_again_what_came_before_the_doubt_stays_and_what_came_after_is_thinned():
    history = [*daily("10-01", "10-31"), *daily("11-01", "11-05", rows=3), *daily("11-06", "11-22")]
    assert list(gone(history, NOTHING)) == [f"11-{day:02}" for day in range(6, 22)]
    accepted = [replace(c, accepted=c.id == "11-05") for c in history]
    assert set(kept(accepted, NOTHING)) == {"11-05", "11-22"}


def test_an_accepted_backup_is_what_the_next_ones_are_measured_against_and_so_it_stays():
    halved = [*daily("10-01", "10-31"), backup("11-01", rows=9, accepted=True), *daily("11-02", "11-22", rows=9)]
    assert kept(halved, NOTHING) == {
        "11-01": ["accepted: what came after is measured against it"],
        "11-22": ["last 1", "newest good"],
    }
    halved_again = [*halved, backup("11-23", rows=4)]
    assert gone(halved_again, NOTHING) == {}


def test_an_empty_source_that_a_person_has_accepted_may_stay_empty():
    empty = daily("11-01", "11-22", rows=0)
    assert gone(empty, NOTHING) == {}
    empty[0] = replace(empty[0], accepted=True)
    assert len(gone(empty, NOTHING)) == 20


def test_a_damaged_one_that_was_looked_at_goes_and_is_never_taken_for_good():
    history = [*daily("11-01", "11-21"), backup("11-22", faults=("digest",), accepted=True)]
    decisions = {d.id: d for d in decide(history, NOTHING, NOW)}
    assert "newest good" in decisions["11-21"].reasons
    assert decisions["11-22"].reasons == ("no good one, and a person has looked at it",)


LOST = {
    "an empty one": {"rows": 0},
    "a small one": {"rows": 100, "stored_bytes": 90},
    "one with fewer tables": {"tables": 3},
    "one that a drill could not restore": {"doubts": ("the drill was red",)},
}


@pytest.mark.parametrize("facts", LOST.values(), ids=LOST.keys())
def test_what_was_wrong_before_an_accepted_backup_is_not_good_because_of_it(facts):
    """The last backups that hold the data are not pushed out of the month by those that lost it."""
    bad = daily("01-28", "01-31", **facts)
    history = [*daily("01-10", "01-27"), *bad, *daily("02-01", "03-20")]
    history = [replace(c, accepted=c.id == "03-01") for c in history]
    now = datetime(2026, 3, 20, 12, tzinfo=UTC)
    decisions = {d.id: d for d in decide(history, policy(monthly=3), now)}
    assert {name for name, d in decisions.items() if d.keep} == {"01-27", "02-28", "03-01", "03-20"}
    assert all(decisions[c.id].warnings and not decisions[c.id].in_doubt for c in bad)
    assert decisions["01-31"].reasons == ("no good one, and a person has looked at a later one",)


def test_what_keeps_a_small_one_before_an_accepted_one_keeps_what_shows_that_it_is_small():
    history = [*daily("11-01", "11-05"), backup("11-06", rows=0, immutable_until=NOW + timedelta(hours=1))]
    history += [backup("11-07", accepted=True), backup("11-08")]
    assert kept(history, NOTHING)["11-01"] == ["11-06 is measured against it"]


RIGHT = {"smaller before it grew": ({"rows": 100}, {}), "halved on purpose": ({}, {"rows": 100}),
         "signed with a key that was changed": ({"doubts": (UNSIGNED,)}, {})}  # fmt: skip


@pytest.mark.parametrize(("before", "since"), RIGHT.values(), ids=RIGHT.keys())
def test_what_is_right_before_an_accepted_backup_stays_good(before, since):
    history = [*daily("10-01", "10-31", **before), *daily("11-01", "11-22", **since)]
    history[-3] = replace(history[-3], accepted=True)
    decisions = {d.id: d for d in decide(history, policy(monthly=2), NOW)}
    assert not any(d.warnings for d in decisions.values())
    assert "monthly 2026-10" in decisions["10-31"].reasons


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
    {"doubts": (UNSIGNED,)},
    {"doubts": ("the drill was red",)},
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
    minimum_age_hours=st.sampled_from([0, 0, 1, 24, 500]),
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
            assert NOW - candidate.at >= timedelta(hours=numbers.minimum_age_hours)
            assert not decisions[candidate.id].in_doubt
        else:
            assert NOW - candidate.begun_at >= IN_PROGRESS
    if verified := [c for c in sound if c.verified_at]:
        assert verified[-1] in left
        assert any(c.verified_at == max(v.verified_at for v in verified) for c in verified if c in left)


@small
@given(some, policies)
def test_accepting_one_makes_no_other_good(history, numbers):
    """What a drill could not restore, and what is empty between data and the data that was accepted, takes no place."""
    decisions, _, _ = run(history, numbers)
    sound = good(history, decisions)
    data = [c for c in sound if c.rows]
    base = max((n for n, c in enumerate(sound) if c.accepted), default=0)
    for number, candidate in enumerate(sound):
        if not candidate.accepted:
            assert not set(candidate.doubts) - {UNSIGNED}
        if not candidate.accepted and number < base and candidate.rows == 0 and sound[base].rows:
            assert not any(c.at < candidate.at for c in data)


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
def test_before_a_backup_in_doubt_nothing_goes_and_nothing_at_all_when_it_is_the_newest(history, numbers):
    decisions, _, deleted = run(history, numbers)
    doubted = [c for c in history if decisions[c.id].in_doubt]
    accepted = [(c.at, c.id) for c in history if c.complete and c.accepted and not decisions[c.id].warnings]
    assert {c.id for c in doubted} >= {
        c.id
        for c in history
        if c.complete
        and decisions[c.id].warnings
        and not c.accepted
        and (c.at, c.id) > max(accepted, default=(c.at, ""))
    }
    for doubt in doubted:
        assert all((c.at, c.id) > (doubt.at, doubt.id) for c in deleted)
    newest = max((c for c in history if c.complete), key=lambda c: (c.at, c.id), default=None)
    if newest in doubted:
        assert deleted == []


@small
@given(calm_histories, policies, st.sampled_from(["stored_bytes", "tables", "rows"]), st.floats(0, 1))
def test_a_newest_backup_that_lost_much_stops_everything(history, numbers, what, share):
    """The newest is as the one before it, but for one measure."""
    assume(any(c.complete for c in history))
    last = max((c for c in history if c.complete), key=lambda c: (c.at, c.id))
    usual = {"stored_bytes": 1000, "tables": 12, "rows": 500}[what]
    lost = int(share * 11.9) if what == "tables" else int(usual * share * FAR_LESS)
    shrunk = replace(last, id="shrunk", begun_at=NOW, snapshot_at=NOW, accepted=False, depends_on=(), **{what: lost})
    assume(what == "tables" or lost < FAR_LESS * usual)
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
    larger = RetentionSettings(**{n: v + getattr(more, n) for n, v in numbers.model_dump().items()})
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
