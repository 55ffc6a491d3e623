"""Buckets: only what changed is read, all of it comes back, and what a store changes behind its ETags is found out."""

from __future__ import annotations

import hashlib
import io
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ResponseStreamingError

from blueprint.outputs import BucketOutput
from ops.core.errors import (
    IntegrityError,
    ObjectMissingError,
    RestoreError,
    RestoreRefusedError,
    SourceError,
)
from ops.repository import catalog, incremental
from ops.repository.records import BucketObject, BucketRecord
from ops.repository.stores.folder import FolderStore
from ops.repository.stores.s3 import S3Store
from ops.sources.base import Dump, SourcePlan
from ops.sources.bucket import source as module
from ops.sources.bucket.reader import Facts, Reader, member_name
from ops.sources.bucket.restore import MARK, put_all
from ops.sources.bucket.source import Bucket, compare, cut
from tests.kits.messages import silent
from tests.ops.source_kit import backup, by_hand, everything_in, in_order, keys, lose, restore


@pytest.fixture(autouse=True)
def _in_order(monkeypatch):
    in_order(monkeypatch)


@pytest.fixture
def make(s3_endpoint, key):
    def new(prefix=""):
        output = BucketOutput(name=f"assets-{secrets.token_hex(4)}", region="us-east-1", endpoint=s3_endpoint)
        S3Store(output, key).client.create_bucket(Bucket=output.name)
        return S3Store(output.model_copy(update={"prefix": prefix}), key)

    return new


OBJECTS = {
    "index.html": (b"<p>c4n4ry</p>", {"ContentType": "text/html", "CacheControl": "max-age=60"}),
    "img/a b ñ+&.png": (b"\x89PNG" * 50, {"ContentType": "image/png", "Metadata": {"by": "me"}}),
    "img/deep/er/x": (b"", {}),
    "doc.pdf": (b"%PDF" * 99, {"ContentDisposition": "attachment", "ContentLanguage": "es"}),
    "log.gz": (b"gz", {"ContentEncoding": "gzip"}),
}


def put(store, objects=OBJECTS):
    for key, (content, more) in objects.items():
        bucket, name = store.address(key)
        store.client.put_object(Bucket=bucket, Key=name, Body=content, **more)


@pytest.fixture
def assets(make):
    store = make()
    put(store)
    return store


def incremental_source(assets, *stores, **more):
    return Bucket(store=assets, base=lambda: incremental.base_of(stores, "thing"), **more)


class CountingReader(Reader):
    """The real reader, and which keys it read."""

    keys: list[str]

    def open(self, key):
        type(self).keys.append(key)
        return super().open(key)


@pytest.fixture
def read(monkeypatch):
    """The keys that were read since it was last cleared."""
    CountingReader.keys = []
    monkeypatch.setattr(module, "Reader", CountingReader)
    return CountingReader.keys


def objects_of(store):
    reader = Reader(store, ignore=(), say=silent)
    facts = {"etag", "modified"}
    return {item.key: item.model_dump(exclude=facts) for item in reader.read_all()[0]}


def test_encrypted_to_two_stores_and_back_from_the_second_with_the_first_gone(assets, make, s3, tmp_path):
    recipients, identities = keys(tmp_path)
    first = FolderStore(tmp_path / "first")
    made = backup(incremental_source(assets, first, s3), first, s3, recipients=recipients)
    assert b"c4n4ry" not in everything_in(first.root)
    put(assets, {"new": (b"new", {}), "index.html": (b"<p>other</p>", {"ContentType": "text/html"})})
    assets.delete(["log.gz"])
    second = backup(incremental_source(assets, first, s3), first, s3, recipients=recipients)
    assert (second.depends_on, second.source.based_on, second.source.generation) == ((made.id,), made.id, 1)
    assert second.source.deleted == ("log.gz",)
    lose(first)
    place = make("some/where")
    restore(s3, Bucket(store=place), identities=identities)
    assert objects_of(place) == objects_of(assets)
    before = make()
    restore(s3, Bucket(store=before), identities=identities, backup=made.id)
    assert {key: item["size"] for key, item in objects_of(before).items()} == {k: len(v[0]) for k, v in OBJECTS.items()}


