"""Upload files while they are being written: file → zstd → age → equal parts → every store at once.

Memory holds a few parts and a block for each worker, whatever the size. A failed store is skipped and the
others continue. `ops.repository.download` is the opposite.

s3transfer is not used here: it reads one file for one store, so two stores would mean compressing and encrypting twice.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import pyrage

from ops.core.errors import OpsError, StoreError
from ops.core.progress import OnBytes, noop
from ops.repository.age import parse_recipients
from ops.repository.compression import CompressingReader
from ops.repository.manifest import ObjectRecord
from ops.repository.stores.base import Store, Upload
from ops.repository.tail_reader import BLOCK, CancelledError, TailReader

MIB = 1 << 20
PART_SIZE = 8 * MIB
MAX_PARTS = 9000  # S3 allows 10 000; the estimate may be a little low
WORKERS = 3
"""Maximum concurrent files: one more than pg_dump writes, so a complete file need not wait for growing ones."""
PARTS_IN_FLIGHT = 4
PARTS_MEMORY = 96 * MIB
"""With larger parts, fewer are sent concurrently."""


@dataclass(kw_only=True)
class Destination:
    """A store and its state: `error` is its first failure, after which nothing more is sent to it."""

    store: Store
    error: StoreError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def fail(self, error: StoreError) -> None:
        """Record a failure; only the first one is kept, from whichever thread it comes."""
        with self._lock:
            self.error = self.error or error


class UploadPipeline:
    """Accepts the files of one dump (see `ops.sources.base.Outbox`); stores each under `prefix` in every destination.

    Args:
        destinations: the stores; at least one must succeed.
        prefix: of the backup, with its trailing slash.
        recipients: age public keys; none leaves the objects unencrypted.
        level: zstd level.
        largest: an upper estimate in bytes of the largest file, used to choose the part size.
        advance: called with the number of bytes of the dump as they are read.
    """

    def __init__(  # noqa: PLR0913  # all by name
        self,
        destinations: Sequence[Destination],
        prefix: str,
        *,
        recipients: Sequence[str],
        level: int,
        largest: int,
        advance: OnBytes = noop,
    ) -> None:
        self._destinations, self._prefix, self._level = destinations, prefix, level
        self._recipients = parse_recipients(recipients)
        self._advance = advance
        self.part_size = part_size(largest)
        in_flight = max(1, min(PARTS_IN_FLIGHT, PARTS_MEMORY // self.part_size))
        self._cancelled = threading.Event()
        self._slots = threading.Semaphore(in_flight)
        self._files = ThreadPoolExecutor(WORKERS, thread_name_prefix="file")
        self._parts = ThreadPoolExecutor(in_flight, thread_name_prefix="part")
        others = (in_flight + WORKERS) * max(1, len(destinations) - 1)
        self._others = ThreadPoolExecutor(others, thread_name_prefix="destination")
        self._whole: dict[Path, threading.Event] = {}
        self._futures: dict[Path, Future[ObjectRecord]] = {}
        self._suffix = ".zst.age" if recipients else ".zst"
        self._first_error: BaseException | None = None

    def begin(self, path: Path) -> None:
        """Start to upload a growing file; it is removed when it is sent."""
        self._whole[path] = threading.Event()
        self._futures[path] = self._files.submit(self._ship, path, self._whole[path])

    def finish(self, path: Path) -> None:
        """Record that the file is complete."""
        self._whole[path].set()

    def check(self) -> None:
        """Raise the error that stopped the upload, if any."""
        if self._first_error is not None:
            raise self._first_error

    def settle(self, files: dict[Path, str]) -> tuple[ObjectRecord, ...]:
        """Upload the files not yet started (`path: content`), wait for all, and return the records by key.

        Raises:
            OpsError: the first failure that leaves no destination, or is not a store's.
        """
        try:
            for path in sorted(files.keys() - self._futures.keys(), key=lambda path: -path.stat().st_size):
                self.begin(path)
                self.finish(path)
            records = list[ObjectRecord]()
            names = {future: files.get(path, "") for path, future in self._futures.items()}
            for future in as_completed(names):
                self.check()
                records.append(future.result().model_copy(update={"holds": names[future]}))
        finally:
            self.stop()
        return tuple(sorted(records, key=lambda record: record.key))

    def stop(self) -> None:
        """Cancel the upload and wait until its threads have ended."""
        self._cancelled.set()
        for event in self._whole.values():
            event.set()
        self._files.shutdown(cancel_futures=True)
        self._parts.shutdown(cancel_futures=True)
        self._others.shutdown(cancel_futures=True)

    def _ship(self, path: Path, whole: threading.Event) -> ObjectRecord:
        try:
            record = self._send(path, whole)
        except BaseException as error:
            if self._first_error is None and not isinstance(error, CancelledError):
                self._first_error = error
            self._cancelled.set()
            raise
        path.unlink()
        return record

    def _send(self, path: Path, whole: threading.Event) -> ObjectRecord:
        key = path.name + self._suffix
        with TailReader(path, whole, self._cancelled, self._advance) as file:
            reader = CompressingReader(file, self._level)
            writer = _Writer(self, self._prefix + key)
            try:
                if self._recipients:
                    pyrage.encrypt_io(cast("BufferedIOBase", reader), cast("BufferedIOBase", writer), self._recipients)
                else:
                    while block := reader.read(BLOCK):
                        writer.write(block)
                writer.complete()
            except BaseException as error:
                writer.abort()
                cause = file.error or writer.error  # the error inside the encryption, if any
                if cause is not None:
                    raise cause from error
                raise
        return ObjectRecord(
            key=key,
            size=writer.size,
            sha256=writer.digest.hexdigest(),
            file=path.name,
            file_size=reader.size,
            file_sha256=reader.digest,
            holds="",
        )

    def in_background(self, work: Callable[[], None]) -> Future[None]:
        """Run it as soon as one of the parts being sent has arrived."""
        while not self._slots.acquire(timeout=0.2):
            if self._cancelled.is_set():
                raise CancelledError("stopped")

        def one() -> None:
            try:
                work()
            finally:
                self._slots.release()

        return self._parts.submit(one)

    def everywhere(self, work: Callable[[int, Store], None]) -> None:
        """Call `work` with index and store for all destinations that have not failed, concurrently.

        Raises:
            StoreError: every destination has failed.
        """

        def one(index: int, destination: Destination) -> None:
            try:
                work(index, destination.store)
            except StoreError as error:
                destination.fail(error)

        live = [(index, each) for index, each in enumerate(self._destinations) if each.error is None]
        others = [self._others.submit(one, *each) for each in live[1:]]
        try:
            for each in live[:1]:
                one(*each)
        finally:
            wait(others)
        for other in others:
            other.result()
        failed = [each.error for each in self._destinations if each.error is not None]
        if len(failed) == len(self._destinations):
            raise failed[0]


class _Writer:
    """Writes one object to every store: the written bytes are split into equal parts."""

    def __init__(self, outgoing: UploadPipeline, key: str) -> None:
        self._outgoing, self._key = outgoing, key
        self._uploads: dict[int, Upload] = {}
        self._blocks: list[bytes | memoryview] = []
        self._held = 0
        self._number = 0
        self._sent: list[Future[None]] = []
        self.digest = hashlib.sha256()
        self.size = 0
        self.error: OpsError | CancelledError | None = None
        outgoing.everywhere(self._open)

    def _open(self, index: int, store: Store) -> None:
        self._uploads[index] = store.upload(self._key)

    def write(self, content: bytes, /) -> int:
        self._blocks.append(content)
        self._held += len(content)
        while self._held > self._outgoing.part_size:  # and not >=: the last part is never empty
            over = self._held - self._outgoing.part_size
            last = memoryview(self._blocks.pop())
            self._blocks.append(last[:-over])
            self._send_part()
            self._blocks.append(last[-over:])
            self._held = over
        return len(content)

    def flush(self) -> None:
        """Do nothing: parts are sent when they are full."""

    def complete(self) -> None:
        if self._number == 0:  # only one part: no other thread is needed
            part = self._cut()
            self._outgoing.everywhere(lambda index, _: self._uploads[index].put(1, part))
        else:
            self._send_part()
        for future in self._sent:
            future.result()
        self._outgoing.everywhere(lambda index, _: self._uploads[index].complete())

    def abort(self) -> None:
        for future in self._sent:
            future.cancel()
        wait(self._sent)
        for upload in self._uploads.values():
            upload.abort()

    def _cut(self) -> bytes:
        part = b"".join(self._blocks)
        self._blocks, self._held = [], 0
        self._number += 1
        self.digest.update(part)
        self.size += len(part)
        return part

    def _send_part(self) -> None:
        part = self._cut()
        number = self._number
        try:
            for future in [future for future in self._sent if future.done()]:
                self._sent.remove(future)
                future.result()
            self._sent.append(
                self._outgoing.in_background(
                    lambda: self._outgoing.everywhere(lambda index, _: self._uploads[index].put(number, part))
                )
            )
        except (OpsError, CancelledError) as error:
            self.error = error
            raise


def part_size(expected_size: int) -> int:
    """Return the size of equal parts, in MiB, that keeps an object of `expected_size` bytes under `MAX_PARTS`."""
    return max(PART_SIZE, math.ceil(expected_size / MAX_PARTS / MIB) * MIB)
