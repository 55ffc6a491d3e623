"""Decide which backups to keep and which to delete, and why: a pure function of the history, the policy and the time.

A backup is *good* when it is complete and nothing is wrong with it; only good ones count towards the policy.
Nothing is deleted while a backup has a problem that nobody has checked, while one has vanished, or while
the newest good one has less than half of the usual size: a source that was emptied by mistake, or somebody who can
write to the bucket, must not displace the last backups with the data.

A person who has checked a backup accepts it (`ops backup prune --accept ID`). From then on newer ones are compared
with it, so a database that was halved on purpose is reported once; and what a change of keys or of the bucket
causes in all backups that arrived before it are accepted too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median

from blueprint.settings.backup import RetentionSettings
from ops.repository.catalog import CLOCK_MISLEADS, CLOCK_WRONG

IN_PROGRESS = timedelta(hours=24)
"""A backup without a manifest may still be in progress; an older one was interrupted."""

FAR_LESS = 0.5
"""If the newest backup has less than this share of the usual bytes or rows, nothing is deleted."""

LATE_ARRIVAL = timedelta(hours=13)
"""The longest run (`TimeoutStartSec` of ancla-backup.service) plus an hour. A later arrival is backdated, or a copy."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The facts about one backup that retention uses. Sizes in bytes, times with a time zone.

    `stored_at` is when its manifest (or else its newest object) arrived, by the store's own clock. `complete` is
    True if its manifest exists. `tables` and `rows` are None if the kind has none. `verified_at` is when
    a drill last restored it intact, `immutable_until` when the store's lock ends; `depends_on` are backups whose
    objects it needs.
    `faults` make it useless (its manifest cannot be read, an object is missing), `doubts` are suspicious but may be
    right, so a person must check, and `changes` can also come from a change of keys (another signature, other
    recipients). `accepted` is True if a person has accepted it.
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
        """Return the moment of its data, as far as it is known, in UTC."""
        return (self.snapshot_at or self.begun_at).astimezone(UTC)

    @property
    def arrived(self) -> datetime:
        """Return when it arrived, by the store's clock if known."""
        return (self.stored_at or self.at).astimezone(UTC)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The decision on a backup: `reasons` to keep it, or the one to delete it; `warnings` are its problems.

    `holds` is True if nothing is deleted until a person has checked it.
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
        policy: how many to keep.
        now: the current time.
        held: problems of the set itself, such as a vanished backup; while there is any, all are kept.

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
    """The backups of one set with the reasons found so far to keep each."""

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
        """Keep good backups by the policy: of each hour, day, … the one that arrived first.

        One that arrives later, whatever its date, does not replace it.
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
        """Keep backups that no policy may delete."""
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
                self._keep(candidate, f"check it, then --accept {candidate.id}")
        self._hold()

    def keep_the_least(self) -> None:
        """Keep the newest of the others until there are as many good ones as the policy demands."""
        missing = self.policy.minimum_count - sum(bool(self.reasons[c.id]) for c in self.good)
        for candidate in self.good[::-1]:
            if missing > 0 and not self.reasons[candidate.id]:
                self._keep(candidate, f"one of at least {self.policy.minimum_count}")
                missing -= 1

    def keep_what_they_need(self) -> None:
        """Keep the backups that a kept one depends on, recursively."""
        waiting = [candidate for candidate in self.ordered if self.reasons[candidate.id]]
        for candidate in waiting:  # grows during the loop
            for needed in dict.fromkeys(candidate.depends_on):
                if needed in self.by_id and needed != candidate.id:
                    if not self.reasons[needed]:
                        waiting.append(self.by_id[needed])
                    self._keep(self.by_id[needed], f"{candidate.id} depends on it")

    def decision(self, candidate: Candidate) -> Decision:
        """Return the decision on one backup."""
        warnings = self.warnings.get(candidate.id, ())
        if reasons := self.reasons[candidate.id]:
            holds = candidate.id in self.holding
            return Decision(id=candidate.id, keep=True, reasons=tuple(reasons), warnings=warnings, holds=holds)
        if not candidate.complete:
            reason = "incomplete and older than 24 h"
        elif warnings:
            reason = "not good, and checked by a person"
        else:
            reason = "no rule keeps it"
        return Decision(id=candidate.id, keep=False, reasons=(reason,), warnings=warnings)

    def _keep(self, candidate: Candidate, reason: str) -> None:
        self.reasons[candidate.id].append(reason)

    def _keep_the_young(self) -> None:
        age = timedelta(seconds=self.policy.minimum_age)
        for candidate in self.ordered:
            if candidate.complete and self.now - max(candidate.at, candidate.arrived) < age:
                self._keep(candidate, f"younger than {self.policy.minimum_age}")
            if not candidate.complete and self._may_be_in_progress(candidate):
                self._keep(candidate, "incomplete, may be in progress: younger than 24 h")

    def _hold(self) -> None:
        """Keep everything while there is a problem that nobody has checked."""
        causes = [*self.held, *(f"{name} has a problem" for name in sorted(self.holding))]
        for candidate in self.ordered if causes else ():
            if not self.reasons[candidate.id]:
                self._keep(candidate, f"held: {causes[0]}" + (f", and {len(causes) - 1} more" if causes[1:] else ""))

    def _may_be_in_progress(self, candidate: Candidate) -> bool:
        return self.now - max(candidate.begun_at, candidate.stored_at or candidate.begun_at) < IN_PROGRESS

    def _problems(self) -> dict[str, tuple[str, ...]]:
        """Return the problems of each backup that is not good, its own or of those it depends on."""
        found = {c.id: problems for c in self.ordered if (problems := tuple(self._wrong_with(c)))}
        usable = {c.id for c in self.complete if not c.faults}
        broken = True
        while broken:  # a backup that needs an unusable one is unusable itself
            broken = False
            for candidate in self.complete:
                if candidate.id in usable and (lost := [n for n in candidate.depends_on if n not in usable]):
                    more = tuple(f"depends on {needed}, which is not complete" for needed in lost)
                    found[candidate.id] = (*found.get(candidate.id, ()), *more)
                    usable.discard(candidate.id)
                    broken = True
        return found

    def _wrong_with(self, candidate: Candidate) -> Iterable[str]:
        if not candidate.complete:  # a lost manifest is no reason to delete the rest
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
        """Compare the newest good backup with the usual size; return what is too small."""
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
            if not few:  # otherwise a source that stays empty would become usual
                for name, value in _measures(candidate).items():
                    usual.setdefault(name, []).append(value)
        return ""


def _misdated(candidate: Candidate) -> Iterable[str]:
    """Compare the backup's own dates with its arrival."""
    if candidate.stored_at is None:
        return
    first, last = sorted((candidate.begun_at, candidate.at))
    if candidate.stored_at - first > LATE_ARRIVAL or last - candidate.stored_at > CLOCK_MISLEADS:
        came = candidate.stored_at.astimezone(UTC)
        yield f"dated {first.astimezone(UTC):%Y-%m-%d %H:%M} UTC, arrived {came:%Y-%m-%d %H:%M} UTC"


def _measures(candidate: Candidate) -> dict[str, int]:
    """Return its known measures. The bytes of an incremental backup are left out: it has only new content."""
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
"""The periods of a policy by the setting's name: each maps a moment in UTC to the period's name."""
