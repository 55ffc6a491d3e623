"""Which backups stay and which go, and why: a pure function of the history, the policy and the time.

A backup is *good* when it is complete and nothing is wrong with it; only good ones fill the places of the policy.
Nothing at all is deleted while a backup has a problem that no person has looked at, while one has vanished, or while
the newest good one holds less than half of what is usual: a source that was emptied by mistake, or somebody who can
write to the bucket, must not push out the last backups that hold the data.

A person who has looked at a backup accepts it (`ops backup prune --accept ID`). From then on newer ones are compared
with it, so a database that was halved on purpose is reported once; and what a change of keys, or of the bucket, makes
of all that had arrived before it is accepted too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median

from blueprint.backup import RetentionSettings
from ops.repository.catalog import CLOCK_MISLEADS, CLOCK_WRONG

IN_PROGRESS = timedelta(hours=24)
"""A backup without a manifest may still be in progress; an older one was interrupted."""

FAR_LESS = 0.5
"""A newest backup with less than this share of the usual bytes or rows holds everything."""

LATE_ARRIVAL = timedelta(hours=13)
"""The longest run (`TimeoutStartSec` of ancla-backup.service) and an hour. What comes later is backdated, or a copy."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What retention knows of one backup. Sizes in bytes, times with a time zone.

    `stored_at` is when its manifest arrived (without one: its newest object), by the store's own clock. `complete` is
    True if its manifest is there. `tables` and `rows` are None where the kind of source has none. `verified_at` is when
    a drill last restored it equal, `immutable_until` when the store's lock ends; `depends_on` are backups whose objects
    it needs.
    Of what is wrong, `faults` make it useless (its manifest cannot be read, an object is missing), `doubts` may be
    right and a person must look, and `changes` are what a change of keys explains too (another signature, other
    recipients). `accepted` is True if a person has looked at it.
    """

    id: str
    begun_at: datetime
    stored_at: datetime | None = None
    snapshot_at: datetime | None = None
    complete: bool = True
    faults: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    verified_at: datetime | None = None
    immutable_until: datetime | None = None
    depends_on: tuple[str, ...] = ()
    stored_bytes: int = 0
    tables: int | None = None
    rows: int | None = None
    accepted: bool = False

    @property
    def at(self) -> datetime:
        """The moment its data is of, as far as it is known, in UTC."""
        return (self.snapshot_at or self.begun_at).astimezone(UTC)

    @property
    def arrived(self) -> datetime:
        """When it came, by the store's clock where that is known."""
        return (self.stored_at or self.at).astimezone(UTC)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of a backup: `reasons` to keep it, or the one to delete it; `warnings` are what is wrong with it.

    `holds` is True if nothing is deleted until a person has looked at it.
    """

    id: str
    keep: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    holds: bool = False


def decide(
    candidates: Iterable[Candidate], policy: RetentionSettings, now: datetime, *, held: Sequence[str] = ()
) -> list[Decision]:
    """Decide on every backup of one set in one store, oldest first.

    Args:
        candidates: all of them.
        policy: how many stay.
        now: the time here.
        held: what is wrong with the set as a whole, such as a backup that has vanished; while there is any, all stay.

    Raises:
        ValueError: two have the same id, or a time has no zone.
    """
    history = _History(candidates, policy, now, held)
    history.keep_by_policy()
    history.keep_whatever_the_policy()
    history.keep_the_least()
    history.keep_what_they_need()
    return [history.decision(candidate) for candidate in history.ordered]


@dataclass
class _History:
    """The backups of one set with the reasons to keep each, as they are gathered."""

    candidates: Iterable[Candidate]
    policy: RetentionSettings
    now: datetime
    held: Sequence[str]
    ordered: list[Candidate] = field(init=False)
    warnings: dict[str, tuple[str, ...]] = field(init=False)
    reasons: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.ordered = sorted(self.candidates, key=lambda c: (c.at, c.id))
        times = [
            time
            for c in self.ordered
            for time in (c.begun_at, c.stored_at, c.snapshot_at, c.verified_at, c.immutable_until)
            if time
        ]
        if any(time.tzinfo is None for time in [self.now, *times]):
            raise ValueError("retention needs times with a time zone")
        self.by_id = {candidate.id: candidate for candidate in self.ordered}
        if len(self.by_id) < len(self.ordered):
            raise ValueError("retention needs every backup once: two have the same id")
        self.reasons = {candidate.id: [] for candidate in self.ordered}
        self.complete = [candidate for candidate in self.ordered if candidate.complete]
        self.base = max((c for c in self.complete if c.accepted), key=lambda c: (c.arrived, c.id), default=None)
        self.warnings = self._problems()
        self.holding = {name for name in self.warnings if not self.by_id[name].accepted}
        self.good = [candidate for candidate in self.complete if candidate.id not in self.warnings]
        if self.good and (sign := self._shrunken(self.good[-1])):
            self.warnings[self.good[-1].id] = (sign,)
            self.holding.add(self.good[-1].id)
            self.good.pop()

    def keep_by_policy(self) -> None:
        """Give the good ones the places of the policy; of each hour, day, … the one that arrived first has the place.

        One that comes later, whatever its date, takes no place from one that has it.
        """
        newest_first = self.good[::-1]
        for candidate in newest_first[: self.policy.keep_last]:
            self._keep(candidate, f"last {self.policy.keep_last}")
        for name, period in PERIODS.items():
            first: dict[str, Candidate] = {}
            for candidate in sorted(self.good, key=lambda c: (c.arrived, c.at, c.id)):
                first.setdefault(period(candidate.at), candidate)
            places: int = getattr(self.policy, name)
            for candidate in sorted(first.values(), key=lambda c: (c.at, c.id), reverse=True)[:places]:
                self._keep(candidate, f"{name} {period(candidate.at)}")

    def keep_whatever_the_policy(self) -> None:
        """Keep what no policy may delete."""
        if self.good:
            self._keep(self.good[-1], "newest good")
        verified = [c for c in self.good if c.verified_at] or [c for c in self.complete if c.verified_at]
        if verified:
            self._keep(verified[-1], "newest drill-verified")
            last = max(verified, key=lambda c: (c.verified_at or c.at, c.at, c.id))
            if last is not verified[-1]:
                self._keep(last, "last drill-verified")
        if self.base:
            self._keep(self.base, "accepted: newer ones are compared with it")
        self._keep_the_young()
        for candidate in self.ordered:
            if candidate.immutable_until and candidate.immutable_until > self.now:
                self._keep(candidate, f"locked until {candidate.immutable_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
            if not self.good:
                self._keep(candidate, "there is no good backup: nothing is deleted")
            if candidate.id in self.holding:
                self._keep(candidate, f"look at it, then --accept {candidate.id}")
        self._hold()

    def keep_the_least(self) -> None:
        """Keep the newest of those that no reason keeps until there are as many good ones as the policy demands."""
        missing = self.policy.minimum_count - sum(bool(self.reasons[c.id]) for c in self.good)
        for candidate in self.good[::-1]:
            if missing > 0 and not self.reasons[candidate.id]:
                self._keep(candidate, f"one of at least {self.policy.minimum_count}")
                missing -= 1

    def keep_what_they_need(self) -> None:
        """Keep what a kept one depends on, and what that depends on."""
        waiting = [candidate for candidate in self.ordered if self.reasons[candidate.id]]
        for candidate in waiting:  # grows as it goes
            for needed in dict.fromkeys(candidate.depends_on):
                if needed in self.by_id and needed != candidate.id:
                    if not self.reasons[needed]:
                        waiting.append(self.by_id[needed])
                    self._keep(self.by_id[needed], f"{candidate.id} depends on it")

    def decision(self, candidate: Candidate) -> Decision:
        """Return what was gathered for one backup."""
        warnings = self.warnings.get(candidate.id, ())
        if reasons := self.reasons[candidate.id]:
            holds = candidate.id in self.holding
            return Decision(id=candidate.id, keep=True, reasons=tuple(reasons), warnings=warnings, holds=holds)
        if not candidate.complete:
            reason = "incomplete, and older than 24 h"
        elif warnings:
            reason = "not good, and a person has looked at it"
        else:
            reason = "no rule keeps it"
        return Decision(id=candidate.id, keep=False, reasons=(reason,), warnings=warnings)

    def _keep(self, candidate: Candidate, reason: str) -> None:
        self.reasons[candidate.id].append(reason)

    def _keep_the_young(self) -> None:
        age = timedelta(hours=self.policy.minimum_age_hours)
        for candidate in self.ordered:
            if candidate.complete and self.now - max(candidate.at, candidate.arrived) < age:
                self._keep(candidate, f"younger than {self.policy.minimum_age_hours} h")
            if not candidate.complete and self._may_be_in_progress(candidate):
                self._keep(candidate, "incomplete, and may be in progress: younger than 24 h")

    def _hold(self) -> None:
        """Keep everything while something is wrong that no person has looked at."""
        causes = [*self.held, *(f"{name} has a problem" for name in sorted(self.holding))]
        for candidate in self.ordered if causes else ():
            if not self.reasons[candidate.id]:
                self._keep(candidate, f"held: {causes[0]}" + (f", and {len(causes) - 1} more" if causes[1:] else ""))

    def _may_be_in_progress(self, candidate: Candidate) -> bool:
        return self.now - max(candidate.begun_at, candidate.stored_at or candidate.begun_at) < IN_PROGRESS

    def _problems(self) -> dict[str, tuple[str, ...]]:
        """Return what is wrong with each backup that is not good, by itself or for those it depends on."""
        found = {c.id: problems for c in self.ordered if (problems := tuple(self._wrong_with(c)))}
        usable = {c.id for c in self.complete if not c.faults}
        broken = True
        while broken:  # one that needs an unusable one is unusable itself
            broken = False
            for candidate in self.complete:
                if candidate.id in usable and (lost := [n for n in candidate.depends_on if n not in usable]):
                    more = tuple(f"depends on {needed}, which is not complete" for needed in lost)
                    found[candidate.id] = (*found.get(candidate.id, ()), *more)
                    usable.discard(candidate.id)
                    broken = True
        return found

    def _wrong_with(self, candidate: Candidate) -> Iterable[str]:
        if not candidate.complete:  # who lost a manifest has not asked for the rest to go
            if not (candidate.accepted or self._may_be_in_progress(candidate)):
                yield from candidate.doubts
            return
        yield from candidate.faults
        if max(candidate.at, candidate.begun_at) - self.now > CLOCK_WRONG:
            yield f"dated {candidate.at:%Y-%m-%d %H:%M} UTC, which is in the future: a clock is wrong"
        if candidate.accepted:
            return
        yield from candidate.doubts
        if self.base is None or (candidate.arrived, candidate.id) > (self.base.arrived, self.base.id):
            yield from candidate.changes
            yield from _misdated(candidate)

    def _shrunken(self, newest: Candidate) -> str:
        """Compare the newest good backup with the usual ones before it; return what it has too little of."""
        if newest.accepted:
            return ""
        usual: dict[str, list[int]] = {}
        for candidate in self.good[self.good.index(self.base) if self.base in self.good else 0 :]:
            few = [
                f"{value} {name}, {middle:.0f} is the median of those before"
                for name, value in _measures(candidate).items()
                if name in usual and value < FAR_LESS * (middle := median(usual[name]))
            ]
            if candidate is newest:
                return "; ".join(few)
            if not few:  # or a source that stays emptied would become what is usual
                for name, value in _measures(candidate).items():
                    usual.setdefault(name, []).append(value)
        return ""


def _misdated(candidate: Candidate) -> Iterable[str]:
    """Compare the dates that the backup gives itself with when it arrived."""
    if candidate.stored_at is None:
        return
    first, last = sorted((candidate.begun_at, candidate.at))
    if candidate.stored_at - first > LATE_ARRIVAL or last - candidate.stored_at > CLOCK_MISLEADS:
        came = candidate.stored_at.astimezone(UTC)
        yield f"dated {first.astimezone(UTC):%Y-%m-%d %H:%M} UTC, arrived {came:%Y-%m-%d %H:%M} UTC"


def _measures(candidate: Candidate) -> dict[str, int]:
    """Return what is known of its extent. The bytes of an incremental one are left out: it holds only what is new."""
    size = None if candidate.depends_on else candidate.stored_bytes
    found = {"bytes": size, "rows": candidate.rows}
    return {name: value for name, value in found.items() if value is not None}


def _week(at: datetime) -> str:
    year, week, _ = at.isocalendar()
    return f"{year}-W{week:02}"


PERIODS: Mapping[str, Callable[[datetime], str]] = {
    "hourly": lambda at: f"{at:%Y-%m-%d %H}h",
    "daily": lambda at: f"{at:%Y-%m-%d}",
    "weekly": _week,
    "monthly": lambda at: f"{at:%Y-%m}",
    "yearly": lambda at: f"{at:%Y}",
}
"""The periods of a policy, each by the setting's name: what one is called, for a moment in UTC."""
