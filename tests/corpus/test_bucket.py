"""Objects that are odd and sound: backed up, drilled and restored, with nothing refused, called wrong or lost.

The oracle is raw HTTP: what is on the wire of the source is on the wire of the copy, or is named.
"""

from __future__ import annotations

import json
import os
import random
import re
import secrets
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from blueprint.outputs import BucketOutput
from ops.drill.kinds.backup import BackupDrill
from ops.drill.runner import run
from ops.repository.stores.s3 import S3Store
from ops.repository.upload import PART_SIZE
from ops.sources.bucket.reader import named
from ops.sources.bucket.source import Bucket
from tests.corpus.generate_objects import HEADERS
from tests.corpus.raw_s3 import RawS3
from tests.ops.source_kit import backup, restore, silent
from tests.ops.test_bucket_acl import simulated_spaces

__all__ = ["simulated_spaces"]

SEED = int(os.environ["ANCLA_SEED"])
OBJECTS = json.loads((Path(__file__).parent / "bucket" / "objects.json").read_text())
OF_THE_OBJECT = re.compile(
    rb"content-(type|disposition|language|encoding)|cache-control|expires|x-amz-meta-.*|x-amz-website-.*|x-amz-tagging.*"
)


@pytest.fixture(params=["s3_endpoint", "simulated_spaces"])
def endpoint(request):
    """A real server on a file system, and one that takes every key and keeps every byte of a header."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def make(endpoint, key):
    def new(prefix=""):
        output = BucketOutput(name=f"odd-{secrets.token_hex(4)}", region="us-east-1", endpoint=endpoint)
        S3Store(output, key).client.create_bucket(Bucket=output.name)
        store = S3Store(output.model_copy(update={"prefix": prefix}), key)
        return store, RawS3(endpoint, output.name, key)

    return new


def on_the_wire(raw, name):
    """Status, body and the headers and tags that are the object's own."""
    answer, tags = raw.get(name), raw.get(name, query="tagging")
    headers = sorted((key, value) for key, value in answer.headers if OF_THE_OBJECT.fullmatch(key))
    found = sorted(re.findall(rb"<Tag>.*?</Tag>", tags.body, re.DOTALL)) if tags.status == 200 else []
    return answer.status, answer.body, headers, found


def drill(folder, spool):
    spool.mkdir()
    job = BackupDrill(
        environment="staging", project="test", name="thing", store=folder, max_age_hours=26, rto_minutes=15, spool=spool
    )
    return run(job, silent)


def there_and_back(put, make, folder, tmp_path):
    """Put objects (key: header lines, body), back them up, drill, restore, and compare the wire."""
    (source, raw), (place, copy) = make("from/here"), make("to")
    before = {}
    for name, (headers, body) in put.items():
        answer = raw.put(b"from/here/" + name, body, headers)
        if answer.status == 200:
            before[name] = on_the_wire(raw, b"from/here/" + name)
    made = backup(Bucket(store=source), folder)
    listed = {item.key for item in source.list("")}
    recorded = {item.key.encode() for item in made.source.objects}
    evidence = drill(folder, tmp_path / "spool")
    assert evidence.verdict == "green", evidence.summary()
    report = restore(folder, Bucket(store=place))
    skipped = {each.what: each for each in report.skipped}
    for name, was in before.items():
        if name not in recorded:
            assert name.decode() not in listed, name  # this server merges slashes, and lists no control characters
            assert name != b"a\x01b" or "a\ufffdb" in made.source.unread
            continue
        now = on_the_wire(copy, b"to/" + name)
        if now != was:
            parts = [what for what in skipped if what.startswith(named(name.decode()))]
            assert parts, f"{name}: {was} became {now}, and nothing says so"
            assert now[1] == was[1] or named(name.decode()) in skipped, "bytes are never lost for a header"
    assert recorded & before.keys()
    return made, report.skipped, before


def test_odd_objects_come_back_as_they_were_on_the_wire(make, folder, tmp_path, request):
    simulated = "simulated_spaces" in request.node.name  # which cannot tell the ACL of an object that came in parts
    put = {
        each["key"].encode(): (
            [(name.encode(), value.encode("latin-1")) for name, value in each.get("headers", {}).items()],
            random.Random(each["name"]).randbytes(each.get("size", 10)),
        )
        for each in OBJECTS
        if not (simulated and each.get("size", 0) > PART_SIZE)
    }
    made, skipped, before = there_and_back(put, make, folder, tmp_path)
    assert skipped == []
    print(f"{len(before)} of {len(put)} odd objects were taken by the server; not read: {made.source.unread}")
    assert len(before) > len(put) * 0.7
    assert {item.key: item.tags for item in made.source.objects}["old"] == {"class": "a b", "eñe": "+"}
    assert "" in {item.key for item in made.source.objects}, "the folder's marker of the prefix"


def generated(examples, make, folder, tmp_path):
    print(f"{examples} objects, ANCLA_SEED={SEED}")
    drawn, number = {}, count()

    @seed(SEED)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(HEADERS)
    def draw(headers):
        name = f"o/{next(number):04}".encode()
        drawn[name] = (headers, name)

    draw()
    return there_and_back(drawn, make, folder, tmp_path)


def test_drawn_headers_come_back_as_they_were_on_the_wire(make, folder, tmp_path):
    _, skipped, before = generated(40, make, folder, tmp_path)
    assert skipped == []
    assert len(before) > 4, "how many the server takes is drawn too; about half"


@pytest.mark.all
def test_a_thousand_drawn_headers_come_back_as_they_were_on_the_wire(make, folder, tmp_path):
    _, skipped, before = generated(1000, make, folder, tmp_path)
    assert skipped == []
    assert len(before) > 500
