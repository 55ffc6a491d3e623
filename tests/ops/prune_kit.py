"""What the tests of retention share: backups made in a moment, and stores that fail, are locked, or count."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from blueprint.fields import Duration
from blueprint.settings.backup import RetentionSettings
from ops.backup.prune import PruneJob, act, make_plan
from ops.core.errors import DeleteRefusedError
from ops.repository import catalog
from ops.repository.manifest import PAGE_NAME, Manifest, ObjectRecord, time_of
from ops.repository.records import PostgresRecord, TableFingerprint

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LEAST = RetentionSettings(keep_last=2, daily=0, weekly=0, monthly=0, minimum_count=1, minimum_age=Duration("1s"))


class DatedStore:
    """A store in which each object came when its backup was begun: the tests put years of them in one moment.

    `came` says otherwise, by a backup's id.
    """

    def __getattr__(self, name):
        return getattr(self._store, name)

    def __init__(self, store):
        self._store, self.came = store, {}

    def list(self, prefix):
        for item in self._store.list(prefix):
            at = self.came.get(item.key.split("/")[1]) or time_of(item.key.split("/")[1])
            yield replace(item, modified=at or item.modified)


class FakeLockedStore:
    """A store with a lock: it does not let go of keys in which one of these texts is."""

    def __init__(self, store, locked):
        self._store, self.locked = store, locked

    def __getattr__(self, name):
        return getattr(self._store, name)

    def delete(self, keys):
        for key in keys:
            if any(text in key for text in self.locked):
                raise DeleteRefusedError(f"{key}: ObjectLocked")
            self._store.delete([key])


class Killed(BaseException):
    """Ends the process at once, as kill -9 does: nobody catches it."""


def put(store, days, *, name="shop", complete=True, objects=3, signer=None, needs=(), environment="staging"):
    """Put a backup of so many days ago into the store; returns its id."""
    at = NOW - timedelta(days=days)
    backup_id = f"{at:%Y%m%dT%H%M%SZ}-{int(days * 24):06x}"
    prefix = catalog.prefix_of(name, backup_id)
    contents = {f"{number}.dat.zst.age": b"x" * (100 + number) for number in range(objects)}
    for key, content in contents.items():
        store.put_bytes(prefix + key, content)
    manifest = Manifest(
        id=backup_id,
        name=name,
        environment=environment,
        project="test",
        source=PostgresRecord(
            database="shop",
            server_version="15.20",
            server_major=15,
            dump_tool="pg_dump (PostgreSQL) 15.20",
            dump_major=15,
            dumped_as="app",
            encoding="UTF8",
            collate="C",
            ctype="C",
            owners=(),
            roles=(),
            extensions=(),
            grants=(),
            options=(),
            tables=(TableFingerprint(table="public.orders", rows=objects, method="record", hash="0"),),
            sequences=(),
            large_objects=None,
        ),
        started_at=at,
        snapshot_at=at,
        finished_at=at,
        objects=tuple(
            ObjectRecord(
                key=key,
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                file=key.split(".")[0],
                file_size=1,
                file_sha256="0" * 64,
                holds="a table",
            )
            for key, content in contents.items()
        ),
        depends_on=tuple(needs),
    ).sealed(signer)
    if complete:
        store.put_bytes(prefix + PAGE_NAME, b"how to")
        catalog.put_manifest(store, manifest)
    return backup_id


def job(store, **more):
    more = {"name": "shop", "policy": LEAST, "environment": "staging", "project": "test"} | more
    if signer := more.pop("signer", None):
        more["expected"] = catalog.Expected(signer=signer)
    return PruneJob(store=store if isinstance(store, DatedStore) else DatedStore(store), **more)


def prune(store, **more):
    plan = make_plan(job(store, **more), NOW)
    return {d.id: (d.outcome, d.reason) for d in act(plan, NOW, lambda _: None)}


def keys(store):
    """All objects, but for the verification log."""
    return [item.key for item in store.list("") if not item.key.startswith("ledger/")]


def left(store, name="shop"):
    return [entry.id for entry in catalog.entries(store, name)]
