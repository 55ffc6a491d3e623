from __future__ import annotations

import io
import weakref

import zstandard

from ops.backup.growing import CompressingReader


class Stream(io.BytesIO):
    """A file, of which one can ask whether it is gone."""


class Circle:
    """A reader that knows its compressor: what CompressingReader must not be."""

    def __init__(self, stream):
        self._input = stream
        self._stream = zstandard.ZstdCompressor().stream_reader(self)

    def read(self, size=-1):
        return self._input.read(size)


def held_after(make):
    stream = Stream(b"row\n" * 1000)
    reader, seen = make(stream), weakref.ref(stream)
    while reader.read(1 << 20):
        pass
    del stream, reader
    return seen() is not None


def test_a_file_that_was_compressed_keeps_no_memory():
    assert not held_after(lambda stream: CompressingReader(stream, zstandard.ZstdCompressor(level=3)))


def test_a_circle_through_the_compressor_would_be_seen():
    assert held_after(Circle)
