"""Verify the content of the store: every backup, each manifest's signature, each object's SHA-256.

No identity is needed: the encrypted bytes are compared. A log in the same store records what was verified when
(`ops.backup.verification_log`), so that the next run reads only objects that are new, were stored again, or
were last read too long ago. A backup that the log or a drill has seen and that is gone or has another manifest is a
problem.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ops.backup.drill_history import DrillHistory
from ops.backup.override import is_overridden
from ops.backup.retention import IN_PROGRESS
from ops.backup.verification_log import (
    REWRITTEN,
    Seen,
    VerificationLog,
    is_trusted,
    merged,
    read_log,
    unexplained,
    write_log,
)
from ops.core.errors import ManifestError, ObjectMissingError, StoreError
from ops.core.progress import ProgressFactory, no_progress
from ops.core.signing import Signer
from ops.core.workers import cancel_on_error
from ops.repository.catalog import CatalogEntry, Expected, entries, prefix_of, read_manifest
from ops.repository.manifest import MANIFEST_NAME, PAGE_NAME, Manifest, ObjectRecord
from ops.repository.stores.base import Store
from ops.repository.upload import BLOCK

READERS = 4
PAGE_LIMIT = 1 << 20
"""Maximum bytes of a RESTORE.md; Ancla writes none that is larger."""
Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class VerifyJob:
    """The store to verify, and how.

    `expected` are the requirements on manifests, `signers` the keys whose log and overrides are trusted (none: every
    one is), `seal` signs the log of this run, `history` is what drills have seen, by the name of the set. `everything`
    reads every object, `sample` that many, drawn at random; by default an object is read if it is new, was stored
    again, or was last read more than `max_age` ago.
    """

    store: Store
    name: str | None = None
    expected: Expected = field(default_factory=Expected)
    signers: Sequence[str] = ()
    seal: Signer | None = None
    history: Mapping[str, DrillHistory] = field(default_factory=dict[str, DrillHistory])
    max_age: timedelta = timedelta(days=30)
    everything: bool = False
    sample: int | None = None


@dataclass(kw_only=True)
class Verdict:
    """The result. `problems` lists each object or manifest that differs from what was written; sizes in bytes.

    `remembered` of the objects not read are known from an earlier run.
    """

    backups: int = 0
    objects: int = 0
    read: int = 0
    read_bytes: int = 0
    remembered: int = 0
    oldest: datetime | None = None
    problems: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, kw_only=True)
class _Present:
    """An object in the store with the size that was written; `modified` by the store's clock."""

    record: ObjectRecord
    modified: datetime


def verify(job: VerifyJob, now: datetime, report: Report, meter: ProgressFactory = no_progress) -> Verdict:
    """Verify the content of one store.

    Raises:
        StoreError: the store does not answer; objects read until then are in the log.
    """
    verdict = Verdict()
    log = read_log(job.store, job.signers)
    known = log.objects
    listed = entries(job.store, job.name)
    complete = [entry for entry in listed if entry.complete]
    lost = [prefix_of(entry.name, entry.id) for entry in listed if _is_lost(entry, known, now)]
    verdict.problems += [f"{job.store.name}/{each}{MANIFEST_NAME}: missing, but {PAGE_NAME} exists" for each in lost]
    found = _survey(job, complete, verdict, report)
    present, digests = found.present, found.digests
    verdict.problems += _strange(job, found.strange, complete, digests)
    behind = _unexplained(job, log, digests, lost)
    verdict.problems += [f"{job.store.name}/{prefix}: {what}" for prefix, what in behind.items()]
    verdict.objects = len(present)
    due = _due(job, known, present, now)
    verdict.remembered = len({key for key in present if _is_known(known, key, present[key])} - set(due))
    report(f"{job.store.name}: {verdict.backups} backups, {len(present)} objects, {len(due)} to read")
    # Vanished objects leave the log only when the entire store was checked.
    seen = {
        key: item
        for key, item in known.items()
        if key in present or job.name is not None or key.startswith(tuple(lost))
    }
    sound = {prefix: digest for prefix, digest in found.trusted.items() if prefix not in behind}
    backups = {prefix: digest for prefix, digest in log.backups.items() if prefix not in log.deleted} | sound
    deleted = {prefix: at for prefix, at in log.deleted.items() if prefix not in digests}
    try:
        with meter(f"verifying {job.store.name}", sum(present[key].record.size for key in due)) as advance:
            for key, record, problem in _read(job.store, [(key, present[key].record) for key in due], advance):
                verdict.read += 1
                verdict.read_bytes += record.size
                if problem is None:
                    seen[key] = Seen(at=now, sha256=record.sha256, modified=present[key].modified)
                else:
                    seen.pop(key, None)
                    verdict.problems.append(problem)
    finally:
        if verdict.read or backups != log.backups:
            new = VerificationLog(verified_at=now, objects=seen, backups=backups, deleted=deleted)
            _write(job, new, report)
    if present.keys() <= seen.keys():
        verdict.oldest = min((seen[key].at for key in present), default=None)
    return verdict


