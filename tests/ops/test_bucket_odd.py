"""One odd object of a bucket never costs the others: unreadable, refused, of another length, with other tags or ACL."""

from __future__ import annotations

import io
import secrets
from types import SimpleNamespace

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ParamValidationError

from blueprint.outputs import BucketOutput
from ops.core.errors import RestoreError, SourceError, StoreError, StoreUnreachableError
from ops.repository import incremental
from ops.repository.stores.retry import Patience
from ops.repository.stores.s3 import S3Store
from ops.sources.bucket import source as module
from ops.sources.bucket.source import Bucket
from tests.ops.faults import FaultyLine
from tests.ops.source_kit import backup, in_order, restore
from tests.ops.test_bucket_acl import simulated_spaces

__all__ = ["simulated_spaces"]

OBJECTS = {"a.txt": b"aaaa", "b.gz": b"bbbbbbbb", "c/d.txt": b"", "e": b"e" * 100, "f": b"f"}


@pytest.fixture(autouse=True)
def _in_order(monkeypatch):
    in_order(monkeypatch)


def new(endpoint, key, prefix=""):
    output = BucketOutput(name=f"assets-{secrets.token_hex(4)}", region="us-east-1", endpoint=endpoint)
    S3Store(output, key).client.create_bucket(Bucket=output.name)
    return S3Store(output.model_copy(update={"prefix": prefix}), key)


@pytest.fixture
def make(s3_endpoint, key):
    return lambda prefix="": new(s3_endpoint, key, prefix)


@pytest.fixture
def assets(make):
    store = make()
    for name, content in OBJECTS.items():
        store.put_bytes(name, content)
    return store


def refuse(store, *events, when, code="AccessDenied", status=403):
    """Let the store refuse some requests, as it would on the wire."""

    def before_send(request, **_):
        if not when(request):
            return None
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        return AWSResponse(request.url, status, {}, SimpleNamespace(stream=lambda **_: iter([body])))

    for event in events:
        store.client.meta.events.register(f"before-send.s3.{event}", before_send)


def of(*names):
    return lambda request: request.url.partition("?")[0].endswith(tuple(names))


def bodies(store):
    bucket, prefix = store.address("")
    get = store.client.get_object
    return {i.key: get(Bucket=bucket, Key=prefix + i.key)["Body"].read() for i in store.list("")}


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidObjectState"])
def test_an_object_that_may_not_be_read_is_named_and_the_others_are_kept(assets, folder, make, code):
    refuse(assets, "GetObject", when=of("/b.gz"), code=code)
    said = []
    made = backup(Bucket(store=assets, say=said.append), folder)
    assert made.source.unread == {"b.gz": f"{code}: no"}
    assert made.source.deleted == (), "it is there"
    assert any("b.gz" in line for line in made.source.not_kept)
    assert any("b.gz" in line and "not in this backup" in line for line in said)
    place = make()
    assert restore(folder, Bucket(store=place)).skipped == []
    assert bodies(place) == {name: content for name, content in OBJECTS.items() if name != "b.gz"}


def test_a_key_pair_that_may_list_and_not_read_is_refused_by_the_plan(assets):
    refuse(assets, "HeadObject", "GetObject", when=lambda request: True)
    with pytest.raises(SourceError, match="listed and cannot be read"):
        Bucket(store=assets).plan()


def test_a_bucket_of_which_nothing_can_be_read_is_no_backup(assets, folder):
    refuse(assets, "GetObject", when=lambda request: True)
    with pytest.raises(SourceError, match="no object can be read"):
        backup(Bucket(store=assets), folder)
    assert list(folder.list("")) == []


def test_an_object_of_the_base_that_cannot_be_asked_again_keeps_its_bytes_and_says_so(assets, folder, make):
    backup(Bucket(store=assets), folder)
    refuse(assets, "GetObject", "HeadObject", when=of("/e"))
    made = backup(Bucket(store=assets, base=lambda: incremental.base_of([folder], "thing")), folder)
    (item,) = [item for item in made.source.objects if item.key == "e"]
    assert (item.backup, made.source.unread) == (made.source.based_on, {})
    assert any("cannot" in text or "AccessDenied" in text for text in item.not_kept)
    place = make()
    restore(folder, Bucket(store=place))
    assert bodies(place) == OBJECTS


