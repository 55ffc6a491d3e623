"""Who may read an object is kept and given back where the store has ACLs, as Spaces has.

The S3 server of the other tests has none, so moto stands in for it here: it keeps ACLs, and lets anybody read
anything.
"""

from __future__ import annotations

import secrets
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from blueprint.outputs import AppBucketOutput, BucketKey, BucketOutput
from ops.core.errors import RestoreRefusedError
from ops.repository.stores.s3 import S3Store
from ops.repository.upload import PART_SIZE
from ops.sources.bucket.reader import Reader
from ops.sources.bucket.source import Bucket
from ops.targets.kinds import BucketKind
from tests.kits.messages import silent
from tests.ops.source_kit import backup, keys, restore

NOTHING = SimpleNamespace(sources=())
EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"


@pytest.fixture(scope="module")
def simulated_spaces():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def make(simulated_spaces, key):
    def new():
        output = BucketOutput(name=f"assets-{secrets.token_hex(4)}", region="us-east-1", endpoint=simulated_spaces)
        store = S3Store(output, key)
        store.client.create_bucket(Bucket=output.name)
        return store

    return new


def readable_by_all(store):
    """The keys that a grant opens to everybody, as the store itself tells."""
    bucket, _ = store.address("")
    names = [item.key for item in store.list("")]
    grants = {name: store.client.get_object_acl(Bucket=bucket, Key=name)["Grants"] for name in names}
    return {
        name
        for name, found in grants.items()
        if any(grant["Grantee"].get("URI") == EVERYBODY and grant["Permission"] == "READ" for grant in found)
    }


def test_what_everybody_may_read_comes_back_so_and_nothing_else_does(make, folder, tmp_path):
    assets, place = make(), make()
    bucket, _ = assets.address("")
    for name, size, acl in (
        ("logo.png", 10, "public-read"),
        ("video.mp4", PART_SIZE + 1, "public-read"),  # put in parts
        ("invoice.pdf", 10, "private"),
    ):
        assets.client.put_object(Bucket=bucket, Key=name, Body=b"x" * size, ACL=acl)
    recipients, identities = keys(tmp_path)
    backup(Bucket(store=assets), folder, recipients=recipients)
    restore(folder, Bucket(store=place), identities=identities)
    assert readable_by_all(place) == readable_by_all(assets) == {"logo.png", "video.mp4"}
    assert {item.key: item.public for item in Reader(place, ignore=(), say=silent).read_all()[0]} == {
        "logo.png": True,
        "video.mp4": True,
        "invoice.pdf": False,
    }


def test_a_restore_of_the_assets_opens_what_the_backup_does_not_know(make, folder, tmp_path):
    """A limited key is refused `GET ?acl` at Spaces; restored without ACLs, every picture of the site would be 403."""
    assets, place, elsewhere = make(), make(), make()
    bucket, _ = assets.address("")
    assets.client.put_object(Bucket=bucket, Key="logo.png", Body=b"x", ACL="public-read")
    answer = {"Error": {"Code": "AccessDenied", "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    refused = ClientError(answer, "GetObjectAcl")
    assets.client.meta.events.register("before-call.s3.GetObjectAcl", raising(refused))
    recipients, identities = keys(tmp_path)
    backup(Bucket(store=assets), folder, recipients=recipients)

    report = restore(folder, Bucket(store=place, public=True), identities=identities)
    restore(folder, Bucket(store=elsewhere), identities=identities)

    assert readable_by_all(place) == {"logo.png"}
    assert not report.skipped
    assert report.facts == {"made_public": 1}
    assert not readable_by_all(elsewhere), "what is in another bucket is nobody's to open"


def raising(error):
    def refuse(**_):
        raise error

    return refuse


@pytest.mark.parametrize(
    ("source", "into", "public"),
    [
        ("assets", None, True),
        ("assets", "copies", True),
        ("assets", "s3://elsewhere/copies", False),
        ("assets", "s3://shop-uploads/copies", False),
        ("uploads", "s3://shop-assets/copies", True),
        ("uploads", None, False),
    ],
)
def test_a_bucket_of_the_stack_is_known_by_its_name_and_by_who_may_read_it(monkeypatch, source, into, public):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    place = {"region": "nyc3", "endpoint": "https://nyc3.digitaloceanspaces.com"}
    buckets = {
        name: AppBucketOutput(
            bucket=BucketOutput(name=f"shop-{name}", **place), public=name == "assets", url="https://x", cdn_id=None
        )
        for name in ("assets", "uploads")
    }
    keys = {name: BucketKey(access_key="key", secret_key=SecretStr("secret")) for name in buckets}
    outputs, held = SimpleNamespace(buckets=buckets, backup=NOTHING), SimpleNamespace(bucket_keys=keys)
    stack = SimpleNamespace(name="prod", outputs=outputs, secrets=held)
    with BucketKind().target(SimpleNamespace(name=source), into, stack, ()) as target:
        assert target.public is public


def test_a_bucket_that_is_gone_from_the_stack_is_restored_into_one_that_is_named():
    outputs = SimpleNamespace(buckets={}, backup=NOTHING)
    stack = SimpleNamespace(name="prod", outputs=outputs, secrets=SimpleNamespace(bucket_keys={}))
    with (
        pytest.raises(RestoreRefusedError, match="give s3://BUCKET/PREFIX"),
        BucketKind().target(SimpleNamespace(name="old"), "copies", stack, ()),
    ):
        pass
