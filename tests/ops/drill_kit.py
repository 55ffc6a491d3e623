"""Backups that are encrypted and signed, as an environment makes them, and drills of them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.backup.keys import Signer, make_identity, read_identities, recipient_of
from ops.backup.run import BackupJob, create
from ops.drill import checks
from ops.drill.evidence import Choice, Evidence, Phase
from ops.drill.run import DrillJob, run
from ops.stack_init import make_key

ENVIRONMENT = Signer(make_key())
"""The key that signs manifests."""
RUNNER = Signer(make_key())
"""The key that signs evidence."""


def silent(text):
    pass


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
        "checks": [checks.passed("backup", "20261123T030000Z-0a1b2c, manifest dddddddddddddddd…")],
        "phases": [Phase(name="fetch", begin=0.1, seconds=2.0), Phase(name="load", begin=2.1, seconds=10.4)],
        "runner": "ci",
    }
    return Evidence(**{**facts, **more})