@dataclass(kw_only=True)
class _Survey:
    """The manifests of the complete backups: `digests` of all (empty if unreadable), by prefix.

    `trusted` are those as expected, `strange` the others with the reasons; `present` are the objects of all,
    by key.
    """

    present: dict[str, _Present] = field(default_factory=dict[str, _Present])
    digests: dict[str, str] = field(default_factory=dict[str, str])
    trusted: dict[str, str] = field(default_factory=dict[str, str])
    strange: list[tuple[CatalogEntry, list[str]]] = field(default_factory=list[tuple[CatalogEntry, list[str]]])


def _survey(job: VerifyJob, complete: Sequence[CatalogEntry], verdict: Verdict, report: Report) -> _Survey:
    """Read every manifest, and compare its objects with the listing."""
    found = _Survey()
    for entry in complete:
        verdict.backups += 1
        prefix = prefix_of(entry.name, entry.id)
        manifest = _manifest(job, entry.name, entry.id, verdict)
        found.digests[prefix] = manifest.digest if manifest else ""
        if manifest is None:
            continue
        if differs := job.expected.differences(manifest):
            found.strange.append((entry, differs))
        else:
            found.trusted[prefix] = manifest.digest
        found.present |= _present(job.store, manifest, verdict)
        _check_page(job.store, manifest, verdict, report)
        gone = sorted(set(manifest.depends_on) - {other.id for other in complete if other.name == entry.name})
        verdict.problems += [f"{job.store.name}/{prefix.rstrip('/')}: needs {other}, which is gone" for other in gone]
    return found


def _write(job: VerifyJob, log: VerificationLog, report: Report) -> None:
    if not is_trusted(job.seal, job.signers):
        report("the result is not kept: no key of backup.signers signs the log; give --signing-key")
        return
    try:
        write_log(job.store, log, job.seal)
    except StoreError as error:  # a read-only key is enough to verify
        report(f"the result is not kept: {error}")


def _strange(
    job: VerifyJob,
    strange: Sequence[tuple[CatalogEntry, list[str]]],
    complete: Sequence[CatalogEntry],
    digests: Mapping[str, str],
) -> Iterable[str]:
    """List backups with another signer or other recipients, except those that a person has accepted.

    Accepting one accepts all backups of the set that arrived before it, as in retention: keys were changed.
    """
    for name in sorted({entry.name for entry, _ in strange}):
        accepted = [
            (entry.stored_at, entry.id)
            for entry in complete
            if entry.name == name and _is_accepted(job, prefix := prefix_of(name, entry.id), digests[prefix])
        ]
        for entry, differs in strange:
            if entry.name == name and (not accepted or (entry.stored_at, entry.id) > max(accepted)):
                yield from (f"{job.store.name}/{prefix_of(name, entry.id)}: {what}" for what in differs)


def _unexplained(
    job: VerifyJob, log: VerificationLog, digests: Mapping[str, str], lost: Sequence[str]
) -> dict[str, str]:
    """Return the backups that vanished or were rewritten, by prefix, except those reported for a lost manifest."""
    logged = {prefix: {digest} for prefix, digest in log.backups.items()}
    drilled = {
        prefix_of(name, backup): known
        for name, history in job.history.items()
        for backup, known in history.seen.items()
    }
    known = {
        prefix: found
        for prefix, found in merged(logged, drilled).items()
        if job.name is None or prefix.startswith(f"{job.name}/")
    }
    return {
        prefix: what
        for prefix, what in unexplained(known, digests, log.deleted.keys()).items()
        if prefix not in lost and not (what == REWRITTEN and _is_accepted(job, prefix, digests[prefix]))
    }


def _is_accepted(job: VerifyJob, prefix: str, digest: str) -> bool:
    name, backup, _ = prefix.split("/")
    return is_overridden(job.store, name, backup, digest, job.signers)


