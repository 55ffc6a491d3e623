"""Backups that are encrypted and signed, as an environment makes them, and drills of them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.backup.create import BackupJob, create
from ops.core.formatting import size
from ops.core.messages import say
from ops.core.signing import Signer
from ops.drill import checks
from ops.drill.evidence.document import Choice, Evidence, Phase
from ops.drill.kinds import pgbackrest_evidence as backrest
from ops.drill.kinds import provider_fork_evidence as pitr
from ops.drill.runner import DrillJob, run
from ops.repository.age import make_identity, read_identities, recipient_of
from ops.stack.init import make_key
from tests.kits.messages import silent

ENVIRONMENT = Signer(make_key())
"""The key that signs manifests."""
RUNNER = Signer(make_key())
"""The key that signs evidence."""


@pytest.fixture(scope="session")
def identity(tmp_path_factory):
    """An age identity's file."""
    path = tmp_path_factory.mktemp("keys") / "identity.txt"
    path.write_text(make_identity())
    return path


def make(source, identity: Path, *stores, signer: Signer | None = ENVIRONMENT, name="shop", recipients=None):
    return create(
        BackupJob(
            environment="staging",
            project=f"test-{os.getpid()}",  # one run at a time: not that of another test process
            name=name,
            source=source,
            stores=stores,
            recipients=(recipient_of(identity.read_text()),) if recipients is None else recipients,
            signer=signer,
        ),
        silent,
    )


@pytest.fixture
def backup(source, identity, folder):
    return make(source, identity, folder)


def job(store, identity: Path | None, **more) -> DrillJob:
    return DrillJob(
        **{
            "environment": "staging",
            "project": "test",
            "name": "shop",
            "store": store,
            "identities": read_identities(identity) if identity else (),
            "signer": ENVIRONMENT.public,
            "max_age_hours": 26,
            "rto_minutes": 15,
            **more,
        }
    )


def drill(store, identity: Path | None, **more):
    return run(job(store, identity, **more), silent)


def document(**more) -> Evidence:
    """A drill's document, with no drill."""
    moment = more.pop("started_at", datetime(2026, 11, 23, 4, 0, tzinfo=UTC))
    facts = {
        "verdict": "green",
        "damage": None,
        "environment": "staging",
        "project": "test",
        "name": "shop",
        "kind": "postgresql",
        "backup": "20261123T030000Z-0a1b2c",
        "choice": Choice(way="latest"),
        "store": "s3://backups",
        "manifest_digest": "d" * 64,
        "snapshot_at": moment - timedelta(hours=1),
        "started_at": moment,
        "finished_at": moment + timedelta(seconds=14),
        "rto_seconds": 12.5,
        "rto_budget_seconds": 900,
        "rpo_seconds": 3600.0,
        "rpo_budget_seconds": 26 * 3600,
        "profile": "fast-scratch",
        "objects": 12,
        "stored_bytes": 123456,
        "rows": 4552,
        "checks": [
            checks.passed(
                "backup", say("{backup}, manifest {digest}…", backup="20261123T030000Z-0a1b2c", digest="d" * 16)
            )
        ],
        "phases": [Phase(name="fetch", begin=0.1, seconds=2.0), Phase(name="load", begin=2.1, seconds=10.4)],
        "runner": "ci",
    }
    return Evidence(**{**facts, **more})


def backrest_document(**more) -> backrest.BackrestEvidence:
    """A drill's document of pgBackRest's backup, with no drill."""
    moment = datetime(2026, 11, 1, 3, tzinfo=UTC)
    ask = backrest.QUESTIONS
    facts = {
        "verdict": "green",
        "environment": "staging",
        "stanza": "main",
        "repository": 1,
        "backup": "20261101-030000F",
        "backup_type": "full",
        "backup_stopped_at": moment,
        "wal_start": None,
        "wal_stop": None,
        "system": "7",
        "server_version": "15",
        "asked_for": moment,
        "started_at": moment,
        "finished_at": moment + timedelta(minutes=2),
        "rto_seconds": 9.5,
        "rto_budget_seconds": 60,
        "size": 23213834,
        "stored": 3075962,
        "recovered": backrest.Recovered(
            system="7", timeline=2, parent_timeline=1, ended="before 2026-11-01 03:00:00+00", last_transaction=moment
        ),
        "databases": [backrest.RecoveredDatabase(database="shop", rows=1234, tables=[])],
        "tools": {"pgbackrest": "2.45", "postgres": "15.20"},
        "checks": ask.in_full(
            [
                ask.passed("restore", say("{backup}, {size}", backup="20261101-030000F", size=size(23213834))),
                ask.passed("time", say("{seconds:.0f} s, budget {budget} s", seconds=10.0, budget=60)),
                ask.passed("rows", say("{count} rows", count=1234)),
            ]
        ),
        "phases": [Phase(name="restore", begin=0, seconds=6), Phase(name="replay", begin=6, seconds=3)],
    }
    return backrest.BackrestEvidence(**{**facts, **more})


def fork_document(**more) -> pitr.ForkEvidence:
    """A drill's document of the provider's backup, with no drill."""
    moment = datetime(2026, 11, 1, 3, tzinfo=UTC)
    ask = pitr.QUESTIONS
    facts = {
        "verdict": "green",
        "environment": "staging",
        "project": "test",
        "cluster": "c",
        "cluster_name": "shop-db",
        "region": "nyc3",
        "server_version": "15.4",
        "fork_name": "drill-c-261101030000",
        "asked_for": moment,
        "first_restore_point": moment - timedelta(days=7),
        "newest_restore_point": moment,
        "newest_budget_hours": 26,
        "started_at": moment,
        "finished_at": moment + timedelta(minutes=9),
        "fork_seconds": 4.5,
        "rto_seconds": 500.0,
        "cost_at_most": 0.25,
        "cost_limit": 1.0,
        "prices_read": "2026-11-01",
        "databases": [pitr.ForkedDatabase(database="shop", rows=1234, tables=[])],
        "checks": ask.in_full([ask.passed("rows", say("{count} rows", count=1234))]),
        "phases": [Phase(name="fork", begin=0, seconds=1), Phase(name="wait", begin=1, seconds=400)],
    }
    return pitr.ForkEvidence(**{**facts, **more})
