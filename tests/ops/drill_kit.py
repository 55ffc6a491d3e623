"""Backups that are encrypted and signed, as an environment makes them, and drills of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.backup.keys import Signer, make_identity, read_identities, recipient_of
from ops.backup.run import BackupJob, create
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


def make(source, identity: Path, *stores, signer: Signer | None = ENVIRONMENT, name="shop"):
    return create(
        BackupJob(
            environment="staging",
            project="test",
            name=name,
            source=source,
            stores=stores,
            recipients=(recipient_of(identity.read_text()),),
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
