"""Which backups stay and which go, and why: a pure function of the history, the policy and the time.

A backup is *good* when it is complete, nothing is known to be wrong with it, and it does not look suspicious beside
those before it. Only good ones fill the places of the policy. What looks wrong is never deleted, and neither is
anything before it, until a person has said that it is right (`--accept ID`): a source that was emptied by mistake must
not push out the last backups that still hold the data.

Accepting a backup measures anew from it: a database that was halved on purpose is told once. What looks wrong before it
holds nothing from then on, and is still not good: it does not take the place of one that holds the data.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from blueprint.backup import RetentionSettings
from ops.repository.catalog import CLOCK_WRONG

IN_PROGRESS = timedelta(hours=24)
"""A backup without a manifest may be one that is being made; older than this it was broken off."""

FAR_LESS = 0.5
"""A backup with less than this share of the bytes or rows before it is suspicious."""


UNSIGNED = "not signed with the environment's key"
"""The one doubt that an accepted backup ends for all before it: the key was changed."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What retention knows of one backup. Sizes in bytes, times with a time zone.

    `stored_at` is when its last object came, by the store's clock: what is young by that is young, whatever its date.
    `complete` says that its manifest is there, `faults` what is known to be wrong with it (a manifest that cannot be
    read, an object that is missing), `doubts` what may be right, and a person must look at (another signature; of one
    without a manifest, that it had one).
    `verified_at` is when a drill last restored it equal. `immutable_until` is when the store's lock ends. `depends_on`
    are backups whose objects it needs. `tables` and `rows` are None where the kind of source has none, or nothing is
    known. `accepted` says that a person has looked at it.
    """

    id: str
    begun_at: datetime
    stored_at: datetime | None = None
    snapshot_at: datetime | None = None
    complete: bool = True
    faults: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    verified_at: datetime | None = None
    immutable_until: datetime | None = None
    depends_on: tuple[str, ...] = ()
    stored_bytes: int = 0
    tables: int | None = None
    rows: int | None = None
    accepted: bool = False

    @property
    def at(self) -> datetime:
        """The moment its data is of, as well as that is known, in UTC."""
        return (self.snapshot_at or self.begun_at).astimezone(UTC)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of it. `reasons` are all that keep it, or the one it goes for; `warnings` say why it is not good.

    `in_doubt` says that a person must look at it before anything up to it may go.
    """

    id: str
    keep: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    in_doubt: bool = False