def _is_known(known: Mapping[str, Seen], key: str, found: _Present) -> bool:
    """Return True if an earlier run read these same bytes: the store has not stored the object again since."""
    seen = known.get(key)
    return seen is not None and seen.sha256 == found.record.sha256 and seen.modified == found.modified


def _is_lost(entry: CatalogEntry, known: Iterable[str], now: datetime) -> bool:
    """Return True if a backup has lost its manifest: it is not in progress, and no prune has started to delete it."""
    prefix = prefix_of(entry.name, entry.id)
    return (
        not entry.complete
        and entry.page
        and (now - max(entry.begun_at, entry.stored_at) >= IN_PROGRESS or any(key.startswith(prefix) for key in known))
    )


def _manifest(job: VerifyJob, name: str, backup_id: str, verdict: Verdict) -> Manifest | None:
    """Read one manifest and check its environment and project."""
    try:
        manifest = read_manifest(job.store, name, backup_id)
    except ManifestError as error:
        verdict.problems.append(str(error))
        return None
    return manifest


def _check_page(store: Store, manifest: Manifest, verdict: Verdict, report: Report) -> None:
    """Compare the RESTORE.md page with its digest. A missing one is no damage: a prune deletes it first."""
    if manifest.page_sha256 is None:
        return
    where = prefix_of(manifest.name, manifest.id) + PAGE_NAME
    try:
        with store.open(where) as body:
            raw = body.read(PAGE_LIMIT)
    except ObjectMissingError:
        report(f"{store.name}/{where}: missing; to restore by hand, follow another backup's page")
        return
    if hashlib.sha256(raw).hexdigest() != manifest.page_sha256:
        verdict.problems.append(f"{store.name}/{where}: changed; do not run it")


def _present(store: Store, manifest: Manifest, verdict: Verdict) -> dict[str, _Present]:
    """Return the objects in the store that have the recorded size; the others are problems."""
    prefix = prefix_of(manifest.name, manifest.id)
    listed = {item.key: item for item in store.list(prefix)}
    found: dict[str, _Present] = {}
    for record in manifest.objects:
        key = prefix + record.key
        item = listed.get(key)
        if item is None:
            verdict.problems.append(f"{store.name}/{key} ({record.holds}): missing")
        elif item.size != record.size:
            verdict.problems.append(
                f"{store.name}/{key} ({record.holds}): {item.size} bytes, but {record.size} were written"
            )
        else:
            found[key] = _Present(record=record, modified=item.modified)
    return found


def _due(job: VerifyJob, known: Mapping[str, Seen], present: Mapping[str, _Present], now: datetime) -> list[str]:
    """Choose the objects to read."""
    if job.everything:
        return list(present)
    if job.sample is not None:
        return random.SystemRandom().sample(list(present), min(job.sample, len(present)))

    def is_due(key: str) -> bool:
        # in the future: a clock was wrong
        return not _is_known(known, key, present[key]) or not timedelta() <= now - known[key].at <= job.max_age

    return [key for key in present if is_due(key)]


def _read(
    store: Store, due: Sequence[tuple[str, ObjectRecord]], advance: Callable[[int], None]
) -> Iterator[tuple[str, ObjectRecord, str | None]]:
    """Read objects, a few at a time; yield each with its problem, if any."""
    stop = threading.Event()

    def one(item: tuple[str, ObjectRecord]) -> tuple[str, ObjectRecord, str | None]:
        return *item, _problem(store, *item, stop, advance)

    with ThreadPoolExecutor(READERS, thread_name_prefix="verify") as pool:
        futures = [pool.submit(one, item) for item in due]
        with cancel_on_error(futures, stop):
            for future in as_completed(futures):
                yield future.result()


def _problem(
    store: Store, key: str, record: ObjectRecord, stop: threading.Event, advance: Callable[[int], None]
) -> str | None:
    """Read one object completely; return its problem, if any.

    Raises:
        StoreError: the store does not answer.
    """
    where = f"{store.name}/{key} ({record.holds})"
    digest, size = hashlib.sha256(), 0
    try:
        with store.open(key) as body:
            while (block := body.read(BLOCK)) and not stop.is_set():
                digest.update(block)
                size += len(block)
                advance(len(block))
    except ObjectMissingError:
        return f"{where}: missing"
    if size != record.size:
        return f"{where}: {size} bytes, but {record.size} were written"
    if digest.hexdigest() != record.sha256:
        return f"{where}: sha256 is {digest.hexdigest()[:16]}…, {record.sha256[:16]}… was expected"
    return None