def test_what_did_not_change_is_not_read_but_for_the_sample(assets, folder, read, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE_LEAST", 0)
    backup(incremental_source(assets, folder), folder)
    assert sorted(read) == sorted(OBJECTS)
    read.clear()
    put(assets, {"doc.pdf": (b"%PDF2", {})})
    backup(incremental_source(assets, folder), folder)
    assert set(read) - {"doc.pdf"} <= set(OBJECTS)
    assert len(read) == 2  # it, and one of the four others: a hundredth of them, rounded up
    read.clear()
    made = backup(incremental_source(assets, folder), folder)
    assert len(read) == 1
    assert made.source.deleted == ()
    assert made.objects, "there is something to check even where nothing changed"


def test_other_metadata_is_taken_without_reading_the_bytes_again(assets, folder, read, monkeypatch, make):
    monkeypatch.setattr(module, "choose_sample", lambda unchanged: [])
    backup(incremental_source(assets, folder), folder)
    time.sleep(1.1)  # times of change are whole seconds
    put(assets, {"doc.pdf": (OBJECTS["doc.pdf"][0], {"ContentType": "application/x-other"})})
    read.clear()
    made = backup(incremental_source(assets, folder), folder)
    assert read == []
    assert {o.key: o.headers["content-type"] for o in made.source.objects}["doc.pdf"] == "application/x-other"
    place = make()
    restore(folder, Bucket(store=place))
    assert objects_of(place)["doc.pdf"]["headers"]["content-type"] == "application/x-other"


def test_bytes_that_changed_under_the_same_etag_are_found_by_the_sample_and_taken_anew(assets, folder, make):
    """Stands for a store that lost bytes and says nothing: the record, not the store, is made to differ."""
    first = backup(incremental_source(assets, folder), folder)
    wrong = tuple(
        o.model_copy(update={"sha256": o.sha256[::-1]}) if o.key == "doc.pdf" else o for o in first.source.objects
    )
    base = module.Base(id=first.id, record=first.source.model_copy(update={"objects": wrong}))
    said = []
    made = backup(Bucket(store=assets, base=lambda: base, say=said.append), folder)
    assert made.source.retaken == ("doc.pdf",)
    assert made.source.rehashed == len(OBJECTS)
    assert any("doc.pdf: other bytes than in" in line for line in said)
    place = make()
    restore(folder, Bucket(store=place))
    assert objects_of(place) == objects_of(assets)


def test_an_object_that_goes_between_listing_and_reading_is_recorded_as_deleted(assets, folder, make, monkeypatch):
    real = Reader.listed

    def listed(self):
        found = real(self)
        return [*found, Facts(key="gone", size=5, etag="x", modified=found[0].modified)]

    monkeypatch.setattr(Reader, "listed", listed)
    made = backup(incremental_source(assets, folder), folder)
    monkeypatch.undo()
    assert made.source.deleted == ("gone",)
    assert [item.key for item in made.source.objects] == sorted(OBJECTS)
    restore(folder, Bucket(store=make()))


def test_an_object_that_is_overwritten_meanwhile_is_of_one_version(assets, folder, make, monkeypatch):
    real = Reader.open

    def overwritten(self, key):
        if key == "doc.pdf":
            put(assets, {"doc.pdf": (b"longer than before" * 99, {"ContentType": "text/plain"})})
        return real(self, key)

    monkeypatch.setattr(Reader, "open", overwritten)
    backup(incremental_source(assets, folder), folder)
    monkeypatch.undo()
    place = make()
    restore(folder, Bucket(store=place))
    assert objects_of(place) == objects_of(assets)


def test_full_again_when_the_count_is_full_when_a_store_lacks_the_base_and_when_the_base_is_not_whole(
    assets, folder, tmp_path
):
    other = FolderStore(tmp_path / "other")
    kinds = [backup(incremental_source(assets, folder, full_every=3), folder).source.generation for _ in range(4)]
    assert kinds == [0, 1, 2, 0]
    source = incremental_source(assets, folder, other)
    assert "no earlier backup is in every store" in source.plan().details["kind"]
    both = backup(source, folder, other)
    assert (both.source.generation, both.depends_on) == (0, ())
    assert backup(incremental_source(assets, folder, other), folder, other).depends_on == (both.id,)
    packs = [entry.key for entry in both.objects]
    other.delete([catalog.prefix_of("thing", both.id) + packs[0]])
    source = incremental_source(assets, folder, other)
    assert "is not complete" in source.plan().details["kind"]
    assert backup(source, folder, other).depends_on == ()


def test_a_chain_that_lost_a_pack_is_not_restored(assets, folder, make):
    first = backup(incremental_source(assets, folder), folder)
    put(assets, {"new": (b"new", {})})
    backup(incremental_source(assets, folder), folder)
    pack = catalog.prefix_of("thing", first.id) + first.objects[0].key
    content = (folder.root / pack).read_bytes()
    place = Bucket(store=make())
    (folder.root / pack).write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    with pytest.raises(IntegrityError):
        restore(folder, place)
    folder.delete([pack])
    with pytest.raises(ObjectMissingError, match="depends on it"):
        restore(folder, place)
    assert list(place.store.list("")) == []


def test_a_place_that_is_not_empty_is_refused_and_left_alone(assets, folder, make):
    backup(incremental_source(assets, folder), folder)
    before = objects_of(assets)
    with pytest.raises(RestoreRefusedError, match="is not empty"):
        restore(folder, Bucket(store=assets))
    assert objects_of(assets) == before


def test_a_restore_that_differs_or_breaks_off_is_marked(assets, folder, make, monkeypatch):
    made = backup(incremental_source(assets, folder), folder)

    def wrong(store, place, record, **more):
        skipped = put_all(store, place, record, **more)
        put(store, {"doc.pdf": (b"other", {"ContentDisposition": "attachment", "ContentLanguage": "es"})})
        return skipped

    monkeypatch.setattr(module.restore, "put_all", wrong)
    place = make()
    with pytest.raises(RestoreError, match=rf"not equal to {made.id}: doc.pdf size.*marked by the object {MARK}"):
        restore(folder, Bucket(store=place))
    assert MARK in {item.key for item in place.list("")}
    with pytest.raises(RestoreRefusedError, match="is not empty"):
        restore(folder, Bucket(store=place))
    monkeypatch.undo()
    place = make()
    restore(folder, Bucket(store=place))
    assert MARK not in {item.key for item in place.list("")}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("doc.pdf", b"%PDX" * 99, OBJECTS["doc.pdf"][1]), "doc.pdf sha256"),
        (("doc.pdf", OBJECTS["doc.pdf"][0], {"ContentDisposition": "inline"}), "doc.pdf content-disposition"),
        (("more", b"", {}), "more"),
        (("log.gz", None, {}), "log.gz"),
    ],
)
def test_any_difference_is_named(assets, folder, change, what):
    made = backup(incremental_source(assets, folder), folder)
    assert Bucket(store=assets).compare(made.source, []) == []
    key, content, more = change
    if content is None:
        assets.delete([key])
    else:
        put(assets, {key: (content, more)})
    assert what in {difference.what for difference in Bucket(store=assets).compare(made.source, [])}


