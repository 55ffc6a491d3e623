from __future__ import annotations

import io
import os
import threading

import pytest
from pydantic import SecretStr

from blueprint.outputs import BucketKey
from ops.backup.pipeline import CompressingReader
from ops.errors import ObjectMissingError, StoreError, StoreUnreachableError
from ops.stores import s3 as module
from ops.stores.s3 import MIB, S3Store, part_size


@pytest.fixture(params=["s3", "folder"])
def store(request):
    return request.getfixturevalue(request.param)


class Stingy(io.RawIOBase):
    """Gives fewer bytes than it is asked for, as pipes and compressors do."""

    def __init__(self, content):
        self._content = io.BytesIO(content)

    def read(self, size=-1):
        return self._content.read(min(size, 70_000) if size > 0 else size)


def test_what_is_put_is_listed_and_read_back(store):
    store.put_bytes("shop/a/one", b"1")
    store.put_stream("shop/a/two", io.BytesIO(b"22"), expected_size=2)
    store.put_bytes("other/b/one", b"3")
    assert [(o.key, o.size) for o in store.list("shop/")] == [("shop/a/one", 1), ("shop/a/two", 2)]
    with store.open("shop/a/two") as body:
        assert body.read() == b"22"
    store.delete(["shop/a/one", "shop/a/two"])
    assert list(store.list("shop/")) == []
    with pytest.raises(ObjectMissingError), store.open("shop/a/one"):
        pass


def test_parts_are_of_equal_size_whatever_the_source_gives(s3, monkeypatch):
    """R2 refuses unequal parts."""
    monkeypatch.setattr(module, "PART_SIZE", 5 * MIB)
    sizes = []
    original = s3._client.upload_part
    monkeypatch.setattr(
        s3._client, "upload_part", lambda **more: (sizes.append(_length(more["Body"])), original(**more))[1]
    )
    content = os.urandom(12 * MIB)
    reader = CompressingReader(Stingy(content), threading.Event())
    s3.put_stream("shop/a/big", reader, expected_size=12 * MIB)
    assert sorted(sizes, reverse=True)[:2] == [5 * MIB, 5 * MIB]
    assert len(sizes) == 3
    assert reader.record("k", "f", "h").file_size == len(content)


def _length(body):
    return len(body.getvalue()) if hasattr(body, "getvalue") else len(body)


def test_a_reader_that_fails_half_way_leaves_no_object_and_no_parts(s3, monkeypatch):
    monkeypatch.setattr(module, "PART_SIZE", 5 * MIB)

    class Breaking:
        left = 2

        def read(self, size=-1):
            self.left -= 1
            if self.left < 0:
                raise StoreError("broken")
            return b"x" * size

    with pytest.raises(StoreError, match="broken"):
        s3.put_stream("shop/a/half", Breaking(), expected_size=20 * MIB)
    assert list(s3.list("")) == []
    assert s3.abort_uploads("") == 0


def test_parts_grow_with_the_object_so_that_ten_thousand_are_enough():
    assert part_size(1) == 16 * MIB
    assert part_size(5 << 40) * 10_000 > 5 << 40
    assert part_size(300 << 30) % MIB == 0


def test_an_endpoint_that_does_not_answer_and_a_wrong_key_are_one_line(bucket, s3_endpoint):
    nowhere = S3Store(
        bucket.model_copy(update={"endpoint": "http://127.0.0.1:9"}),
        BucketKey(access_key="a", secret_key=SecretStr("b")),
    )
    with pytest.raises(StoreUnreachableError, match="no answer") as caught:
        list(nowhere.list(""))
    assert "\n" not in str(caught.value)
    stranger = S3Store(bucket, BucketKey(access_key="AKIATEST", secret_key=SecretStr("wrong-secret")))
    with pytest.raises(StoreUnreachableError, match="the key pair is refused"):
        list(stranger.list(""))
    with pytest.raises(StoreUnreachableError, match="the key pair is refused"):
        stranger.put_stream("a", io.BytesIO(b"x"), expected_size=1)


def test_a_bucket_that_is_not_there_is_named(bucket, key):
    with pytest.raises(StoreUnreachableError, match="no such bucket"):
        list(S3Store(bucket.model_copy(update={"name": "never-made"}), key).list(""))


def test_a_key_may_not_lead_out_of_a_folder(folder):
    with pytest.raises(StoreError, match="leads out of the folder"):
        folder.put_bytes("../outside", b"")
