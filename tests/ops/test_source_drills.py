"""Drills of files, secrets and buckets: green from the second store with the first gone, red for every damage."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing

import pytest

from blueprint.outputs import BucketOutput
from ops.drill.evidence import report as page
from ops.drill.evidence.document import Status
from ops.drill.kinds.backup import BackupDrill, controls
from ops.drill.negative_controls import CAUGHT_BY, Damage, possible
from ops.drill.runner import run
from ops.repository import catalog, incremental
from ops.repository.stores.folder import FolderStore
from ops.repository.stores.s3 import S3Store
from ops.sources.bucket.source import Bucket
from ops.sources.secrets import SecretFiles
from ops.sources.sqlite import SqliteFile
from tests.kits.messages import silent
from tests.ops.source_kit import backup, in_order, keys, lose


def sqlite(tmp_path, request):
    path = tmp_path / "leads.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE leads (email TEXT, n INT)")
        connection.executemany("INSERT INTO leads VALUES (?, ?)", [(f"c4n4ry{i}", i) for i in range(3000)])
        connection.commit()
    return lambda *stores: SqliteFile(path=path)


def secret(tmp_path, request):
    (tmp_path / ".env").write_text("TOKEN=c4n4ry\n")
    return lambda *stores: SecretFiles(paths=(tmp_path / ".env",))


def bucket(tmp_path, request):
    endpoint, key = request.getfixturevalue("s3_endpoint"), request.getfixturevalue("key")
    output = BucketOutput(name=f"assets-{secrets.token_hex(4)}", region="us-east-1", endpoint=endpoint)
    store = S3Store(output, key)
    store.client.create_bucket(Bucket=output.name)
    for number in range(9):
        store.put_bytes(f"o/{number}", secrets.token_bytes(3000) + b"c4n4ry")
    return lambda *stores: Bucket(store=store, base=lambda: incremental.base_of(stores, "thing"))


@pytest.fixture(params=[sqlite, secret, bucket])
def drilled(request, tmp_path):
    """A backup whose first store is gone: (the second store, identities, how to make another backup)."""
    recipients, identities = keys(tmp_path)
    first, second = FolderStore(tmp_path / "first"), FolderStore(tmp_path / "second")
    source = request.param(tmp_path, request)
    backup(source(first, second), first, second, recipients=recipients)
    lose(first)
    return second, identities, lambda: backup(source(second), second, recipients=recipients)


def job(store, identities, spool, **more):
    (spool / "spool").mkdir(exist_ok=True)
    return BackupDrill(
        environment="staging",
        project="test",
        name="thing",
        store=store,
        max_age_hours=26,
        rto_minutes=15,
        identities=identities,
        spool=spool / "spool",
        **more,
    )


def test_green_and_nothing_is_left_and_no_value_is_in_the_evidence(drilled, tmp_path):
    store, identities, _ = drilled
    evidence = run(job(store, identities, tmp_path), silent)
    assert evidence.summary() == ""
    assert evidence.verdict == "green"
    assert {check.status for check in evidence.checks} == {Status.PASSED}
    assert list((tmp_path / "spool").iterdir()) == []
    assert b"c4n4ry" not in evidence.to_bytes()
    assert "c4n4ry" not in page.render([evidence])


def test_every_damage_is_caught_by_the_check_that_is_there_for_it(drilled, tmp_path):
    store, identities, _ = drilled
    manifest = catalog.find(store, "thing")
    asked = possible(manifest, signer=None)
    assert set(asked) >= {Damage.FLIP, Damage.MISSING, Damage.ROWS, Damage.KEY, Damage.STALE}
    for evidence in controls(job(store, identities, tmp_path), silent):
        assert evidence.verdict == "red"
        assert CAUGHT_BY[Damage(evidence.damage)] in {check.name for check in evidence.red}
    assert run(job(store, identities, tmp_path), silent).verdict == "green", "the original was touched"


def test_the_wrong_key_and_a_kept_scratch_that_never_holds_secrets(drilled, tmp_path):
    store, identities, _ = drilled
    (tmp_path / "other").mkdir()
    _, strangers = keys(tmp_path / "other")
    evidence = run(job(store, strangers, tmp_path), silent)
    assert {"key"} == {check.name for check in evidence.red}
    late = run(job(store, identities, tmp_path, rpo_minutes=0, keep_hours=1), silent)
    assert late.verdict == "red"
    left = b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
    assert (b"c4n4ry" in left) == (late.detail.source == "sqlite")


def test_an_incremental_backup_is_drilled_with_what_it_depends_on(request, tmp_path, monkeypatch):
    in_order(monkeypatch)
    recipients, identities = keys(tmp_path)
    store = FolderStore(tmp_path / "store")
    source = bucket(tmp_path, request)
    base = backup(source(store), store, recipients=recipients)
    source().store.put_bytes("o/new", b"new")
    made = backup(source(store), store, recipients=recipients)
    assert made.depends_on == (base.id,)
    drill = job(store, identities, tmp_path, backup=made.id)
    assert run(drill, silent).verdict == "green"
    assert all(evidence.verdict == "red" for evidence in controls(drill, silent))
    pack = store.root / catalog.prefix_of("thing", base.id) / base.objects[0].key
    content = pack.read_bytes()
    pack.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
    flipped = run(drill, silent)
    assert {"digests"} == {check.name for check in flipped.red}
    pack.unlink()
    assert "objects" in {check.name for check in run(drill, silent).red}
    pack.with_name("manifest.json").unlink()
    assert "objects" in {check.name for check in run(drill, silent).red}
