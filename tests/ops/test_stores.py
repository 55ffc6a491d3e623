from __future__ import annotations

import base64
import errno
import hashlib
import os
import time
from types import SimpleNamespace

import pytest
from botocore.awsrequest import AWSResponse
from pydantic import SecretStr

from blueprint.outputs import BucketKey
from ops.core.errors import ObjectMissingError, StoreError, StoreUnreachableError
from ops.repository.stores.retry import Patience
from ops.repository.stores.s3 import S3Store
from tests.ops.faults import FaultyLine
from tests.ops.test_outage import clock

__all__ = ["clock"]

MIB = 1 << 20


@pytest.fixture(params=["s3", "folder"])
def store(request):
    return request.getfixturevalue(request.param)


def test_what_is_put_is_listed_and_read_back(store):
    store.put_bytes("shop/a/one", b"1")
    upload = store.upload("shop/a/two")
    upload.put(1, b"22")
    assert [o.key for o in store.list("shop/")] == ["shop/a/one"], "it is there whole, or not at all"
    upload.complete()
    store.put_bytes("other/b/one", b"3")
    assert [(o.key, o.size) for o in store.list("shop/")] == [("shop/a/one", 1), ("shop/a/two", 2)]
    with store.open("shop/a/two") as body:
        assert body.read() == b"22"
    store.delete(["shop/a/one", "shop/a/two"])
    assert list(store.list("shop/")) == []
    with pytest.raises(ObjectMissingError), store.open("shop/a/one"):
        pass


def test_an_upload_that_is_aborted_leaves_no_object_and_no_parts(store):
    upload = store.upload("shop/a/half")
    upload.put(1, b"x" * 5 * MIB)
    upload.put(2, b"y" * 5 * MIB)
    upload.abort()
    assert list(store.list("")) == []
    assert store.abort_uploads("") == 0


def test_parts_may_come_in_any_order_and_twice(store):
    upload = store.upload("shop/a/big")
    parts = {number: bytes([number]) * 5 * MIB for number in (1, 2, 3)} | {4: b"the end"}
    for number in (1, 3, 2, 3, 4):
        upload.put(number, parts[number])
    upload.complete()
    with store.open("shop/a/big") as body:
        assert body.read() == b"".join(parts[number] for number in (1, 2, 3, 4))


def test_an_endpoint_that_does_not_answer_and_a_wrong_key_are_one_line(bucket, s3_endpoint):
    nowhere = S3Store(
        bucket.model_copy(update={"endpoint": "http://127.0.0.1:9"}),
        BucketKey(access_key="a", secret_key=SecretStr("b")),
        patience=Patience(at_first=1),
    )
    with pytest.raises(StoreUnreachableError, match="no answer") as caught:
        list(nowhere.list(""))
    assert "\n" not in str(caught.value)
    stranger = S3Store(bucket, BucketKey(access_key="AKIATEST", secret_key=SecretStr("wrong-secret")))
    with pytest.raises(StoreUnreachableError, match="the key pair is refused"):
        list(stranger.list(""))
    with pytest.raises(StoreUnreachableError, match="the key pair is refused"):
        stranger.put_bytes("a", b"x")


def test_a_bucket_that_is_not_there_is_named(bucket, key):
    with pytest.raises(StoreUnreachableError, match="no such bucket"):
        list(S3Store(bucket.model_copy(update={"name": "never-made"}), key).list(""))


def lock(store, seen):
    """Let the store refuse what has no MD5, in the words of AWS for a bucket with Object Lock."""

    def before_send(request, **_):
        if request.method != "PUT":
            return None
        seen.append(request.headers.get("Content-MD5"))
        if seen[-1]:
            return None
        text = (
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
        )
        body = f"<Error><Code>InvalidRequest</Code><Message>{text}</Message></Error>".encode()
        return AWSResponse(request.url, 400, {}, SimpleNamespace(stream=lambda **_: iter([body])))

    store.client.meta.events.register("before-send.s3", before_send)


def test_a_bucket_with_object_lock_gets_the_md5_that_it_asks_for_and_no_other_does(s3, bucket, key):
    parts, seen = (b"1" * 5 * MIB, b"2"), []
    lock(s3, seen)
    s3.put_bytes("shop/a/one", b"1")
    upload = s3.upload("shop/a/two")
    for number, part in enumerate(parts, 1):
        upload.put(number, part)
    upload.complete()
    md5 = [base64.b64encode(hashlib.md5(body).digest()) for body in (b"1", *parts)]
    assert seen == [None, *md5], "it is asked without once, and then with the body's own"
    with s3.open("shop/a/two") as body:
        assert body.read() == b"".join(parts)
    other, seen = S3Store(bucket, key), []
    other.client.meta.events.register("before-send.s3", lambda request, **_: seen.append(request.headers))
    other.put_bytes("shop/a/one", b"1")
    assert "Content-MD5" not in seen[0]


