"""Back up the objects of a bucket, and restore them: changed objects go into packs, the rest stays in earlier ones.

An object counts as unchanged if its key, size, ETag and modification time are those of the previous backup. A few of
these are read again nevertheless, to detect a store that changes bytes without changing the ETag. A bucket has no
snapshot: each object is from the moment it was read, and the record names that version.
"""

from __future__ import annotations

import math
import random
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO

from blueprint.outputs import PUBLIC_READ
from ops.core.errors import SourceError
from ops.core.progress import ProgressFactory
from ops.core.workers import run_all
from ops.repository.incremental import Base
from ops.repository.records import BucketObject, BucketRecord
from ops.repository.stores.s3 import S3Store
from ops.sources.base import Difference, Download, Dump, Outbox, RestoreTarget, Skipped, SourcePlan, TargetPlan
from ops.sources.bucket import restore
from ops.sources.bucket.reader import WORKERS, Facts, Reader, UnreadableError, again, member_name, named, summed_up

MIB = 1 << 20
PACK_BYTES = 64 * MIB
MEMBER_BYTES = 2048  # tar's overhead per object
PACK_OBJECTS = 256
"""A pack is read by one worker from its first object to its last: small objects are distributed over several."""

FULL_EVERY = 30
SAMPLE_SHARE = 0.01
SAMPLE_LEAST = 5
MOST_OBJECTS = 50_000
"""Maximum objects: each is listed in the manifest, which must stay small enough to be read at once."""

IN_MEMORY = 1 * MIB
UNKNOWN = "\ufffd"
"""Placeholder in a listing for a character that the store could not write into it."""

