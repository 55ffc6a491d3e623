"""The way out and the way back, by themselves."""

from __future__ import annotations

import gc
import hashlib
import os
import resource
import threading
import time
from pathlib import Path

import pytest

from ops.core.errors import IntegrityError, KeyProblemError, SpoolError, StoreError
from ops.repository.age import make_identity, read_identities, recipient_of
from ops.repository.download import Fetcher
from ops.repository.manifest import ObjectRecord
from ops.repository.stores.folder import FolderStore
from ops.repository.tail_reader import TailReader
from ops.repository.upload import MIB, PART_SIZE, Destination, UploadPipeline, part_size
from tests.kits.waiting import eventually

PREFIX = "shop/20261122T210000Z-abcdef/"


@pytest.fixture
def identity(tmp_path):
    """An age identity file."""
    path = tmp_path / "identity.txt"
    path.write_text(make_identity())
    return path


def outgoing(*stores, recipients=(), largest=0):
    destinations = [Destination(store=store) for store in stores]
    return UploadPipeline(destinations, PREFIX, recipients=recipients, level=1, largest=largest)


def stored(store):
    return sum(item.size for item in store.list(PREFIX))


class FakeUnequalRefusingStore:
    """Like R2: an upload is refused when a part before the last one has another size than the first."""

    def __init__(self, store):
        self._store, self.sizes = store, {}

    def __getattr__(self, name):
        return getattr(self._store, name)

    def upload(self, key):
        upload, sizes = self._store.upload(key), self.sizes.setdefault(key, {})
        put, complete = upload.put, upload.complete

        def noted(number, part):
            sizes[number] = len(part)
            put(number, part)

        def held():
            *equal, last = [sizes[number] for number in sorted(sizes)]
            if len(set(equal)) > 1 or (equal and not 0 < last <= equal[0]):
                raise StoreError(f"{key}: all parts but the last must have one size")
            complete()

        upload.put, upload.complete = noted, held
        return upload


def test_a_file_goes_out_while_it_is_written_and_is_there_only_when_it_is_whole(tmp_path, folder):
    out, path = outgoing(folder), tmp_path / "1.dat"
    with path.open("wb", buffering=0) as file:
        out.begin(path)
        file.write(os.urandom(3 * PART_SIZE))
        eventually(lambda: any(f.stat().st_size >= PART_SIZE for f in folder.root.rglob("*.partial")))
        assert stored(folder) == 0, "an object that is not whole is there"
        file.write(b"the end")
    out.finish(path)
    (record,) = out.settle({path: "table public.a"})
    assert (record.file_size, record.holds) == (3 * PART_SIZE + 7, "table public.a")
    assert not path.exists(), "what is sent gives its space back"


def test_a_file_whose_dump_failed_is_never_an_object(tmp_path, folder):
    out, path = outgoing(folder), tmp_path / "1.dat"
    path.write_bytes(b"half")
    out.begin(path)
    out.stop()
    assert list(folder.root.rglob("*")) == [] or not any(p.is_file() for p in folder.root.rglob("*"))


def test_a_pipe_ends_when_it_is_said_to_and_not_when_its_writer_dies(tmp_path, folder):
    out, path = outgoing(folder), tmp_path / "dump"
    os.mkfifo(path)
    out.begin(path)
    with path.open("wb", buffering=0) as file:
        file.write(b"all of it")
    time.sleep(0.3)
    assert stored(folder) == 0
    out.finish(path)
    (record,) = out.settle({path: "all"})
    assert record.file_size == 9


def test_a_file_that_shrinks_under_the_reader_is_an_error(tmp_path, folder):
    path, whole, cancelled = tmp_path / "1.dat", threading.Event(), threading.Event()
    path.write_bytes(b"x" * 100)
    whole.set()
    with TailReader(path, whole, cancelled) as file:
        assert len(file.read()) == 100
        os.truncate(path, 50)
        with pytest.raises(SpoolError, match="100 bytes were read, but the file has 50"):
            file.read()


@pytest.mark.parametrize("size", [0, 1, PART_SIZE, PART_SIZE + 1, 2 * PART_SIZE, 2 * PART_SIZE + 5])
def test_parts_are_equal_whatever_the_size(tmp_path, folder, size):
    store, path = FakeUnequalRefusingStore(folder), tmp_path / "1.dat"
    path.write_bytes(os.urandom(size))
    out = outgoing(store)
    out.settle({path: ""})
    assert all(sizes for sizes in store.sizes.values())


def test_the_fake_that_wants_equal_parts_refuses_unequal_ones(folder):
    upload = FakeUnequalRefusingStore(folder).upload("a")
    for number, part in enumerate((b"12", b"1", b"1"), 1):
        upload.put(number, part)
    with pytest.raises(StoreError, match="one size"):
        upload.complete()


def test_parts_grow_with_the_file_and_stay_under_what_s3_allows():
    assert part_size(1) == PART_SIZE
    assert part_size(5 << 40) * 10_000 > 5 << 40
    assert part_size(1 << 40) % MIB == 0