def test_a_line_that_breaks_while_bytes_come_is_tried_again_and_not_for_ever(assets, folder, make, monkeypatch):
    real, broken = Reader.open, []

    class FaultyBody:
        def __init__(self, body):
            self._body = body
            self.facts, self.stated = body.facts, body.stated

        def read(self, size=-1):
            broken.append(1)
            self._body.read(3)
            raise ResponseStreamingError(error="cut")

    times = [2]

    @contextmanager
    def opened(self, key):
        with real(self, key) as body:
            if key == "doc.pdf" and times[0] > 0:
                times[0] -= 1
                yield FaultyBody(body)
            else:
                yield body

    monkeypatch.setattr(Reader, "open", opened)
    backup(incremental_source(assets, folder), folder)
    assert len(broken) == 2
    place = make()
    times[0] = 0
    restore(folder, Bucket(store=place))
    assert objects_of(place) == objects_of(assets)
    times[0] = 99
    made = backup(Bucket(store=assets), FolderStore(folder.root / "new"))
    assert list(made.source.unread) == ["doc.pdf"]
    assert "cannot be read in full, tried 4 times" in made.source.unread["doc.pdf"]
    assert {item.key for item in made.source.objects} == OBJECTS.keys() - {"doc.pdf"}


def test_large_objects_are_alone_in_their_pack_and_small_ones_share(assets, folder, make, monkeypatch):
    now = objects_of(assets)
    facts = [
        Facts(key=key, size=size, etag="", modified=None)
        for key, size in {"a": 10, "b": 20, "c": 64 << 20, "d": 70 << 20, "e": 1, "f": 1}.items()
    ]
    assert [[item.key for item in pack] for pack in cut(facts)] == [["a", "b"], ["c"], ["d"], ["e", "f"]]
    monkeypatch.setattr(module, "PACK_BYTES", 300)
    made = backup(incremental_source(assets, folder), folder)
    assert {entry.holds for entry in made.objects} == {"1 objects", "4 objects"}
    place = make()
    restore(folder, Bucket(store=place))
    assert objects_of(place) == now


