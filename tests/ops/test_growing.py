from __future__ import annotations

import hashlib
import io
import random
import shutil
import subprocess

import pytest
import zstandard

from ops.repository.compression import HIGH_BLOCK, HIGH_LEVEL, CompressingReader
from ops.repository.tail_reader import BLOCK


class Trickle(io.BytesIO):
    """A file whose writer is slower than we are: it gives less than was asked for."""

    def read(self, size=-1):
        return super().read(max(1, size // 3))


def compressed(content, level, size):
    reader = CompressingReader(Trickle(content), level)
    stored = b"".join(iter(lambda: reader.read(size), b""))
    assert (reader.size, reader.digest) == (len(content), hashlib.sha256(content).hexdigest())
    return stored


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize("size", [8192, BLOCK])
def test_what_goes_in_comes_out_of_any_zstd(length, size):
    content = random.Random(length).randbytes(length // 2) + b"row\n" * ((length - length // 2) // 4)
    content = content.ljust(length, b"x")
    stored = compressed(content, 3, size)
    assert stored, "nothing at all is no zstd"
    out = io.BytesIO()
    zstandard.ZstdDecompressor().stream_writer(out, closefd=False).write(stored)
    assert out.getvalue() == content
    if shutil.which("zstd"):
        done = subprocess.run(["zstd", "-dc"], input=stored, capture_output=True, check=True)
        assert done.stdout == content


def test_a_high_level_looks_further_back():
    once = random.Random(7).randbytes(BLOCK)
    content = once * 4  # each block is the one before
    assert len(content) < HIGH_BLOCK
    assert len(compressed(content, 3, BLOCK)) > 4 * BLOCK
    assert len(compressed(content, HIGH_LEVEL, BLOCK)) < 2 * BLOCK


def test_a_frame_says_when_it_was_changed():
    stored = bytearray(compressed(b"row\n" * 1000, 3, BLOCK))
    stored[-1] ^= 1
    with pytest.raises(zstandard.ZstdError):
        zstandard.ZstdDecompressor().stream_writer(io.BytesIO()).write(bytes(stored))