def test_a_folder_on_a_disk_that_takes_a_piece_only_holds_all_of_it_or_nothing(folder, monkeypatch):
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, part, offset: whole(file, part[:3], offset))
    folder.put_bytes("shop/a/one", b"0123456789")
    with folder.open("shop/a/one") as body:
        assert body.read() == b"0123456789"

    def full(file, part, offset):
        if offset > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(file, part[:3], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreError, match="No space left"):
        folder.put_bytes("shop/a/two", b"0123456789")
    assert [item.key for item in folder.list("")] == ["shop/a/one"]


def test_a_key_may_not_lead_out_of_a_folder(folder):
    with pytest.raises(StoreError, match="leads outside the folder"):
        folder.put_bytes("../outside", b"")


def exercise(store):
    """Every kind of request once; returns what is there in the end."""
    store.put_bytes("shop/a/one", b"1" * 1000)
    for finish in ("complete", "abort"):
        upload = store.upload(f"shop/a/{finish}")
        upload.put(1, b"x" * 5 * MIB)
        upload.put(2, b"y" * 10)
        getattr(upload, finish)()
    store.put_bytes("shop/a/gone", b"")
    store.delete(["shop/a/gone"])
    with store.open("shop/a/complete") as body:
        assert body.read() == b"x" * 5 * MIB + b"y" * 10
    store.abort_uploads("shop/")
    return [(item.key, item.size) for item in store.list("")]


@pytest.mark.parametrize("fault", ["503", "429", "reset", "lost", "cut", pytest.param("hang", marks=pytest.mark.long)])
def test_each_request_in_turn_may_fail_once_and_is_made_again(bucket, key, s3_endpoint, fault):
    """One request more for each fault: one part again, and not the whole."""
    failed = set()

    def once(number, method, path):
        request = line.requests[number]
        if request in failed or (fault == "cut" and method != "GET"):
            return None
        failed.add(request)
        return fault

    with FaultyLine(s3_endpoint, once) as line:
        store = S3Store(
            bucket.model_copy(update={"endpoint": line.address}),
            key,
            patience=Patience(at_first=60, later=60, pause=0.1),
            timeout=2 if fault == "hang" else 30,
        )
        assert exercise(store) == [("shop/a/complete", 5 * MIB + 10), ("shop/a/one", 1000)]
        assert store.abort_uploads("") == 0
    assert len(failed) >= (3 if fault == "cut" else 9)
    assert max(line.requests.count(request) for request in failed) <= 4


def test_an_object_that_is_replaced_while_it_is_read_is_not_pieced_together(bucket, key, s3_endpoint, s3):
    s3.put_bytes("a", b"1" * 1000)

    def replaced(number, method, path):
        if number == 1:
            s3.put_bytes("a", b"2" * 1000)
        return "cut" if number == 0 else None

    with FaultyLine(s3_endpoint, replaced) as line:
        store = S3Store(bucket.model_copy(update={"endpoint": line.address}), key, patience=Patience(pause=0.1))
        with pytest.raises(StoreError, match="a: it was replaced while it was read"), store.open("a") as body:
            body.read()
    assert len(line.requests) == 2


def test_a_store_that_stays_busy_is_given_up_in_a_bounded_time(bucket, key, s3_endpoint, clock):
    """By a clock that only the waiting moves: on the real one a pause of the machine uses all patience up."""
    with FaultyLine(s3_endpoint, lambda number, method, path: "503" if number > 0 else None) as line:
        store = S3Store(
            bucket.model_copy(update={"endpoint": line.address}), key, patience=Patience(later=1, pause=0.2)
        )
        store.put_bytes("a", b"")
        begun = clock.now
        with pytest.raises(StoreError, match="503"):
            store.put_bytes("b", b"")
        assert 0.5 < clock.now - begun <= 1
    assert len(line.requests) > 3, "it was asked again"


def test_a_retry_after_is_obeyed_and_one_beyond_all_patience_ends_at_once():
    patience = Patience(at_first=5, later=100, pause=1, answered=True)
    now = time.monotonic()
    assert patience.next_pause(now, 1, 30) == 30
    assert patience.next_pause(now, 1, 3600) is None
    assert 0 <= patience.next_pause(now, 1) <= 0.2
    assert patience.next_pause(now - 101, 1) is None