def answering(monkeypatch, store, name, change):
    """Let the store's answers for one object be changed."""
    real = store.client.get_object

    def get_object(**asked):
        answer = real(**asked)
        return change(answer) if asked["Key"] == name else answer

    monkeypatch.setattr(store.client, "get_object", get_object)


def without_length(answer):
    del answer["ContentLength"]
    answer["Body"] = io.BytesIO(answer["Body"].read())
    return answer


@pytest.mark.parametrize("pack_bytes", [module.PACK_BYTES, 50])
def test_a_store_that_gives_no_length_is_read_to_the_end(assets, folder, make, monkeypatch, pack_bytes):
    monkeypatch.setattr(module, "PACK_BYTES", pack_bytes)  # the smaller one packs "e" alone
    answering(monkeypatch, assets, "e", without_length)
    made = backup(Bucket(store=assets), folder)
    assert {item.key: item.size for item in made.source.objects} == {k: len(v) for k, v in OBJECTS.items()}
    place = make()
    restore(folder, Bucket(store=place))
    assert bodies(place) == OBJECTS


def test_a_body_without_a_length_that_is_not_as_long_as_listed_is_kept_and_the_difference_is_named(
    assets, folder, make, monkeypatch
):
    def decompressed(answer):
        return without_length(answer) | {"Body": io.BytesIO(b"decompressed on the way" * 9)}

    answering(monkeypatch, assets, "b.gz", decompressed)
    made = backup(Bucket(store=assets), folder)
    (item,) = [item for item in made.source.objects if item.key == "b.gz"]
    assert item.not_kept == ("size: 8 bytes are listed, 207 were read",)
    place = make()
    restore(folder, Bucket(store=place))
    assert bodies(place)["b.gz"] == b"decompressed on the way" * 9


@pytest.mark.parametrize("content", [b"longer than the stated length", b"short"])
@pytest.mark.parametrize("pack_bytes", [module.PACK_BYTES, 4])
def test_a_body_of_another_length_than_stated_is_never_packed(  # noqa: PLR0917 - fixtures add up
    assets, folder, make, monkeypatch, content, pack_bytes
):
    monkeypatch.setattr(module, "PACK_BYTES", pack_bytes)
    tries = []

    def other(answer):
        tries.append(1)
        return answer | {"Body": io.BytesIO(content)}

    answering(monkeypatch, assets, "b.gz", other)
    made = backup(Bucket(store=assets), folder)
    assert len(tries) == 4, "it is read again"
    assert list(made.source.unread) == ["b.gz"]
    assert "b.gz" not in {item.key for item in made.source.objects}
    place = make()
    restore(folder, Bucket(store=place))
    assert bodies(place) == {name: content for name, content in OBJECTS.items() if name != "b.gz"}


def test_a_body_of_another_length_that_is_right_the_next_time_is_taken(assets, folder, monkeypatch):
    first = [b"longer than the stated length"]
    answering(
        monkeypatch, assets, "b.gz", lambda answer: answer | {"Body": io.BytesIO(first.pop())} if first else answer
    )
    assert backup(Bucket(store=assets), folder).source.unread == {}


def test_an_object_is_asked_for_as_it_is_stored(assets, bucket, s3_endpoint, key):
    """Whoever may compress on the way is asked not to; the header is not signed, for proxies change it."""
    seen = []
    with FaultyLine(s3_endpoint, lambda *_: None) as line:
        real = line._server.RequestHandlerClass.ask

        def ask(self, target, body):
            seen.append((self.command, self.headers["Accept-Encoding"], self.headers["Authorization"]))
            return real(self, target, body)

        line._server.RequestHandlerClass = type("Noting", (line._server.RequestHandlerClass,), {"ask": ask})
        store = S3Store(bucket.model_copy(update={"endpoint": line.address}), key)
        store.put_bytes("a", b"1")
        with store.open("a") as body:
            assert body.read() == b"1"
    (got,) = [each for each in seen if each[0] == "GET"]
    assert got[1] == "identity"
    assert "accept-encoding" not in got[2].lower()