PROBES = 3
"""Number of objects that a plan requests, to check that they can be read."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """A listing compared with the base. `touched` may have other metadata but the same bytes."""

    taken: list[Facts]
    touched: list[BucketObject]
    unchanged: list[BucketObject]
    deleted: list[str]


def _unheard(text: str) -> None:
    del text


@dataclass(kw_only=True)
class Bucket(RestoreTarget[BucketRecord]):
    """The objects of `store` under its prefix. `base` finds the backup to build on; `say` reports surprises.

    `public` is a bucket of public assets: objects whose ACL a backup does not know are restored as public ones.
    """

    store: S3Store
    public: bool = False
    base: Callable[[], Base] = field(default=lambda: Base(why="there is no backup before"))
    say: Callable[[str], None] = _unheard
    full_every: int = FULL_EVERY

    @property
    def name(self) -> str:
        """Return its name in messages."""
        return self.store.name

    @property
    def partial(self) -> str:
        """Return where an unfinished restore has left its content."""
        return f"{self.store.name} (marked by the object {restore.MARK})"

    def plan(self) -> SourcePlan:
        """List the objects; return what would be read.

        Raises:
            SourceError: too many objects for one source, or the key pair may list but not read them.
            StoreError: the bucket does not answer.
        """
        listed = self._reader.listed()
        if len(listed) > MOST_OBJECTS:
            raise SourceError(
                f"{self.name}: {len(listed)} objects; one source holds at most {MOST_OBJECTS}: "
                "name several in backup.sources, each with a prefix of its own"
            )
        changes = compare(listed, self._usable.record)
        self._require_readable(changes.taken)
        basis = f"incremental to {self._usable.id}" if self._usable.record else f"full: {self._usable.why}"
        return SourcePlan(
            what=f"bucket {self.name}",
            bytes_estimate=sum(item.size + MEMBER_BYTES for item in changes.taken),
            largest=max([PACK_BYTES + PACK_OBJECTS * MEMBER_BYTES, *(item.size for item in changes.taken)]),
            details={"objects": str(len(listed)), "to read": str(len(changes.taken)), "kind": basis},
        )

    def dump(self, folder: Path, outbox: Outbox) -> Dump[BucketRecord]:
        """Read changed objects into packs, and a sample of the others.

        An object that cannot be read is named in the record; the others are backed up.

        Raises:
            SourceError: no object can be read.
            StoreError: the bucket does not answer.
        """
        folder.mkdir(mode=0o700)
        snapshot_at = datetime.now(UTC)
        base = self._usable
        listed = self._reader.listed()
        changes = compare(listed, base.record)
        kept = self._keep(changes, base)
        packs = {folder / f"pack-{n:05}.tar": part for n, part in enumerate(cut([*changes.taken, *kept.again]), 1)}
        if not packs:  # a backup always has an object, so that there is something to check
            packs = {folder / "pack-00000.tar": []}
        fill = _Filler(self._reader, outbox)
        done = run_all(lambda pack: fill.pack(*pack), packs.items(), workers=WORKERS, name="bucket", stop=fill.failed)
        by_key = {item.key: item for item in listed}
        objects = [_compared(item, by_key) for item in (*kept.objects, *(item for pack in done for item in pack))]
        objects.sort(key=lambda item: item.key)
        if fill.unread and not objects:
            key, why = min(fill.unread.items())
            raise SourceError(f"{self.name}: no object can be read: {named(key)}: {why}")
        gone = set(by_key) - {item.key for item in objects} - fill.unread.keys()  # removed between listing and reading
        for key in [key for key in gone if UNKNOWN in key]:  # listed, but not found under that name
            fill.unread[key] = "the store's listing does not give its key, which has characters that XML has not"
            gone.discard(key)
        bucket, prefix = self.store.address("")
        not_kept = summed_up(
            [
                *((item.key, text) for item in objects for text in item.not_kept),
                *((key, f"objects that cannot be read: {why}") for key, why in fill.unread.items()),
            ]
        )
        for line in not_kept:
            self.say(f"{self.name}: not in this backup: {line}")
        return Dump(
            files={path: f"{len(part)} objects" for path, part in packs.items()},
            record=BucketRecord(
                bucket=bucket,
                prefix=prefix,
                based_on=base.id if base.record else None,
                generation=base.record.generation + 1 if base.record else 0,
                objects=tuple(objects),
                deleted=tuple(sorted({*changes.deleted, *gone})),
                rehashed=kept.rehashed,
                retaken=tuple(kept.differing),
                unread=dict(sorted(fill.unread.items())),
                not_kept=not_kept,
            ),
            snapshot_at=snapshot_at,
            depends_on=tuple(sorted({item.backup for item in objects if item.backup is not None})),
        )

    def plan_restore(self, record: BucketRecord) -> TargetPlan:
        """Refuse a bucket or prefix that has an object. See `ops.sources.bucket.restore`."""
        restore.refuse_used(self.store)
        unknown = restore.without_acl(record) if self.public else 0
        return TargetPlan(target=self.name, facts={"made_public": unknown} if unknown else {})

    def restore(self, download: Download, record: BucketRecord, progress: ProgressFactory) -> list[Skipped]:
        """Put every object from its pack, with its headers and tags. See `ops.sources.bucket.restore`."""
        del progress
        return restore.put_all(self.store, download.wait(), record, unknown_acl=PUBLIC_READ if self.public else None)

    def fingerprint(self) -> BucketRecord:
        """Read every object. The packs' names are empty, as nothing is written."""
        found, unread = self._reader.read_all()
        bucket, prefix = self.store.address("")
        return BucketRecord(
            bucket=bucket, prefix=prefix, based_on=None, generation=0, objects=tuple(found), unread=unread
        )

    def compare(self, record: BucketRecord, skipped: Sequence[Skipped]) -> list[Difference]:
        """Compare keys, sizes, SHA-256, headers, tags and ACL with `record`, by reading every object."""
        return restore.differences(self.fingerprint(), record, skipped)

    def commit(self, skipped: Sequence[Skipped]) -> None:
        """Remove the mark of an unfinished restore."""
        del skipped
        self.store.delete([restore.MARK])

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.store, ignore={restore.MARK}, say=self.say)

    @cached_property
    def _usable(self) -> Base:
        base = self.base()
        if base.record is None:
            return base
        if (base.record.bucket, base.record.prefix) != self.store.address(""):
            return Base(why=f"{base.id} is of another bucket or prefix")
        if base.record.generation + 1 >= self.full_every:
            return Base(why=f"every {self.full_every}th is")
        return base

    def _require_readable(self, taken: Sequence[Facts]) -> None:
        """Request a few objects, to refuse a key pair that may list but not read before anything is stored.

        Raises:
            SourceError: all of the few are refused.
        """
        refused: list[str] = []
        for item in taken[:PROBES]:
            try:
                self._reader.probe(item.key)
            except UnreadableError as error:
                refused.append(str(error))
        if refused and len(refused) == min(PROBES, len(taken)):
            raise SourceError(
                f"{self.name}: objects are listed and cannot be read: {refused[0]}; give the key pair the right to read"
            )

    def _keep(self, changes: Changes, base: Base) -> _Kept:
        """Check the unchanged objects, and read a sample of them."""
        sample = choose_sample(changes.unchanged)
        sampled = {item.key for item in sample}
        kept = _Kept(rehashed=len(sample))

        def ask(look: Callable[[BucketObject], BucketObject | None], item: BucketObject) -> BucketObject | None:
            try:
                return look(item)
            except UnreadableError as error:  # its bytes are in the base, and are unchanged by the listing
                text = f"headers as of now: {error.why}"
                return item.model_copy(update={"not_kept": (*item.not_kept, text)})

        def ask_all(
            look: Callable[[BucketObject], BucketObject | None], items: Sequence[BucketObject]
        ) -> list[tuple[BucketObject, BucketObject]]:
            found = run_all(lambda item: ask(look, item), items, workers=WORKERS, name="bucket")
            return [(old, new) for old, new in zip(items, found, strict=True) if new is not None]

        rest = [item for item in changes.unchanged if item.key not in sampled]
        kept.objects += [_in_its_pack(new, base.id) for _, new in ask_all(self._reader.refreshed, rest)]
        for old, new in ask_all(self._reader.head, changes.touched):
            if (new.size, new.etag) == (old.size, old.etag):
                kept.objects.append(_in_its_pack(new.model_copy(update={"sha256": old.sha256}), base.id))
            else:
                kept.again.append(Facts.of(new))
        for old, new in ask_all(lambda item: self._reader.read(item.key), sample):
            if new.sha256 == old.sha256:
                where = {"pack": old.pack, "backup": old.backup}
                kept.objects.append(_in_its_pack(new.model_copy(update=where), base.id))
                continue
            kept.again.append(Facts.of(new))
            if new.etag == old.etag:
                kept.differing.append(old.key)
                self.say(f"{self.name}/{named(old.key)}: other bytes than in {base.id} under the same ETag; read again")
        return kept