def decide(candidates: Iterable[Candidate], policy: RetentionSettings, now: datetime) -> list[Decision]:
    """Decide on every backup of one set in one store, oldest first.

    Raises:
        ValueError: two have the same id, or a time has no zone.
    """
    history = _History(candidates, policy, now)
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
        self.warnings = self._faults() | self._lost()
        self.base = max((c for c in self._sound() if c.accepted), key=lambda c: (c.at, c.id), default=None)
        self.warnings |= _suspicious(self._sound(), self.base)
        doubted = [c for c in self.ordered if c.id in self.warnings and not c.accepted]
        self.in_doubt = {candidate.id for candidate in doubted}
        self.doubted = doubted[-1] if doubted else None
        passed, self.beside = _passed_over(self._sound(), self.base)
        self.warnings |= passed
        self.good = self._sound()

    def keep_by_policy(self) -> None:
        """Give the good ones the places of the policy, newest first; in each hour, day, … the newest has the place."""
        newest_first = self.good[::-1]
        for candidate in newest_first[: self.policy.keep_last]:
            self._keep(candidate, f"last {self.policy.keep_last}")
        for name, period in PERIODS.items():
            places: int = getattr(self.policy, name)
            taken: set[str] = set()
            for candidate in newest_first:
                label = period(candidate.at)
                if label not in taken and len(taken) < places:
                    taken.add(label)
                    self._keep(candidate, f"{name} {label}")

    def keep_whatever_the_policy(self) -> None:
        """Keep what no policy may delete."""
        if self.good:
            self._keep(self.good[-1], "newest good")
        verified = [c for c in self.good if c.verified_at] or [c for c in self.complete if c.verified_at]
        if verified:
            self._keep(verified[-1], "newest drill-verified")
            self._keep(max(verified, key=lambda c: (c.verified_at or c.at, c.at, c.id)), "last drill-verified")
        if self.base:
            self._keep(self.base, "accepted: what came after is measured against it")
        age = timedelta(hours=self.policy.minimum_age_hours)
        for candidate in self.ordered:
            if candidate.complete and self.now - max(candidate.at, candidate.stored_at or candidate.at) < age:
                self._keep(candidate, f"younger than {self.policy.minimum_age_hours} h")
            if not candidate.complete and self._may_be_in_progress(candidate):
                self._keep(candidate, "incomplete, and may be in progress: younger than 24 h")
            if candidate.immutable_until and candidate.immutable_until > self.now:
                self._keep(candidate, f"locked until {candidate.immutable_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
            if not self.good:
                self._keep(candidate, "there is no good backup: nothing is deleted")
        if self.doubted:
            self._hold(self.doubted)

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
            if larger := self.beside.get(candidate.id):  # else the next run would find nothing wrong with it
                if not self.reasons[larger]:
                    waiting.append(self.by_id[larger])
                self._keep(self.by_id[larger], f"{candidate.id} is measured against it")

    def decision(self, candidate: Candidate) -> Decision:
        """Return what was gathered for one backup."""
        warnings = self.warnings.get(candidate.id, ())
        if reasons := self.reasons[candidate.id]:
            doubted = candidate.id in self.in_doubt
            return Decision(id=candidate.id, keep=True, reasons=tuple(reasons), warnings=warnings, in_doubt=doubted)
        if not candidate.complete:
            reason = "incomplete, and older than 24 h"
        elif warnings:
            reason = f"no good one, and a person has looked at {'it' if candidate.accepted else 'a later one'}"
        else:
            reason = "no rule keeps it"
        return Decision(id=candidate.id, keep=False, reasons=(reason,), warnings=warnings)

    def _keep(self, candidate: Candidate, reason: str) -> None:
        self.reasons[candidate.id].append(reason)

    def _hold(self, doubted: Candidate) -> None:
        """Keep everything up to what is in doubt; when that is the newest backup, everything."""
        newest = doubted is self.complete[-1] if self.complete else True
        self._keep(doubted, f"in doubt: look at it, then --accept {doubted.id}")
        for candidate in self.ordered:
            if candidate is not doubted and (newest or (candidate.at, candidate.id) < (doubted.at, doubted.id)):
                self._keep(candidate, f"held: {doubted.id} is in doubt")

    def _sound(self) -> list[Candidate]:
        return [candidate for candidate in self.complete if candidate.id not in self.warnings]

    def _may_be_in_progress(self, candidate: Candidate) -> bool:
        return self.now - max(candidate.begun_at, candidate.stored_at or candidate.begun_at) < IN_PROGRESS

    def _lost(self) -> dict[str, tuple[str, ...]]:
        """Name the incomplete ones that were complete once: who lost a manifest has not asked for the rest to go."""
        return {
            c.id: c.doubts
            for c in self.ordered
            if not c.complete and c.doubts and not c.accepted and not self._may_be_in_progress(c)
        }

    def _faults(self) -> dict[str, tuple[str, ...]]:
        """Name what is wrong with complete ones, however they look beside others: faults, broken chains, the clock."""
        found = {c.id: c.faults for c in self.complete if c.faults}
        usable = {c.id for c in self.complete if not c.faults}
        broken = True
        while broken:  # one that needs an unusable one is unusable itself
            broken = False
            for candidate in self.complete:
                if candidate.id in usable and (lost := [n for n in candidate.depends_on if n not in usable]):
                    found[candidate.id] = tuple(f"depends on {needed}, which is not whole" for needed in lost)
                    usable.discard(candidate.id)
                    broken = True
        for candidate in self.complete:
            if max(candidate.at, candidate.begun_at) - self.now > CLOCK_WRONG:
                sign = f"dated {candidate.at:%Y-%m-%d %H:%M} UTC, which is to come: a clock is wrong"
                found[candidate.id] = (*found.get(candidate.id, ()), sign)
        return found


def _suspicious(sound: Sequence[Candidate], base: Candidate | None) -> dict[str, tuple[str, ...]]:
    """Name what is suspicious of each one beside the unsuspicious ones before it, from the newest accepted one on."""
    found: dict[str, tuple[str, ...]] = {}
    before: Candidate | None = None
    sizes: list[int] = []
    for candidate in sound[sound.index(base) if base else 0 :]:
        if not candidate.accepted and (signs := (*candidate.doubts, *_signs(candidate, before, sizes))):
            found[candidate.id] = signs
            continue
        before = candidate
        if not candidate.depends_on:
            insort(sizes, candidate.stored_bytes)
    return found


def _passed_over(
    sound: Sequence[Candidate], base: Candidate | None
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Name what is wrong with those before the newest accepted one, and by which earlier one that is seen.

    Small beside an earlier one *and* beside the accepted one: what a source had before it grew, or after it was halved
    on purpose, is right. Whether one is good does not change when others go: the one that shows it stays with it.
    """
    found: dict[str, tuple[str, ...]] = {}
    beside: dict[str, str] = {}
    most: dict[str, tuple[int, str]] = {}
    ends = _measures(base) if base else {}
    for candidate in sound[: sound.index(base)] if base else ():
        signs = [doubt for doubt in candidate.doubts if doubt != UNSIGNED]
        for name, value in _measures(candidate).items():
            most_before, larger = most.get(name, (0, ""))
            if _is_far_less(name, value, most_before) and _is_far_less(name, value, ends.get(name, 0)):
                signs.append(f"{value} {name}, {most_before} in {larger}")
                beside.setdefault(candidate.id, larger)
            if value > most_before:
                most[name] = (value, candidate.id)
        if signs and not candidate.accepted:
            found[candidate.id] = tuple(signs)
    return found, {name: larger for name, larger in beside.items() if name in found}


def _is_far_less(measure: str, value: int, other: int) -> bool:
    return value < (other if measure == "tables" else FAR_LESS * other)


def _signs(candidate: Candidate, before: Candidate | None, sizes: Sequence[int]) -> Iterable[str]:
    """`before` is the last unsuspicious one, `sizes` are the bytes of all of them, sorted."""
    now, was = _measures(candidate), _measures(before) if before else {}
    if empty := [name for name, value in now.items() if value == 0 and was.get(name) != 0]:
        yield f"empty: no {', no '.join(empty)}"
        return
    if "bytes" in now and sizes and now["bytes"] < FAR_LESS * (middle := sizes[len(sizes) // 2]):
        yield f"{now['bytes']} bytes, {middle} is the median of those before"
    if before and "tables" in now and now["tables"] < was.get("tables", 0):
        yield f"{now['tables']} tables, {was['tables']} in {before.id}"
    if before and "rows" in now and now["rows"] < FAR_LESS * was.get("rows", 0):
        yield f"{now['rows']} rows, {was['rows']} in {before.id}"


def _measures(candidate: Candidate) -> dict[str, int]:
    """Return what is known of its extent. The bytes of an incremental one are left out: it holds only what is new."""
    size = None if candidate.depends_on else candidate.stored_bytes
    found = {"bytes": size, "tables": candidate.tables, "rows": candidate.rows}
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