# --- ACL and tags -----------------------------------------------------------------------------------------------------


def test_one_acl_that_is_refused_leaves_the_others_known(simulated_spaces, key, folder):
    store = new(simulated_spaces, key)
    bucket, _ = store.address("")
    for name in ("a", "b", "c"):
        store.client.put_object(Bucket=bucket, Key=name, Body=b"1", ACL="public-read")
    refuse(store, "GetObjectAcl", when=of("/b"))
    made = backup(Bucket(store=store), folder)
    assert {item.key: item.public for item in made.source.objects} == {"a": True, "b": None, "c": True}
    assert made.source.not_kept == ("ACL: AccessDenied (b)",)


def test_what_everybody_may_read_is_named_where_the_target_has_no_acls(simulated_spaces, make, key, folder):
    store = new(simulated_spaces, key)
    bucket, _ = store.address("")
    store.client.put_object(Bucket=bucket, Key="logo", Body=b"1", ACL="public-read")
    store.client.put_object(Bucket=bucket, Key="invoice", Body=b"2")
    backup(Bucket(store=store), folder)
    place = make()
    report = restore(folder, Bucket(store=place))
    assert [each.what for each in report.skipped] == ["logo public"]
    assert bodies(place) == {"logo": b"1", "invoice": b"2"}


def test_what_else_an_object_has_is_named(simulated_spaces, key, folder):
    store = new(simulated_spaces, key)
    bucket, _ = store.address("")
    store.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    store.client.put_object(Bucket=bucket, Key="a", Body=b"1", StorageClass="STANDARD_IA", ACL="authenticated-read")
    store.client.put_object(Bucket=bucket, Key="b", Body=b"1", ServerSideEncryption="aws:kms", SSEKMSKeyId="k1")
    made = backup(Bucket(store=store), folder)
    assert "storage-class: STANDARD_IA (a)" in made.source.not_kept
    assert "ACL: READ for AuthenticatedUsers (a)" in made.source.not_kept
    assert any(line.startswith("server-side-encryption: aws:kms") for line in made.source.not_kept)
    assert any(line.startswith("versions:") and "(a, b)" in line for line in made.source.not_kept)


def test_a_change_of_tags_or_acl_alone_is_in_the_next_incremental_backup(simulated_spaces, key, folder, monkeypatch):
    monkeypatch.setattr(module, "choose_sample", lambda unchanged: [])
    store = new(simulated_spaces, key)
    bucket, _ = store.address("")
    for name in ("a", "b", "c"):
        store.client.put_object(Bucket=bucket, Key=name, Body=b"1", ACL="public-read", Tagging="x=1")
    backup(Bucket(store=store), folder)
    store.client.put_object_acl(Bucket=bucket, Key="a", ACL="private")
    store.client.put_object_tagging(Bucket=bucket, Key="b", Tagging={"TagSet": [{"Key": "x", "Value": "2"}]})
    made = backup(Bucket(store=store, base=lambda: incremental.base_of([folder], "thing")), folder)
    assert made.source.generation == 1
    found = {item.key: (item.public, item.tags, item.backup) for item in made.source.objects}
    base = made.source.based_on
    assert found == {"a": (False, {"x": "1"}, base), "b": (True, {"x": "2"}, base), "c": (True, {"x": "1"}, base)}
    place = new(simulated_spaces, key)
    restore(folder, Bucket(store=place))


# --- putting back -----------------------------------------------------------------------------------------------------