@dataclass(kw_only=True)
class _Kept:
    """Objects that stay in their packs, that must be read again despite an unchanged listing, and that differ."""

    objects: list[BucketObject] = field(default_factory=list[BucketObject])
    again: list[Facts] = field(default_factory=list[Facts])
    differing: list[str] = field(default_factory=list[str])
    rehashed: int


class _Filler:
    """Writes packs. When one fails the others stop. `unread` are the objects that could not be read, with reasons."""

    def __init__(self, reader: Reader, outbox: Outbox) -> None:
        self._reader, self._outbox = reader, outbox
        self.failed = threading.Event()
        self.unread: dict[str, str] = {}

    def pack(self, path: Path, listed: Sequence[Facts]) -> list[BucketObject]:
        """Read objects into a tar, and upload it when it is complete; objects deleted meanwhile are left out."""
        self._outbox.check()
        if len(listed) == 1 and listed[0].size > PACK_BYTES:
            taken = self._large(path, listed[0])
        else:
            taken = self._small(path, listed)
        self._outbox.begin(path)
        self._outbox.finish(path)
        return taken

    def _small(self, path: Path, listed: Sequence[Facts]) -> list[BucketObject]:
        taken: list[BucketObject] = []
        with _new_tar(path) as tar:
            for item in listed:
                if self.failed.is_set():
                    break
                with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(path.parent)) as held:
                    found = self._read(lambda held=held, item=item: self._copy(item.key, held), item.key)
                    if found is None:
                        continue
                    held.seek(0)
                    tar.addfile(_member(found), held)
                taken.append(found.model_copy(update={"pack": path.name}))
        return taken

    def _read(self, attempt: Callable[[], BucketObject | None], key: str) -> BucketObject | None:
        try:
            return again(attempt, key)
        except UnreadableError as error:
            self.unread[key] = error.why
            return None

    def _copy(self, key: str, held: IO[bytes]) -> BucketObject | None:
        held.seek(0)
        held.truncate()
        with self._reader.open(key) as body:
            if body is None:
                return None
            while block := body.read(IN_MEMORY):
                held.write(block)
            return body.described()

    def _large(self, path: Path, item: Facts) -> list[BucketObject]:
        def attempt() -> BucketObject | None:
            with _new_tar(path) as tar, self._reader.open(item.key) as body:  # each try restarts the file
                if body is None:
                    return None
                if body.stated is not None:
                    tar.addfile(_member(body.facts, body.stated), body)
                    return body.described()
            with tempfile.TemporaryFile(dir=str(path.parent)) as held, _new_tar(path) as tar:  # tar needs the size
                if (found := self._copy(item.key, held)) is not None:
                    held.seek(0)
                    tar.addfile(_member(found), held)
                return found

        found = self._read(attempt, item.key)
        if found is None:
            _new_tar(path).close()  # discards an object that could not be read
        return [found.model_copy(update={"pack": path.name})] if found else []


