"""The way back: store → age → zstd → file, each object verified twice, as it was stored and as it was dumped."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, cast

import pyrage
import zstandard
from pyrage import x25519  # pyright: ignore[reportMissingModuleSource]  # compiled in

from ops.backup.manifest import ObjectRecord
from ops.backup.pipeline import BLOCK, WORKERS, CancelledError
from ops.errors import IntegrityError, KeyProblemError
from ops.stores.base import Store

Identities = Sequence[x25519.Identity]


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """Fetches objects of the backup under `prefix`, and decrypts with `identities` what is encrypted."""

    store: Store
    prefix: str
    identities: Identities = ()
    cancelled: threading.Event = field(default_factory=threading.Event)

    def all(self, objects: Iterable[ObjectRecord], folder: Path, done: Callable[[ObjectRecord], None]) -> None:
        """Fetch objects into `folder`, a few at a time, largest first.

        Raises:
            IntegrityError: a digest or a size differs; the message names the object and what it holds.
            ObjectMissingError: an object is not in the store.
            KeyProblemError: no identity opens it.
        """
        with ThreadPoolExecutor(WORKERS) as pool:
            futures = {pool.submit(self.one, entry, folder): entry for entry in sorted(objects, key=lambda e: -e.size)}
            try:
                for future in as_completed(futures):
                    future.result()
                    done(futures[future])
            except BaseException:  # an interrupt too
                self.cancelled.set()
                for future in futures:
                    future.cancel()
                raise

    def one(self, entry: ObjectRecord, folder: Path) -> None:
        """Fetch one object; see `all`."""
        where = f"{self.store.name}/{self.prefix}{entry.key} ({entry.holds})"
        with self.store.open(self.prefix + entry.key) as body, (folder / entry.file).open("wb") as file:
            stored = _Stored(body, self.cancelled)
            plain = _Plain(file, entry.file_size)
            broken = _pass(stored, plain, self.identities if entry.key.endswith(".age") else None)
            stored.drain()  # the digest of the whole says more than "bad frame"
        if stored.size != entry.size:
            raise IntegrityError(f"{where}: {stored.size} bytes are stored, {entry.size} were written")
        if stored.digest.hexdigest() != entry.sha256:
            raise IntegrityError(
                f"{where}: sha256 is {stored.digest.hexdigest()[:16]}…, {entry.sha256[:16]}… was written"
            )
        if isinstance(broken, KeyProblemError):
            raise KeyProblemError(f"{where}: {broken}")
        if broken or plain.digest.hexdigest() != entry.file_sha256:
            raise IntegrityError(f"{where}: opens to other bytes than were dumped{f': {broken}' if broken else ''}")


def _pass(stored: _Stored, plain: _Plain, identities: Identities | None) -> Exception | None:
    """Decrypt and decompress; return what stopped it."""
    try:
        if identities is None:
            while block := stored.read(BLOCK):
                plain.write(block)
        elif not identities:
            return KeyProblemError("is encrypted: give the identity that reads it with --identity FILE")
        else:
            pyrage.decrypt_io(cast("BufferedIOBase", stored), cast("BufferedIOBase", plain), identities)
        plain.flush()
    except CancelledError:
        raise
    except pyrage.DecryptError as error:
        if stored.error is not None:
            raise stored.error from None
        if plain.broken:
            return IntegrityError(plain.broken)
        return KeyProblemError(f"no identity that was given opens it ({error}); it is for other recipients")
    except zstandard.ZstdError as error:
        return IntegrityError(str(error))
    return IntegrityError(plain.broken) if plain.broken else None


class _Stored:
    """What comes from the store, counted and digested."""

    def __init__(self, body: BinaryIO, cancelled: threading.Event) -> None:
        self._body, self._cancelled = body, cancelled
        self.digest, self.size = hashlib.sha256(), 0
        self.error: Exception | None = None

    def read(self, size: int = -1, /) -> bytes:
        if self._cancelled.is_set():
            self.error = CancelledError("stopped")
            raise self.error
        try:
            block = self._body.read(size)
        except Exception as error:
            self.error = error
            raise
        self.digest.update(block)
        self.size += len(block)
        return block

    def drain(self) -> None:
        while self.read(BLOCK):
            pass


class _Plain:
    """What goes into the file: decompressed, counted and digested; never more than `limit` bytes."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._limit = file, limit
        self._decompressor = zstandard.ZstdDecompressor().decompressobj()
        self.digest, self.size = hashlib.sha256(), 0
        self.broken = ""

    def write(self, block: bytes, /) -> int:
        if not self.broken:
            try:
                content = self._decompressor.decompress(block)
            except zstandard.ZstdError as error:
                self.broken = str(error)
                return len(block)
            self.size += len(content)
            if self.size > self._limit:  # a wrong object may not fill the disk
                self.broken = f"longer than the {self._limit} bytes in the manifest"
                return len(block)
            self.digest.update(content)
            self._file.write(content)
        return len(block)

    def flush(self) -> None:
        """Nothing is held back."""