def test_one_object_that_the_target_refuses_is_skipped_and_the_others_are_there(assets, folder, make):
    backup(Bucket(store=assets), folder)
    place = make()
    refuse(place, "PutObject", when=of("/b.gz"))
    report = restore(folder, Bucket(store=place))
    assert [each.what for each in report.skipped] == ["b.gz"]
    assert "AccessDenied" in report.skipped[0].why
    assert bodies(place) == {name: content for name, content in OBJECTS.items() if name != "b.gz"}


def test_a_target_that_refuses_every_object_has_nothing_restored(assets, folder, make):
    backup(Bucket(store=assets), folder)
    place = make()
    refuse(place, "PutObject", when=of(*(f"/{name}" for name in OBJECTS)))
    with pytest.raises(RestoreError, match="refuses every object"):
        restore(folder, Bucket(store=place))


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidArgument"])
def test_headers_that_the_target_refuses_are_skipped_and_the_bytes_are_there(assets, folder, make, code):
    assets.put_bytes("menu", b"1", {"x-amz-meta-by": "ZoÃ©", "Cache-Control": "no-store", "Expires": "0"})
    backup(Bucket(store=assets), folder)
    place = make()

    def odd(request):
        return any(not isinstance(value, str) and not value.isascii() for value in request.headers.values())

    refuse(place, "PutObject", when=odd, code=code, status=400)
    report = restore(folder, Bucket(store=place))
    assert [each.what for each in report.skipped] == ["menu user metadata"]
    bucket, _ = place.address("")
    there = place.client.get_object(Bucket=bucket, Key="menu")
    assert (there["Body"].read(), there["CacheControl"], there["ExpiresString"]) == (b"1", "no-store", "0")


def test_headers_that_the_target_takes_and_does_not_keep_are_skipped(assets, folder, make):
    headers = {"Expires": "0", "x-amz-website-redirect-location": "/new", "x-amz-tagging": "a=b"}
    assets.put_bytes("old", b"1", headers)
    backup(Bucket(store=assets), folder)
    place = make()

    def drop(params, **_):
        for name in headers:
            params["headers"].pop(name.lower(), None)

    place.client.meta.events.register_last("before-call.s3.PutObject", drop)
    report = restore(folder, Bucket(store=place))
    assert {each.what for each in report.skipped} == {
        "old expires",
        "old x-amz-website-redirect-location",
        "old tags",
    }


def test_the_marker_of_the_prefix_itself_comes_back_and_is_named_where_it_cannot(make, folder):
    store = make("site")
    store.put_bytes("", b"")
    store.put_bytes("a", b"1")
    backup(Bucket(store=store), folder)
    place = make("other")
    assert restore(folder, Bucket(store=place)).skipped == []
    assert {item.key for item in place.list("")} == {"", "a"}
    report = restore(folder, Bucket(store=make()))
    assert [each.what for each in report.skipped] == ['""']


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_request_that_cannot_be_made_is_not_called_no_answer(s3):
    says = "the request cannot be made: Parameter validation failed"
    with pytest.raises(StoreError, match=says) as caught, s3.explained("a"):
        raise ParamValidationError(report="Non ascii characters found\nin S3 metadata")
    assert not isinstance(caught.value, StoreUnreachableError)
    assert "certificates" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_that_would_break_the_line_is_escaped(s3):
    with pytest.raises(StoreError, match=r"a\\nb\\x1b\[2J at") as caught, s3.open("a\nb\x1b[2J"):
        pass
    assert "\n" not in str(caught.value)


def test_a_server_that_is_down_for_a_moment_is_ridden_out(bucket, key):
    """A refused connection passes as a broken one does."""
    patience = Patience(at_first=1, pause=0.1)
    store = S3Store(bucket.model_copy(update={"endpoint": "http://127.0.0.1:9"}), key, patience=patience)
    attempts = []
    store.client.meta.events.register("before-send.s3", lambda request, **_: attempts.append(1))
    with pytest.raises(StoreUnreachableError, match="no answer"):
        list(store.list(""))
    assert len(attempts) > 1