def _compared(item: BucketObject, listed: Mapping[str, Facts]) -> BucketObject:
    """Note an object whose listed size differs from the size read for the same version."""
    seen = listed.get(item.key)
    if seen is None or seen.etag != item.etag or seen.size == item.size:
        return item
    text = f"size: {seen.size} bytes are listed, {item.size} were read"
    return item.model_copy(update={"not_kept": (*(each for each in item.not_kept if each != text), text)})


def compare(listed: Iterable[Facts], base: BucketRecord | None) -> Changes:
    """Compare a listing with the previous backup."""
    known = {item.key: item for item in base.objects} if base else {}
    changes = Changes(taken=[], touched=[], unchanged=[], deleted=[])
    for item in listed:
        old = known.pop(item.key, None)
        if old is None or (old.size, old.etag) != (item.size, item.etag):
            changes.taken.append(item)
        elif old.modified != item.modified:
            changes.touched.append(old)
        else:
            changes.unchanged.append(old)
    changes.deleted.extend(known)
    return changes


def cut(listed: Iterable[Facts]) -> list[list[Facts]]:
    """Divide objects, by key, into packs of at most `PACK_BYTES` and `PACK_OBJECTS`; a larger one gets its own pack."""
    packs: list[list[Facts]] = []
    size = 0
    for item in sorted(listed, key=lambda item: item.key):
        if not packs or size + item.size > PACK_BYTES or len(packs[-1]) >= PACK_OBJECTS:
            packs.append([])
            size = 0
        packs[-1].append(item)
        size += item.size
    return packs


def choose_sample(unchanged: Sequence[BucketObject]) -> list[BucketObject]:
    """Choose unchanged objects to read again."""
    count = max(SAMPLE_LEAST, math.ceil(len(unchanged) * SAMPLE_SHARE))
    return random.SystemRandom().sample(unchanged, min(count, len(unchanged)))


def _in_its_pack(item: BucketObject, base: str) -> BucketObject:
    return item if item.backup is not None else item.model_copy(update={"backup": base})


def _new_tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, "w", format=tarfile.PAX_FORMAT)


def _member(item: BucketObject, size: int | None = None) -> tarfile.TarInfo:
    member = tarfile.TarInfo(member_name(item.key))
    member.size = item.size if size is None else size
    member.mtime, member.mode = int(item.modified.timestamp()), 0o644
    return member
