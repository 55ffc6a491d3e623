"""Compress a stream with zstd while it is read."""

from __future__ import annotations

import hashlib
import threading

import zstandard

from ops.repository.tail_reader import BLOCK, TailReader

HIGH_LEVEL = 10


HIGH_BLOCK = 8 << 20
"""From this zstd level on, blocks are larger."""


class CompressingReader:
    """Compresses a growing file with zstd, one frame per block. `size` and `digest` are of the input.

    A block stays in the processor's cache while it is compressed: at level 3 that takes two thirds of the
    time of one long frame, for as many bytes. High levels gain from a long window, so their blocks are larger.
    """

    def __init__(self, stream: TailReader, level: int) -> None:
        self._stream, self._block = stream, BLOCK if level < HIGH_LEVEL else HIGH_BLOCK
        self._compressor = _compressor(level)
        self._digest, self._frame, self._ended = hashlib.sha256(), memoryview(b""), False
        self.size = 0
        """Bytes read so far, uncompressed."""

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the input, in hex."""
        return self._digest.hexdigest()

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` compressed bytes; nothing at the end."""
        if not self._frame and not self._ended:
            self._frame = memoryview(self._next_frame())
        taken = self._frame if size < 0 else self._frame[:size]
        self._frame = self._frame[len(taken) :]
        return bytes(taken)

    def _next_frame(self) -> bytes:
        parts, held = list[bytes](), 0
        while held < self._block and (part := self._stream.read(self._block - held)):
            parts.append(part)
            held += len(part)
        self._ended = held < self._block
        if held == 0 and self.size > 0:
            return b""
        block = b"".join(parts)
        self._digest.update(block)
        self.size += held
        return self._compressor.compress(block)


_of_thread = threading.local()


def _compressor(level: int) -> zstandard.ZstdCompressor:
    """Return the compressor of this thread and level: creating one costs more than compressing a small file."""
    made: dict[int, zstandard.ZstdCompressor] = _of_thread.__dict__.setdefault("compressors", {})
    if level not in made:
        made[level] = zstandard.ZstdCompressor(level=level, write_checksum=True)
    return made[level]