@pytest.mark.parametrize("encrypted", [True, False])
def test_what_went_out_comes_back(tmp_path, s3, identity, encrypted):
    recipients = [recipient_of(identity.read_text())] if encrypted else []
    content = os.urandom(PART_SIZE + 1000) + b"and a line that repeats\n" * 100_000
    path = tmp_path / "1.dat"
    path.write_bytes(content)
    (record,) = outgoing(s3, recipients=recipients).settle({path: "table public.a"})
    assert record.key == ("1.dat.zst.age" if encrypted else "1.dat.zst")
    with s3.open(PREFIX + record.key) as body:
        assert (b"age-encryption.org" in body.read(100)) is encrypted
    back = tmp_path / "back"
    back.mkdir()
    identities = read_identities(identity) if encrypted else ()
    Fetcher(store=s3, prefix=PREFIX, identities=identities).all([record], back)
    assert (back / "1.dat").read_bytes() == content


def test_another_identity_or_none_opens_nothing_and_says_so(tmp_path, folder, identity):
    path, stranger = tmp_path / "1.dat", tmp_path / "stranger.txt"
    path.write_bytes(b"secret" * 1000)
    stranger.write_text(make_identity())
    (record,) = outgoing(folder, recipients=[recipient_of(identity.read_text())]).settle({path: "a"})
    for identities, says in ((read_identities(stranger), "no given identity decrypts it"), ((), "--identity")):
        with pytest.raises(KeyProblemError, match=says):
            Fetcher(store=folder, prefix=PREFIX, identities=identities).one(record, tmp_path)
    Fetcher(store=folder, prefix=PREFIX, identities=read_identities(identity)).one(record, tmp_path)


@pytest.mark.parametrize("encrypted", [True, False])
def test_any_flipped_byte_is_an_integrity_error_that_names_the_object(tmp_path, folder, identity, encrypted):
    path = tmp_path / "1.dat"
    path.write_bytes(os.urandom(2000))
    recipients = [recipient_of(identity.read_text())] if encrypted else []
    (record,) = outgoing(folder, recipients=recipients).settle({path: "table public.a"})
    at = folder.root / PREFIX / record.key
    content = at.read_bytes()
    fetcher = Fetcher(store=folder, prefix=PREFIX, identities=read_identities(identity))
    for position in range(0, len(content), 97):
        at.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(IntegrityError, match=r"1\.dat\.zst.*table public\.a"):
            fetcher.one(record, tmp_path)
    at.write_bytes(content)
    fetcher.one(record, tmp_path)


def test_an_object_that_nothing_compressed_can_be_fetched_and_never_fills_the_disk(tmp_path, folder):
    content = os.urandom(3000) + b"0" * (5 * MIB)
    folder.put_bytes(PREFIX + "1.dat", content)
    digest = hashlib.sha256(content).hexdigest()
    record = ObjectRecord(
        key="1.dat",
        size=len(content),
        sha256=digest,
        file="1.dat",
        file_size=len(content),
        file_sha256=digest,
        holds="",
    )
    fetcher = Fetcher(store=folder, prefix=PREFIX)
    fetcher.one(record, tmp_path)
    assert (tmp_path / "1.dat").read_bytes() == content
    with pytest.raises(IntegrityError, match="longer than the 100 bytes"):
        fetcher.one(record.model_copy(update={"file_size": 100}), tmp_path)


class FakeSlowStore:
    """A store whose parts each take a while; notes when each began and ended, and can fail them."""

    def __init__(self, store, *, fails=""):
        self._store, self._fails, self.spans = store, fails, []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def upload(self, key):
        upload = self._store.upload(key)
        put = upload.put

        def slow(number, part):
            begun = time.monotonic()
            time.sleep(0.1)
            self.spans.append((begun, time.monotonic()))
            if self._fails:
                raise StoreError(f"{self._fails} {number}")
            put(number, part)

        upload.put = slow
        return upload


def test_a_part_goes_to_every_destination_at_once_and_not_one_after_the_other(tmp_path):
    stores = [FakeSlowStore(FolderStore(tmp_path / name)) for name in ("a", "b", "c")]
    path = tmp_path / "1.dat"
    path.write_bytes(os.urandom(PART_SIZE + MIB))
    outgoing(*stores).settle({path: ""})
    first = [min(store.spans) for store in stores]
    assert max(begun for begun, _ in first) < min(ended for _, ended in first)


def test_the_error_of_a_destination_is_its_first_and_the_others_go_on(tmp_path):
    good, bad = FolderStore(tmp_path / "good"), FakeSlowStore(FolderStore(tmp_path / "bad"), fails="part")
    path = tmp_path / "1.dat"
    path.write_bytes(os.urandom(5 * PART_SIZE))
    destinations = [Destination(store=bad), Destination(store=good)]
    out = UploadPipeline(destinations, PREFIX, recipients=(), level=1, largest=0)
    (record,) = out.settle({path: ""})
    assert stored(good) == record.size
    assert destinations[1].error is None
    first = destinations[0].error
    assert first is not None
    destinations[0].fail(StoreError("a later one"))
    assert destinations[0].error is first


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")
def test_memory_does_not_grow_with_the_number_of_files(tmp_path, folder, identity):
    """What one file needed is free before the next one: nothing waits for a garbage collector."""
    recipients = [recipient_of(identity.read_text())]
    files = {tmp_path / f"{number}.dat": "" for number in range(150)}
    for path in files:
        path.write_bytes(os.urandom(400_000))
    gc.collect()
    gc.disable()
    try:
        before = resident()
        records = outgoing(folder, recipients=recipients).settle(files)
        sent = resident()
        Fetcher(store=folder, prefix=PREFIX, identities=read_identities(identity)).all(records, tmp_path)
        fetched = resident()
    finally:
        gc.enable()
    assert sent - before < 60 * MIB
    assert fetched - before < 60 * MIB
