from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from ops.core.errors import ManifestError
from ops.core.signing import canonical, digest
from ops.repository.manifest import Manifest, ObjectRecord, parse_manifest, time_of
from ops.repository.records import BucketRecord, PostgresRecord, TableFingerprint

NOW = datetime(2026, 11, 22, 21, 0, tzinfo=UTC)
ID = "20261122T210000Z-0a1b2c"


def manifest(**more):
    source = PostgresRecord(
        database="shop", server_version="15.18", server_major=15, dump_tool="pg_dump 15.18", dump_major=15,
        dumped_as="app", encoding="UTF8", collate="C", ctype="C", owners=("app",), roles=("app",), extensions=(),
        grants=(), options=(), sequences=(), large_objects=None,
        tables=(TableFingerprint(table="public.orders", rows=3, method="record", hash="-12345678901234567890123"),),
    )  # fmt: skip
    entry = ObjectRecord(
        key="toc.dat.zst", size=1, sha256="0" * 64, file="toc.dat", file_size=1, file_sha256="1" * 64, holds="contents"
    )
    values = {
        "id": ID, "name": "shop", "environment": "staging", "project": "test", "source": source,
        "started_at": NOW, "snapshot_at": NOW, "finished_at": NOW, "objects": (entry,),
    }  # fmt: skip
    return Manifest(**{**values, **more}).sealed()


def edited(**more):
    return json.dumps({**json.loads(manifest().to_bytes()), **more}).encode()


def resealed(**more):
    """A manifest that says so, with the digest of what it says."""
    document = {**json.loads(manifest().to_bytes()), **more}
    document["digest"] = digest(canonical({key: value for key, value in document.items() if key != "digest"}))
    return json.dumps(document).encode()


def test_a_manifest_reads_back_as_it_was_written():
    assert parse_manifest(manifest().to_bytes(), where="here", backup_id=ID) == manifest()


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "not JSON"),
        (b"[]", "cannot be trusted"),
        (
            edited(manifest_version=2),
            "newer Ancla: the manifest is of version 2, these tools read 1; use the Ancla that",
        ),
        (edited(environment="prod"), "changed after it was written"),
        (edited(digest="0" * 64), "changed after it was written"),
        (edited(note="hello"), "changed after it was written"),
        (resealed(note="hello"), "written by a newer Ancla, which knows note; use that version"),
        (resealed(compression="zstd-2"), "written by a newer Ancla, which knows compression"),
        (resealed(snapshot_at="2026-11-22T21:00:00"), "snapshot_at: Input should have timezone info"),
    ],
)
def test_what_cannot_be_trusted_is_refused_with_its_place(raw, told):
    with pytest.raises(ManifestError, match=r"^here: ") as caught:
        parse_manifest(raw, where="here")
    assert told in str(caught.value)


def test_the_manifest_of_another_backup_is_refused():
    with pytest.raises(ManifestError, match=r"is of backup 20261122T210000Z-0a1b2c, not of the one in whose folder"):
        parse_manifest(manifest().to_bytes(), where="here", backup_id="20261122T210000Z-ffffff")


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", ""])
def test_a_file_name_that_leads_elsewhere_is_refused(name):
    document = json.loads(manifest().to_bytes())
    document["objects"][0]["file"] = name
    with pytest.raises(ManifestError, match=r"objects.0.file"):
        parse_manifest(resealed(objects=document["objects"]), where="here")


HOSTILE = ("..", "/etc/20990101T000000Z-000000", "20990101T000000Z-000000/..", "20990101T000000Z-000000\n", "")


@pytest.mark.parametrize("name", HOSTILE)
def test_what_becomes_a_path_cannot_leave_its_folder(name):
    """An id is a folder's name where a backup is restored, a key and a pack are files' names."""
    raw = manifest().to_bytes()
    document = json.loads(raw)
    item = {"key": "k", "size": 1, "etag": "e", "modified": document["started_at"], "sha256": "0" * 64, "pack": "p.tar"}
    bucket = {"kind": "bucket", "bucket": "b", "prefix": "", "based_on": None, "generation": 0, "objects": [item]}
    assert BucketRecord.model_validate(bucket)

    def refused(**changed):
        with pytest.raises(ManifestError, match="this manifest cannot be trusted"):
            parse_manifest(resealed(**changed), where="here")

    refused(id=name)
    refused(depends_on=[name])
    refused(objects=[document["objects"][0] | {"key": name}])
    refused(objects=[document["objects"][0] | {"file": name}])
    refused(source=bucket | {"based_on": name})
    refused(source=bucket | {"objects": [item | {"backup": name}]})
    if name:  # none: it is in no pack yet
        refused(source=bucket | {"objects": [item | {"pack": name}]})
    assert parse_manifest(raw, where="here")


def test_a_name_that_is_no_time_is_no_backup():
    assert time_of(ID) == NOW
    for name in ("20261322T210000Z-0a1b2c", f"{ID}\n", f"x{ID}", "\uff12\uff10261122T210000Z-0a1b2c"):
        assert time_of(name) is None
