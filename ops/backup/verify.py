"""Does the store still hold what was written? Each object's size and SHA-256 as stored, each manifest's signature.

No identity is needed: what is compared is what was encrypted. What was verified when is in a ledger in the same store,
so that the next run reads only what is new, or was last read too long ago (`ops.backup.verification_log`).
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ops.backup.retention import IN_PROGRESS
from ops.backup.verification_log import Ledger, Seen, read_ledger, write_ledger
from ops.core.errors import ManifestError, ObjectMissingError, StoreError
from ops.core.progress import Meter, unseen
from ops.core.signing import Signer, same_key
from ops.repository.catalog import CatalogEntry, entries, prefix_of, read_manifest
from ops.repository.manifest import MANIFEST_NAME, PAGE_NAME, Manifest, ObjectRecord
from ops.repository.stores.base import Store
from ops.repository.upload import BLOCK

READERS = 4
PAGE_LIMIT = 1 << 20
"""Bytes. A larger RESTORE.md is not ours."""
Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class VerifyJob:
    """What to verify.

    `signer` is the key that manifests must be signed with (None: they need not be), `signers` are those a ledger is
    believed of (empty: any), `seal` signs the ledger of this run. `everything` reads all of it, `sample` so many
    objects drawn from all of it; else what was not read since `max_age` ago is read.
    """

    store: Store
    name: str | None = None
    signer: str | None = None
    signers: Sequence[str] = ()
    seal: Signer | None = None
    max_age: timedelta = timedelta(days=30)
    everything: bool = False
    sample: int | None = None


@dataclass(kw_only=True)
class Verdict:
    """What came of it. `problems` name each object or manifest that is not what was written; sizes in bytes.

    `remembered` of those that were not read are known from an earlier run.
    """

    backups: int = 0
    objects: int = 0
    read: int = 0
    read_bytes: int = 0
    remembered: int = 0
    oldest: datetime | None = None
    problems: list[str] = field(default_factory=list[str])


def verify(job: VerifyJob, now: datetime, report: Report, meter: Meter = unseen) -> Verdict:
    """Verify what lies in one store.

    Raises:
        StoreError: the store does not answer; what was read until then is in the ledger.
    """
    verdict = Verdict()
    known = read_ledger(job.store, job.signers)
    present: dict[str, ObjectRecord] = {}
    listed = entries(job.store, job.name)
    complete = [entry for entry in listed if entry.complete]
    lost = [prefix_of(entry.name, entry.id) for entry in listed if _is_lost(entry, known, now)]
    verdict.problems += [f"{job.store.name}/{each}{MANIFEST_NAME}: missing, but {PAGE_NAME} is there" for each in lost]
    for entry in complete:
        verdict.backups += 1
        manifest = _manifest(job, entry.name, entry.id, verdict)
        if manifest is not None:
            present |= _present(job.store, manifest, verdict)
            _check_page(job.store, manifest, verdict, report)
            gone = sorted(set(manifest.depends_on) - {other.id for other in complete if other.name == entry.name})
            verdict.problems += [
                f"{job.store.name}/{entry.name}/{entry.id}: needs {other}, which is gone" for other in gone
            ]
    verdict.objects = len(present)
    due = _due(job, known, present, now)
    verdict.remembered = len({key for key in present if _is_known(known, key, present[key])} - set(due))
    report(f"{job.store.name}: {verdict.backups} backups, {len(present)} objects, {len(due)} to read")
    # What is gone is forgotten only when all of the store was looked at.
    seen = {
        key: item
        for key, item in known.items()
        if key in present or job.name is not None or key.startswith(tuple(lost))
    }
    try:
        with meter(f"verifying {job.store.name}", sum(present[key].size for key in due)) as advance:
            for key, record, problem in _read(job.store, [(key, present[key]) for key in due], advance):
                verdict.read += 1
                verdict.read_bytes += record.size
                if problem is None:
                    seen[key] = Seen(at=now, sha256=record.sha256)
                else:
                    seen.pop(key, None)
                    verdict.problems.append(problem)
    finally:
        if verdict.read and not _is_believed(job):
            report("what was read is not remembered: no key of backup.signers signs its ledger; give --signing-key")
        elif verdict.read:
            try:
                write_ledger(job.store, Ledger(verified_at=now, objects=seen), job.seal)
            except StoreError as error:  # a key that only reads is enough to verify
                report(f"what was read is not remembered: {error}")
    if present.keys() <= seen.keys():
        verdict.oldest = min((seen[key].at for key in present), default=None)
    return verdict


def _is_believed(job: VerifyJob) -> bool:
    """Say whether a later run will believe the ledger of this one; one that is not only pushes out those that are."""
    return not job.signers or (job.seal is not None and any(same_key(job.seal.public, key) for key in job.signers))


def _is_known(known: dict[str, Seen], key: str, record: ObjectRecord) -> bool:
    return key in known and known[key].sha256 == record.sha256


def _is_lost(entry: CatalogEntry, known: Iterable[str], now: datetime) -> bool:
    """Say whether a backup has lost its manifest: it is not being made, and no prune has begun with it."""
    prefix = prefix_of(entry.name, entry.id)
    return (
        not entry.complete
        and entry.page
        and (now - max(entry.begun_at, entry.stored_at) >= IN_PROGRESS or any(key.startswith(prefix) for key in known))
    )


def _manifest(job: VerifyJob, name: str, backup_id: str, verdict: Verdict) -> Manifest | None:
    """Read one manifest and check whose it is."""
    try:
        manifest = read_manifest(job.store, name, backup_id)
    except ManifestError as error:
        verdict.problems.append(str(error))
        return None
    if job.signer is not None and not manifest.signed_by(job.signer):
        where = f"{job.store.name}/{prefix_of(name, backup_id)}"
        verdict.problems.append(f"{where}: the manifest is not signed by this environment's key")
    return manifest


def _check_page(store: Store, manifest: Manifest, verdict: Verdict, report: Report) -> None:
    """Hold the page that a person runs to what was written. Without it the backup is whole: a prune takes it first."""
    if manifest.page_sha256 is None:
        return
    where = prefix_of(manifest.name, manifest.id) + PAGE_NAME
    try:
        with store.open(where) as body:
            raw = body.read(PAGE_LIMIT)
    except ObjectMissingError:
        report(f"{store.name}/{where}: missing; by hand it is restored as another backup's page says")
        return
    if hashlib.sha256(raw).hexdigest() != manifest.page_sha256:
        verdict.problems.append(f"{store.name}/{where}: changed; do not run it")


def _present(store: Store, manifest: Manifest, verdict: Verdict) -> dict[str, ObjectRecord]:
    """Return the objects that are in the store with the size that was written; the others are problems."""
    prefix = prefix_of(manifest.name, manifest.id)
    sizes = {item.key: item.size for item in store.list(prefix)}
    found: dict[str, ObjectRecord] = {}
    for record in manifest.objects:
        key = prefix + record.key
        if key not in sizes:
            verdict.problems.append(f"{store.name}/{key} ({record.holds}): missing")
        elif sizes[key] != record.size:
            verdict.problems.append(
                f"{store.name}/{key} ({record.holds}): {sizes[key]} bytes, {record.size} were written"
            )
        else:
            found[key] = record
    return found


def _due(job: VerifyJob, known: dict[str, Seen], present: dict[str, ObjectRecord], now: datetime) -> list[str]:
    """Choose what is read."""
    if job.everything:
        return list(present)
    if job.sample is not None:
        return random.SystemRandom().sample(list(present), min(job.sample, len(present)))

    def is_due(key: str) -> bool:
        seen = known.get(key)
        # another digest: what lies there now is not what was verified; of the future: a clock was wrong
        return seen is None or seen.sha256 != present[key].sha256 or not timedelta() <= now - seen.at <= job.max_age

    return [key for key in present if is_due(key)]


def _read(
    store: Store, due: Sequence[tuple[str, ObjectRecord]], advance: Callable[[int], None]
) -> Iterator[tuple[str, ObjectRecord, str | None]]:
    """Read objects, a few at a time; yield each with what is wrong with it."""
    stop = threading.Event()

    def one(item: tuple[str, ObjectRecord]) -> tuple[str, ObjectRecord, str | None]:
        return *item, _problem(store, *item, stop, advance)

    with ThreadPoolExecutor(READERS, thread_name_prefix="verify") as pool:
        futures = [pool.submit(one, item) for item in due]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:  # an interrupt too
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _problem(
    store: Store, key: str, record: ObjectRecord, stop: threading.Event, advance: Callable[[int], None]
) -> str | None:
    """Read one object to its end; say what is wrong with it.

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
        return f"{where}: {size} bytes, {record.size} were written"
    if digest.hexdigest() != record.sha256:
        return f"{where}: sha256 is {digest.hexdigest()[:16]}…, {record.sha256[:16]}… was written"
    return None
