"""Backups that are encrypted and signed, as an environment makes them, and drills of them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.backup.create import BackupJob, create
from ops.core.formatting import size
from ops.core.messages import say
from ops.core.signing import Signer
from ops.drill import checks
from ops.drill.evidence.details import (
    BackupDetail,
    Choice,
    ForkDetail,
    ForkedDatabase,
    PgbackrestDetail,
    Recovered,
    RecoveredDatabase,
)
from ops.drill.evidence.document import Detail, Document, Phase
from ops.drill.kinds import pgbackrest, provider_fork
from ops.drill.kinds.backup import BackupDrill
from ops.drill.runner import run
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


def job(store, identity: Path | None, **more) -> BackupDrill:
    return BackupDrill(
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


def _document(facts: dict[str, Any], detail: type[Detail], more: dict[str, Any]) -> Document:
    """Build a document; what `more` gives goes into the detail where that has such a field."""
    of_kind = facts.pop("detail") | {name: more.pop(name) for name in more.keys() & detail.model_fields.keys()}
    made = detail(**of_kind)
    return Document(**{"proves": made.proves, **facts, **more, "detail": made})


def document(**more) -> Document:
    """A drill's document, with no drill."""
    moment = more.pop("started_at", datetime(2026, 11, 23, 4, 0, tzinfo=UTC))
    facts = {
        "verdict": "green",
        "environment": "staging",
        "project": "test",
        "name": "shop",
        "backup": "20261123T030000Z-0a1b2c",
        "started_at": moment,
        "finished_at": moment + timedelta(seconds=14),
        "rto_seconds": 12.5,
        "rto_budget_seconds": 900,
        "rpo_seconds": 3600.0,
        "rpo_budget_seconds": 26 * 3600,
        "profile": "fast-scratch",
        "stored_bytes": 123456,
        "rows": 4552,
        "checks": [
            checks.passed(
                "backup", say("{backup}, manifest {digest}…", backup="20261123T030000Z-0a1b2c", digest="d" * 16)
            )
        ],
        "phases": [Phase(name="fetch", begin=0.1, seconds=2.0), Phase(name="load", begin=2.1, seconds=10.4)],
        "runner": "ci",
        "detail": {
            "source": "postgresql",
            "choice": Choice(way="latest"),
            "store": "s3://backups",
            "manifest_digest": "d" * 64,
            "snapshot_at": moment - timedelta(hours=1),
            "objects": 12,
        },
    }
    return _document(facts, BackupDetail, more)


def backrest_document(**more) -> Document:
    """A drill's document of pgBackRest's backup, with no drill."""
    moment = datetime(2026, 11, 1, 3, tzinfo=UTC)
    ask = pgbackrest.QUESTIONS
    facts = {
        "verdict": "green",
        "environment": "staging",
        "name": "main",
        "backup": "20261101-030000F",
        "started_at": moment,
        "finished_at": moment + timedelta(minutes=2),
        "rto_seconds": 9.5,
        "rto_budget_seconds": 60,
        "rows": 1234,
        "stored_bytes": 3075962,
        "tools": {"pgbackrest": "2.45", "postgres": "15.20"},
        "checks": ask.in_full(
            [
                ask.passed("restore", say("{backup}, {size}", backup="20261101-030000F", size=size(23213834))),
                ask.passed("time", say("{seconds:.1f} s, budget {budget} min", seconds=9.5, budget=1)),
                ask.passed("rows", say("{count} rows", count=1234)),
            ]
        ),
        "phases": [Phase(name="restore", begin=0, seconds=6), Phase(name="replay", begin=6, seconds=3)],
        "detail": {
            "repository": 1,
            "backup_type": "full",
            "backup_stopped_at": moment,
            "system": "7",
            "server_version": "15",
            "asked_for": moment,
            "size": 23213834,
            "recovered": Recovered(
                system="7", timeline=2, parent_timeline=1, ended="before 2026-11-01", last_transaction=moment
            ),
            "databases": [RecoveredDatabase(database="shop", rows=1234, tables=[])],
        },
    }
    return _document(facts, PgbackrestDetail, more)


def fork_document(**more) -> Document:
    """A drill's document of the provider's backup, with no drill."""
    moment = datetime(2026, 11, 1, 3, tzinfo=UTC)
    ask = provider_fork.QUESTIONS
    facts = {
        "verdict": "green",
        "environment": "staging",
        "project": "test",
        "name": "shop-db",
        "backup": "drill-c-261101030000",
        "started_at": moment,
        "finished_at": moment + timedelta(minutes=9),
        "rto_seconds": 500.0,
        "rows": 1234,
        "checks": ask.in_full([ask.passed("rows", say("{count} rows", count=1234))]),
        "phases": [Phase(name="fork", begin=0, seconds=1), Phase(name="wait", begin=1, seconds=400)],
        "detail": {
            "cluster": "c",
            "region": "nyc3",
            "server_version": "15.4",
            "asked_for": moment,
            "first_restore_point": moment - timedelta(days=7),
            "newest_restore_point": moment,
            "newest_budget_hours": 26,
            "fork_seconds": 4.5,
            "cost_at_most": 0.25,
            "cost_limit": 1.0,
            "prices_read": "2026-11-01",
            "databases": [ForkedDatabase(database="shop", rows=1234, tables=[])],
        },
    }
    return _document(facts, ForkDetail, more)
