"""Download objects: store → age → zstd → file, each verified twice, as stored and as dumped.

The object's key defines its encoding: `.zst`, then `.age` if it is encrypted.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, cast

import pyrage
import zstandard
from pyrage import x25519  # pyright: ignore[reportMissingModuleSource]  # compiled in

from ops.core.errors import IntegrityError, KeyProblemError
from ops.core.progress import OnBytes, noop
from ops.core.workers import run_all
from ops.repository.manifest import ObjectRecord
from ops.repository.stores.base import Store
from ops.repository.tail_reader import BLOCK, CancelledError
from ops.repository.upload import WORKERS

GATHERED = 256 << 10
OPENED = 128 << 10
"""Bytes that are decompressed at once: staying in the processor's cache takes a quarter less time than BLOCK."""
Identities = Sequence[x25519.Identity]


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """Fetches objects of the backup under `prefix` and decrypts them with `identities`.

    `advance` is called with the number of stored bytes as they arrive.
    """

    store: Store
    prefix: str
    identities: Identities = ()
    cancelled: threading.Event = field(default_factory=threading.Event)
    advance: OnBytes = noop

    def all(self, objects: Iterable[ObjectRecord], folder: Path) -> None:
        """Fetch objects into `folder`, largest first and a few at a time.

        Raises:
            IntegrityError: a digest or a size differs; the message names the object and its content.
            ObjectMissingError: an object is not in the store.
            KeyProblemError: no identity can decrypt it.
        """
        largest_first = sorted(objects, key=lambda entry: -entry.size)
        run_all(lambda entry: self.one(entry, folder), largest_first, workers=WORKERS, stop=self.cancelled)

    def one(self, entry: ObjectRecord, folder: Path) -> None:
        """Fetch one object; see `all`. A file is renamed to its final name once verified."""
        partial = folder / f"{entry.file}.part"
        with partial.open("wb") as file:
            self.pour(entry, file.write)
        partial.replace(folder / entry.file)

    def pour(self, entry: ObjectRecord, write: Callable[[bytes], object], *, compared: bool = False) -> None:
        """Pass the content of one object to `write` as it arrives; raise at its end if it was wrong. See `all`.

        Args:
            entry: the object.
            write: called with each block.
            compared: the caller compares the content with the manifest itself, so only the stored bytes are
                digested; if those are right, authenticated decryption returns the original content.
        """
        where = f"{self.store.name}/{self.prefix}{entry.key} ({entry.holds})"
        with self.store.open(self.prefix + entry.key) as body:
            stored = _Stored(body, self.cancelled, self.advance)
            plain = _Plain(write, entry, digested=not compared)
            broken = _pass(stored, plain, self.identities if entry.key.endswith(".age") else None)
            stored.drain()  # the digest of all bytes says more than "bad frame"
        if stored.size != entry.size:
            raise IntegrityError(f"{where}: {stored.size} bytes are stored, but {entry.size} were written")
        if stored.digest.hexdigest() != entry.sha256:
            raise IntegrityError(
                f"{where}: sha256 is {stored.digest.hexdigest()[:16]}…, {entry.sha256[:16]}… was expected"
            )
        if isinstance(broken, KeyProblemError):
            raise KeyProblemError(f"{where}: {broken}")
        if broken or plain.size != entry.file_size or plain.digest not in (None, entry.file_sha256):
            raise IntegrityError(f"{where}: decrypts to other bytes than were dumped{f': {broken}' if broken else ''}")


def _pass(stored: _Stored, plain: _Plain, identities: Identities | None) -> Exception | None:
    """Decrypt and decompress; return the error that stopped it, if any."""
    try:
        if identities is None:
            while block := stored.read(BLOCK):
                plain.write(block)
        elif not identities:
            return KeyProblemError("is encrypted: give the identity that decrypts it with --identity FILE")
        else:
            pyrage.decrypt_io(cast("BufferedIOBase", stored), cast("BufferedIOBase", plain), identities)
        plain.flush()
    except CancelledError:
        raise
    except (pyrage.DecryptError, OSError) as error:
        if stored.error is not None or plain.error is not None:
            raise stored.error or plain.error or error from None
        if plain.broken or plain.size or isinstance(error, OSError):
            return IntegrityError(plain.broken or str(error))
        return KeyProblemError(f"no given identity decrypts it ({error}); it is for other recipients")
    return IntegrityError(plain.broken) if plain.broken else None


class _Stored:
    """Reads the stored bytes, counting and hashing them."""

    def __init__(self, body: BinaryIO, cancelled: threading.Event, advance: OnBytes) -> None:
        self._body, self._cancelled, self._advance = body, cancelled, advance
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
        self._advance(len(block))
        return block

    def drain(self) -> None:
        while self.read(BLOCK):
            pass


class _Plain:
    """Writes the decompressed bytes, counting and hashing them; never more than the manifest says."""

    def __init__(self, write: Callable[[bytes], object], entry: ObjectRecord, *, digested: bool) -> None:
        # no back-reference: zstandard would keep the reference cycle alive
        self._sink = _Sink(write, entry.file_size, digested=digested)
        self._open = _opener(entry.key, cast("BinaryIO", self._sink))
        self._held: list[bytes] = []  # age passes on 8 KiB at a time
        self._bytes_held = 0
        self.broken = ""

    @property
    def size(self) -> int:
        """Return the bytes of the file so far."""
        return self._sink.size

    @property
    def digest(self) -> str | None:
        """Return the SHA-256 of the file so far, in hex; None if it was not requested."""
        return self._sink.digest.hexdigest() if self._sink.digest else None

    @property
    def error(self) -> Exception | None:
        """Return the error raised by the writer, if any."""
        return self._sink.error

    def write(self, block: bytes, /) -> int:
        self._held.append(block)
        self._bytes_held += len(block)
        if self._bytes_held >= GATHERED:
            self.flush()
        return len(block)

    def flush(self) -> None:
        content, self._held, self._bytes_held = b"".join(self._held), [], 0
        if not self.broken and content:
            try:
                self._open(content)
            except (zstandard.ZstdError, _TooLongError) as error:
                self.broken = str(error)


class _TooLongError(Exception):
    pass


class _Sink:
    def __init__(self, write: Callable[[bytes], object], limit: int, *, digested: bool) -> None:
        self._write, self._limit = write, limit
        self.digest, self.size = hashlib.sha256() if digested else None, 0
        self.error: Exception | None = None

    def write(self, content: bytes, /) -> int:
        self.size += len(content)
        if self.size > self._limit:  # a wrong object must not fill the disk
            raise _TooLongError(f"longer than the {self._limit} bytes in the manifest")
        if self.digest is not None:
            self.digest.update(content)
        try:
            self._write(content)
        except Exception as error:
            self.error = error
            raise
        return len(content)


def _opener(key: str, sink: BinaryIO) -> Callable[[bytes], object]:
    """Return a function that takes compressed bytes and writes them decompressed, in blocks of limited size."""
    kind = Path(key.removesuffix(".age")).suffix
    if kind == ".zst":
        return zstandard.ZstdDecompressor().stream_writer(sink, write_size=OPENED, closefd=False).write
    return sink.write
