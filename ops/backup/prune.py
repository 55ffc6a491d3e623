"""Apply retention to one store: list the backups, let `retention` decide, and delete.

A backup is deleted page first, then manifest, then the rest. An interruption leaves an incomplete backup, from
which nothing can be restored and which the next run removes, but never a manifest without its objects. A page without
a manifest was not left by a prune: its manifest was lost, and a person must check it. Dependent backups are deleted
first. Each deletion is recorded in the verification log beforehand, so that any other loss is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Protocol, runtime_checkable

from blueprint.settings.backup import RetentionSettings
from ops.backup.drill_history import DrillHistory
from ops.backup.override import is_overridden
from ops.backup.retention import IN_PROGRESS, Candidate, Decision, decide
from ops.backup.verification_log import REWRITTEN, merged, note_deleted, read_log, unexplained
from ops.core.errors import DeleteRefusedError, ManifestError, ObjectMissingError
from ops.core.signing import Signer
from ops.repository import catalog
from ops.repository.catalog import CatalogEntry, Expected, prefix_of
from ops.repository.manifest import MANIFEST_NAME, PAGE_NAME, Manifest
from ops.repository.stores.base import Store

LOST = f"its {MANIFEST_NAME} is lost: {PAGE_NAME}, which is written just before it, exists"


@runtime_checkable
class LockingStore(Protocol):
    """A store that may know until when an object is locked."""

    def locked_until(self, key: str) -> datetime | None:
        """Return when the lock ends; None if there is none or it is not reported."""
        ...


@dataclass(frozen=True, kw_only=True)
class PruneJob:
    """The backups of one set (`name`) in one store, and the requirements they must meet.

    `environment` and `project` are those they should belong to, `expected` the signer and recipients they should
    have. `signers` are the keys whose verification log and overrides are trusted (none: all keys), `seal`
    signs the records. `history` is what drills have proved; `accepted` are ids that a person accepts now.
    """

    store: Store
    name: str
    policy: RetentionSettings
    environment: str
    project: str
    expected: Expected = field(default_factory=Expected)
    signers: Sequence[str] = ()
    seal: Signer | None = None
    history: DrillHistory = field(default_factory=DrillHistory)
    accepted: Collection[str] = ()


@dataclass(frozen=True, kw_only=True)
class PrunePlan:
    """The decision on each backup of the set, oldest first. Planning changes nothing.

    `digests` are those of the readable manifests, by id. `vanished` maps the ids of backups that are gone
    without a prune to what is known about them; `given_up` are those whose loss a person accepts now.
    """

    job: PruneJob
    steps: tuple[tuple[Candidate, Decision], ...]
    digests: Mapping[str, str]
    vanished: Mapping[str, str]
    given_up: Sequence[str] = ()

    @property
    def store(self) -> Store:
        """Return the store."""
        return self.job.store

    @property
    def name(self) -> str:
        """Return the name of the backup set."""
        return self.job.name

    @property
    def doomed(self) -> list[Candidate]:
        """Return the backups to delete, newest first."""
        return [candidate for candidate, decision in reversed(self.steps) if not decision.keep]

    @property
    def problems(self) -> dict[str, str]:
        """Return the problems that a person must check before anything is deleted, by id."""
        holding = {decision.id: "; ".join(decision.warnings) for _, decision in self.steps if decision.holds}
        return {**self.vanished, **holding}


class Outcome(StrEnum):
    """The result of deleting one backup."""

    DELETED = "deleted"
    NOT_YET = "not yet"


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """A backup to be deleted. `reason` explains why it still exists, if it does."""

    id: str
    outcome: Outcome
    reason: str = ""


def make_plan(job: PruneJob, now: datetime) -> PrunePlan:
    """Read the store and decide; change nothing.

    Raises:
        StoreError: the store answers with an error; nothing was decided.
    """
    listed = [(entry, _manifest(job, entry)) for entry in catalog.entries(job.store, job.name)]
    digests = {entry.id: found.digest for entry, found in listed if isinstance(found, Manifest)}
    behind = _unexplained(job, {entry.id: digests.get(entry.id, "") for entry, _ in listed if entry.complete})
    rewritten = {name for name, what in behind.items() if what == REWRITTEN}
    gone = {name: what for name, what in behind.items() if name not in rewritten}
    vanished = {name: what for name, what in gone.items() if name not in job.accepted}
    candidates = [_candidate(job, entry, found, rewritten) for entry, found in listed]
    by_id = {candidate.id: candidate for candidate in candidates}
    held = [f"{name} has {what.partition(':')[0]}" for name, what in vanished.items()]
    decisions = decide(candidates, job.policy, now, held=held)
    if isinstance(job.store, LockingStore):
        # Only for backups to be deleted. A versioned bucket would hide locked objects, but keep them and charge for it.
        for decision in decisions:
            if not decision.keep and by_id[decision.id].complete:
                with suppress(ObjectMissingError):  # another run has deleted it
                    until = job.store.locked_until(prefix_of(job.name, decision.id) + MANIFEST_NAME)
                    by_id[decision.id] = replace(by_id[decision.id], immutable_until=until)
        decisions = decide(by_id.values(), job.policy, now, held=held)
    steps = tuple((by_id[d.id], d) for d in decisions)
    given_up = sorted(gone.keys() - vanished.keys())
    return PrunePlan(job=job, steps=steps, digests=digests, vanished=vanished, given_up=given_up)


def act(plan: PrunePlan, now: datetime, report: Callable[[str], None]) -> Iterator[Deletion]:
    """Execute the plan, and yield each deletion. A backup that the store keeps stays, and so do those it depends on.

    Raises:
        KeyProblemError: no key is given to sign the record of deletions; nothing was deleted.
        StoreError: the store does not answer; run again to continue.
    """
    kept: dict[str, str] = {}  # what must stay nevertheless, and for which backup
    going = {prefix_of(plan.name, name) for name in [*(candidate.id for candidate in plan.doomed), *plan.given_up]}
    if going:
        note_deleted(plan.store, going, now, signer=plan.job.seal, signers=plan.job.signers)
    for candidate in _dependents_first(plan.doomed):
        if candidate.id in kept:
            deletion = Deletion(
                id=candidate.id,
                outcome=Outcome.NOT_YET,
                reason=f"{kept[candidate.id]} depends on it and still exists",
            )
        else:
            deletion = _delete(plan.store, plan.name, candidate)
        if deletion.outcome is Outcome.NOT_YET:
            kept |= dict.fromkeys(candidate.depends_on, candidate.id)
        report(f"{candidate.id} of {plan.name}: {deletion.outcome} {deletion.reason}".rstrip())
        yield deletion
    if plan.doomed:
        plan.store.abort_uploads(f"{plan.name}/", older_than_hours=IN_PROGRESS.total_seconds() / 3600)


def _unexplained(job: PruneJob, present: Mapping[str, str]) -> dict[str, str]:
    """Return the backups that vanished or were rewritten, by id, compared with the verification log and drills."""
    log = read_log(job.store, job.signers)

    def of_set(prefixes: Iterable[str]) -> dict[str, str]:
        return {key: key.split("/")[1] for key in prefixes if key.startswith(f"{job.name}/")}

    logged = {name: {log.backups[key]} for key, name in of_set(log.backups).items()}
    return unexplained(merged(logged, job.history.seen), present, set(of_set(log.deleted).values()))


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
    """Sort the backups to delete: each before all that it needs."""
    by_id = {candidate.id: candidate for candidate in doomed}
    order = TopologicalSorter({name: [] for name in by_id})
    for candidate in doomed:
        for needed in candidate.depends_on:
            order.add(needed, candidate.id)
    try:
        return [by_id[name] for name in order.static_order() if name in by_id]
    except CycleError:  # not made by us; there is no correct order
        return list(doomed)


def _manifest(job: PruneJob, entry: CatalogEntry) -> Manifest | ManifestError | None:
    """Return the manifest of a backup, or why it cannot be read; None if there is none."""
    if not entry.complete:
        return None
    try:
        return catalog.read_manifest(job.store, job.name, entry.id)
    except ManifestError as error:
        return error


def _candidate(
    job: PruneJob, entry: CatalogEntry, manifest: Manifest | ManifestError | None, rewritten: Collection[str]
) -> Candidate:
    bare = Candidate(
        id=entry.id,
        begun_at=entry.begun_at,
        stored_at=entry.stored_at,
        complete=entry.complete,
        stored_bytes=entry.size,
        accepted=entry.id in job.accepted,
    )
    if manifest is None:
        return replace(bare, doubts=(LOST,) if entry.page else ())
    if not isinstance(manifest, Manifest):
        return replace(bare, faults=(str(manifest),))
    source, key = manifest.source, (manifest.id, manifest.digest)
    return replace(
        bare,
        accepted=bare.accepted or is_overridden(job.store, job.name, entry.id, manifest.digest, job.signers),
        snapshot_at=manifest.snapshot_at,
        depends_on=manifest.depends_on,
        stored_bytes=manifest.stored_bytes,
        tables=len(tables) if (tables := getattr(source, "tables", None)) is not None else None,
        rows=source.rows,
        verified_at=job.history.verified.get(key),
        faults=tuple(catalog.missing_objects(job.store, manifest)),
        doubts=tuple(_doubts(job, manifest, rewritten)),
        changes=tuple(job.expected.differences(manifest)),
    )


def _doubts(job: PruneJob, manifest: Manifest, rewritten: Collection[str]) -> Iterable[str]:
    theirs, ours = f"{manifest.project}/{manifest.environment}", f"{job.project}/{job.environment}"
    if theirs != ours:
        yield f"of {theirs}, not of {ours}"
    if manifest.id in rewritten:
        yield REWRITTEN
    if why := job.history.failed.get((manifest.id, manifest.digest)):
        yield why
