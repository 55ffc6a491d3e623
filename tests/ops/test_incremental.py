"""Backups that are built on others: on which, in which stores, and who may have made those."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from ops.backup import create as making
from ops.backup.create import BackupJob, create
from ops.core.errors import DeleteRefusedError, ManifestError, SourceError, StoreError, StoreUnreachableError
from ops.core.signing import Signer
from ops.repository.catalog import entries, find, put_manifest
from ops.repository.incremental import base_of, missing, pieces
from ops.repository.records import BucketObject, BucketRecord
from ops.repository.stores.folder import FolderStore
from ops.sources.base import Dump, SourcePlan
from ops.stack.init import make_key
from tests.kits.messages import silent
from tests.ops.prune_kit import FakeLockedStore
from tests.ops.source_kit import in_order

OURS, THEIRS = Signer(make_key()), Signer(make_key())
NOW = datetime.now(UTC)


class Silent(FolderStore):
    """A store that may not answer."""

    down = False

    def list(self, prefix):
        if self.down:
            raise StoreUnreachableError("silent")
        return super().list(prefix)


@dataclass
class Source:
    """Stands for a bucket with one object that never changes."""

    stores: tuple
    signer: str | None = None
    chosen: list = field(default_factory=list)
    fails: bool = False

    def plan(self):
        self.chosen.append(base_of(self.stores, "assets", signer=self.signer))
        for store in self.stores:
            store.down = False  # it answers again from here on
        return SourcePlan(what="a bucket", bytes_estimate=0, details={})

    def dump(self, folder, outbox):
        folder.mkdir()
        pack = folder / "pack-00001.tar"
        pack.write_bytes(b"x")
        outbox.begin(pack)
        outbox.finish(pack)
        if self.fails:
            while not all(list(store.root.rglob("pack-*.zst")) for store in self.stores):
                time.sleep(0.01)
            raise SourceError("the source went away")
        base = self.chosen[-1]
        earlier = base.id if base.record else None
        item = BucketObject(
            key="k", size=1, etag="e", modified=NOW, sha256="0" * 64, pack="pack-00001.tar", backup=earlier
        )
        record = BucketRecord(bucket="b", prefix="", based_on=earlier, generation=1 if earlier else 0, objects=(item,))
        needed = (earlier,) if earlier else ()
        return Dump(files={pack: "1 objects"}, record=record, snapshot_at=NOW, depends_on=needed)


@pytest.fixture(autouse=True)
def order(monkeypatch):
    in_order(monkeypatch)


@pytest.fixture
def stores(tmp_path):
    return Silent(tmp_path / "a"), Silent(tmp_path / "b")


def make(source, *stores, signer=None, report=silent):
    job = BackupJob(environment="staging", project="test", name="assets", source=source, stores=stores, signer=signer)
    return create(job, report)


def test_a_store_that_was_silent_gets_no_backup_whose_base_it_never_had(stores):
    first, second = stores
    base = make(Source(stores=(first,)), first)
    second.down = True
    with pytest.raises(StoreError, match="lacks a backup that this one builds on"):
        make(Source(stores=stores), *stores)
    assert [entry.complete for entry in entries(second)] == []
    assert find(first, "assets").depends_on == (base.id,)
    again = make(Source(stores=stores), *stores)
    assert again.depends_on == ()
    for store in stores:
        assert missing(store, find(store, "assets")) == []


def test_a_backup_dated_in_the_future_is_never_a_base(stores, monkeypatch):
    """It would be the newest, and so the base of every run, until its time has come."""
    first, _ = stores
    base = make(Source(stores=(first,)), first)
    with monkeypatch.context() as patch:
        patch.setattr(making, "datetime", type("Ahead", (datetime,), {"now": lambda zone: NOW + timedelta(days=400)}))
        ahead = make(Source(stores=(first,)), first)
    assert ahead.id > base.id
    made = make(Source(stores=(first,)), first)
    assert made.depends_on == (base.id,)


def test_only_what_the_environment_signed_is_built_on(stores):
    first, _ = stores
    for signer in (None, THEIRS, OURS):
        made = make(Source(stores=(first,), signer=OURS.public), first, signer=signer)
        base = base_of((first,), "assets", signer=OURS.public)
        assert (base.id, base.record is not None) == (made.id, signer is OURS)
        assert base_of((first,), "assets").record is not None, "without a key all are"


def test_what_a_signed_backup_is_built_on_must_be_signed_by_the_same_key(stores):
    first, _ = stores
    base = make(Source(stores=(first,)), first, signer=OURS)
    made = make(Source(stores=(first,)), first, signer=OURS)
    assert (made.depends_on, missing(first, made), len(pieces(first, made))) == ((base.id,), [], 2)
    for signer in (None, THEIRS):
        first.delete([f"assets/{base.id}/manifest.json.sig"])
        put_manifest(first, base.sealed(signer))
        with pytest.raises(ManifestError, match="is not signed by the key that signed"):
            pieces(first, made)
        assert "is not signed by the key that signed" in missing(first, made)[0]


def test_a_manifest_that_nobody_would_read_is_not_written(stores, monkeypatch):
    monkeypatch.setattr(making, "MANIFEST_LIMIT", 500)
    with pytest.raises(SourceError, match=r"assets: its manifest has .* too many objects"):
        make(Source(stores=stores), *stores)
    assert [list(store.list("")) for store in stores] == [[], []]


def test_remains_in_a_store_that_lets_nothing_go_keep_no_backup_from_it(stores):
    first, second = stores
    locked = FakeLockedStore(second, [""])
    with pytest.raises((SourceError, DeleteRefusedError)):
        make(Source(stores=stores, fails=True), first, locked)
    assert [entry.complete for entry in entries(second)] == [False]
    told = []
    made = make(Source(stores=stores), first, locked, report=told.append)
    assert any("1 objects, which cannot be deleted yet" in line for line in told)
    assert [find(store, "assets").id for store in stores] == [made.id] * 2