def test_an_object_of_many_parts_comes_back(make, folder):
    store = make()
    put(store, {"film": (secrets.token_bytes(21 << 20), {"ContentType": "video/mp4"})})
    backup(Bucket(store=store), folder)
    place = make()
    restore(folder, Bucket(store=place))
    assert objects_of(place) == objects_of(store)


@pytest.mark.parametrize("key", ["a//b", "/a", "../a", "a/./b", "folder/", ".ancla-keys/x", "a\nb", "x" * 300])
def test_a_key_that_is_no_path_has_another_name_in_its_pack(key):
    assert member_name(key).startswith(".ancla-keys/")
    assert member_name("a/b ñ.png") == "a/b ñ.png"


def test_keys_that_are_no_paths_come_back(make, folder):
    store = make()
    put(store, {"folder/": (b"", {}), "ñ 🎉/x": (b"1", {}), "-rf": (b"2", {}), "a" * 200: (b"3", {})})
    backup(Bucket(store=store), folder)
    place = make()
    restore(folder, Bucket(store=place))
    assert objects_of(place) == objects_of(store)


def test_too_many_objects_are_refused_with_what_to_do(assets, monkeypatch):
    monkeypatch.setattr(module, "MOST_OBJECTS", 3)
    with pytest.raises(SourceError, match=r"name several in backup\.sources"):
        Bucket(store=assets).plan()


def test_a_prefix_is_all_that_is_seen(make, folder, s3_endpoint, key):
    store = make("site")
    put(store)
    bucket = BucketOutput(name=store.address("")[0], region="us-east-1", endpoint=s3_endpoint)
    outside = S3Store(bucket, key)
    put(outside, {"other": (b"no", {})})
    made = backup(Bucket(store=store), folder)
    assert [item.key for item in made.source.objects] == sorted(OBJECTS)


def test_an_older_time_of_change_is_a_change_too(assets, folder):
    made = backup(incremental_source(assets, folder), folder)
    older = [
        Facts(key=o.key, size=o.size, etag=o.etag, modified=o.modified - timedelta(seconds=1))
        for o in made.source.objects
    ]
    assert len(compare(older, made.source).touched) == len(OBJECTS)


