"""Retention put to work on one store: what is there, what `retention` says of it, and the deleting.

A backup is deleted page first, then manifest, then the rest. Whatever interrupts that leaves an incomplete backup, from
which nothing restores and which the next run clears away; never a manifest whose objects are gone. What has a page and
no manifest was left by no prune: its manifest was lost, and a person must look. What depends on others goes before
them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Protocol, runtime_checkable

from blueprint.backup import RetentionSettings
from ops.backup.drill_history import Proofs
from ops.backup.override import is_accepted
from ops.backup.retention import IN_PROGRESS, UNSIGNED, Candidate, Decision, decide
from ops.core.errors import DeleteRefusedError, ManifestError, ObjectMissingError
from ops.repository import catalog
from ops.repository.catalog import CatalogEntry, prefix_of
from ops.repository.manifest import MANIFEST_NAME, PAGE_NAME, Manifest
from ops.repository.stores.base import Store

LOST = f"its {MANIFEST_NAME} is lost: {PAGE_NAME}, which is written just before it, is there"


@runtime_checkable
class LockingStore(Protocol):
    """A store that may know how long an object is locked."""

    def locked_until(self, key: str) -> datetime | None:
        """Return when the lock ends; None where there is none, or it is not told."""
        ...


@dataclass(frozen=True, kw_only=True)
class PruneJob:
    """The backups of one set (`name`) in one store, and what they are judged by.

    `environment` and `project` are whose they should be, `signer` who should have signed them (any, when None).
    `signers` are those whose acceptances count (anybody's, when there are none). `proofs` are of drills; `accepted` are
    those a person accepts now.
    """

    store: Store
    name: str
    policy: RetentionSettings
    environment: str
    project: str
    signer: str | None = None
    signers: Sequence[str] = ()
    proofs: Proofs = field(default_factory=Proofs)
    accepted: Collection[str] = ()


@dataclass(frozen=True, kw_only=True)
class PrunePlan:
    """What becomes of each backup of the set, oldest first. Nothing was changed for it."""

    store: Store
    name: str
    steps: tuple[tuple[Candidate, Decision], ...]

    @property
    def doomed(self) -> list[Candidate]:
        """What goes, newest first."""
        return [candidate for candidate, decision in reversed(self.steps) if not decision.keep]

    @property
    def in_doubt(self) -> list[Decision]:
        """What a person must look at before anything up to it may go."""
        return [decision for _, decision in self.steps if decision.in_doubt]


class Outcome(StrEnum):
    """How the deleting of one backup ended."""

    DELETED = "deleted"
    NOT_YET = "not yet"


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """One backup that was to go. `reason` says why it is still there, where it is."""

    id: str
    outcome: Outcome
    reason: str = ""


def make_plan(job: PruneJob, now: datetime) -> PrunePlan:
    """Read the store, and decide.

    Raises:
        StoreError: the store does not answer as it should; nothing was decided.
    """
    candidates = [_candidate(job, entry) for entry in catalog.entries(job.store, job.name)]
    by_id = {candidate.id: candidate for candidate in candidates}
    decisions = decide(candidates, job.policy, now)
    if isinstance(job.store, LockingStore):
        # Only what would go is asked for. A versioned bucket would hide what is locked, and keep and charge for it.
        for decision in decisions:
            if not decision.keep and by_id[decision.id].complete:
                with suppress(ObjectMissingError):  # another run was quicker
                    until = job.store.locked_until(prefix_of(job.name, decision.id) + MANIFEST_NAME)
                    by_id[decision.id] = replace(by_id[decision.id], immutable_until=until)
        decisions = decide(by_id.values(), job.policy, now)
    return PrunePlan(store=job.store, name=job.name, steps=tuple((by_id[d.id], d) for d in decisions))


def act(plan: PrunePlan, report: Callable[[str], None]) -> Iterator[Deletion]:
    """Delete what the plan says, and yield what was done. What the store keeps stays, and so does what that depends on.

    Raises:
        StoreError: the store does not answer; run again, and it goes on from there.
    """
    kept: dict[str, str] = {}  # what must stay after all, and for whom
    for candidate in _dependents_first(plan.doomed):
        if candidate.id in kept:
            deletion = Deletion(
                id=candidate.id,
                outcome=Outcome.NOT_YET,
                reason=f"{kept[candidate.id]} depends on it, and is still there",
            )
        else:
            deletion = _delete(plan.store, plan.name, candidate)
        if deletion.outcome is Outcome.NOT_YET:
            kept |= dict.fromkeys(candidate.depends_on, candidate.id)
        report(f"{candidate.id} of {plan.name}: {deletion.outcome} {deletion.reason}".rstrip())
        yield deletion
    if plan.doomed:
        plan.store.abort_uploads(f"{plan.name}/", older_than_hours=IN_PROGRESS.total_seconds() / 3600)


def _delete(store: Store, name: str, candidate: Candidate) -> Deletion:
    prefix = prefix_of(name, candidate.id)
    manifest = prefix + MANIFEST_NAME
    keys = [item.key for item in store.list(prefix)]
    if not candidate.complete and manifest in keys:
        return Deletion(id=candidate.id, outcome=Outcome.NOT_YET, reason="was completed in the meantime")
    try:
        for key in sorted(keys, key=lambda key: (key != prefix + PAGE_NAME, key != manifest, key)):
            store.delete([key])
    except DeleteRefusedError as error:
        return Deletion(id=candidate.id, outcome=Outcome.NOT_YET, reason=str(error))
    return Deletion(id=candidate.id, outcome=Outcome.DELETED)


def _dependents_first(doomed: Sequence[Candidate]) -> list[Candidate]:
    """Order what goes: each before all that it needs."""
    by_id = {candidate.id: candidate for candidate in doomed}
    order = TopologicalSorter({name: [] for name in by_id})
    for candidate in doomed:
        for needed in candidate.depends_on:
            order.add(needed, candidate.id)
    try:
        return [by_id[name] for name in order.static_order() if name in by_id]
    except CycleError:  # no backup of ours; whatever made it, there is no right order
        return list(doomed)


def _candidate(job: PruneJob, entry: CatalogEntry) -> Candidate:
    bare = Candidate(
        id=entry.id,
        begun_at=entry.begun_at,
        stored_at=entry.stored_at,
        complete=entry.complete,
        stored_bytes=entry.size,
        verified_at=job.proofs.verified.get(entry.id),
    )
    if not entry.complete:  # a word in the store is of when it was complete, and says another thing
        lost = (LOST,) if entry.page else ()
        return replace(bare, accepted=entry.id in job.accepted, doubts=lost)
    accepted = entry.id in job.accepted or is_accepted(job.store, job.name, entry.id, job.signers)
    try:
        manifest = catalog.read_manifest(job.store, job.name, entry.id)
    except ManifestError as error:
        return replace(bare, accepted=accepted, faults=(str(error),))
    source = manifest.source
    return replace(
        bare,
        accepted=accepted,
        snapshot_at=manifest.snapshot_at,
        depends_on=manifest.depends_on,
        stored_bytes=manifest.stored_bytes,
        tables=len(tables) if (tables := getattr(source, "tables", None)) is not None else None,
        rows=source.rows,
        faults=tuple(catalog.missing_objects(job.store, manifest)),
        doubts=tuple(_doubts(job, manifest)),
    )


def _doubts(job: PruneJob, manifest: Manifest) -> Iterable[str]:
    theirs, ours = f"{manifest.project}/{manifest.environment}", f"{job.project}/{job.environment}"
    if theirs != ours:
        yield f"of {theirs}, not of {ours}"
    if job.signer is not None and not manifest.signed_by(job.signer):
        yield UNSIGNED
    if manifest.id in job.proofs.refuted:
        yield job.proofs.refuted[manifest.id]