@pytest.mark.parametrize("count", [500, pytest.param(5000, marks=pytest.mark.all)])
def test_many_small_objects_take_one_request_each_and_few_packs(make, folder, read, count):
    store = make()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: put(store, {f"o/{n:05}": (b"%d" % n * 500, {})}), range(count)))
    begun = time.monotonic()
    made = backup(incremental_source(store, folder), folder)
    print(f"{count} objects in {time.monotonic() - begun:.1f} s")
    assert (made.source.rows, len(read), len(made.objects)) == (count, count, -(-count // module.PACK_OBJECTS))
    read.clear()
    put(store, {"o/00007": (b"other", {})})
    assert backup(incremental_source(store, folder), folder).source.rows == count
    assert len(read) == 1 + max(5, count // 100)
    place = make()
    restore(folder, Bucket(store=place))


def test_a_person_restores_an_incremental_backup_with_stock_tools_alone(assets, folder, tmp_path):
    recipients, _ = keys(tmp_path)
    put(assets, {"folder/": (b"", {}), "back\\slash": (b"5", {})})
    base = backup(incremental_source(assets, folder), folder, recipients=recipients)
    put(assets, {"doc.pdf": (b"newer", {})})
    assets.delete(["log.gz"])
    made = backup(incremental_source(assets, folder), folder, recipients=recipients)
    assert made.depends_on == (base.id,)
    new = tmp_path / "new"
    done = by_hand(folder.root / "thing" / made.id, IDENTITY=tmp_path / "operator", NEW=new)
    assert done.returncode == 0, done.stderr
    have = {str(path.relative_to(new)): path.read_bytes() for path in new.rglob("*") if path.is_file()}
    want = {member_name(key): content for key, (content, _) in OBJECTS.items() if key != "log.gz"}
    odd = {member_name("folder/"): b"", member_name("back\\slash"): b"5"}
    assert have == want | odd | {"doc.pdf": b"newer"}, "neither what was deleted nor an older version"


@dataclass
class Packed:
    """A source of objects that a store on a file system, as the tests', cannot have beside one another."""

    objects: dict[str, bytes]

    def plan(self):
        return SourcePlan(what="objects", bytes_estimate=0, details={})

    def dump(self, folder, outbox):
        folder.mkdir()
        pack, now = folder / "pack-00001.tar", datetime.now(UTC)
        items = [
            BucketObject(
                key=key,
                size=len(content),
                etag="e",
                modified=now,
                sha256=hashlib.sha256(content).hexdigest(),
                pack=pack.name,
            )
            for key, content in self.objects.items()
        ]
        with module._new_tar(pack) as tar:
            for item in items:
                tar.addfile(module._member(item), io.BytesIO(self.objects[item.key]))
        outbox.begin(pack)
        outbox.finish(pack)
        record = BucketRecord(bucket="b", prefix="", based_on=None, generation=0, objects=tuple(items))
        return Dump(files={pack: "objects"}, record=record, snapshot_at=now)


def test_a_person_gets_a_key_that_is_a_folder_of_another_beside_it(folder, tmp_path):
    objects = {
        "": b"6",
        "a//b": b"0",
        "a//b/c": b"1",
        "docs": b"2",
        "docs/a.txt": b"3",
        "docs/a.txt/b": b"4",
        "zebra": b"5",
    }
    made = backup(Packed(objects), folder)
    new = tmp_path / "new"
    done = by_hand(folder.root / "thing" / made.id, NEW=new)
    assert done.returncode == 0, done.stderr
    have = {str(path.relative_to(new)): path.read_bytes() for path in new.rglob("*") if path.is_file()}
    plain = {"docs/a.txt/b", "zebra"}
    odd = {f".ancla-keys/{hashlib.sha256(key.encode()).hexdigest()}": objects[key] for key in objects.keys() - plain}
    assert have == odd | {key: objects[key] for key in plain}
