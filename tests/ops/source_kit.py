"""What the tests of the sources share: a job with two stores and two readers, and restores from the second store."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from ops.backup import create as making
from ops.backup.create import BackupJob, create
from ops.core.progress import no_progress
from ops.repository import catalog
from ops.repository.age import make_identity, parse_recipients, read_identities, recipient_of
from ops.restore.download import fetched
from ops.restore.restore import RestoreJob as PlaceJob
from ops.restore.restore import run
from ops.sources.postgres import tools
from tests.kits.messages import silent


def in_order(monkeypatch):
    """Ids of backups that begin within one second sort by a random end; from here on, as they were made."""
    numbers = itertools.count()
    monkeypatch.setattr(making, "secrets", SimpleNamespace(token_hex=lambda size: f"{next(numbers):0{size * 2}x}"))


def keys(folder):
    """Make two identities in files; returns (recipients, the identities of the second one)."""
    recipients = []
    for name in ("operator", "escrow"):
        text = make_identity()
        (folder / name).write_text(text)
        recipients.append(recipient_of(text))
    parse_recipients(recipients)
    return tuple(recipients), read_identities(folder / "escrow")


def backup(source, *stores, recipients=(), name="thing", report=silent):
    job = BackupJob(
        environment="staging", project="test", name=name, source=source, stores=stores, recipients=recipients
    )
    return create(job, report)


def restore(store, place, *, identities=(), backup=catalog.LATEST, name="thing"):
    manifest = catalog.find(store, name, backup)
    return run(PlaceJob(store=store, manifest=manifest, target=place, identities=identities), silent)


def everything_in(folder):
    """All bytes of all files, and all their names."""
    parts = [str(path).encode() for path in folder.rglob("*")]
    return b"\n".join([*parts, *(path.read_bytes() for path in folder.rglob("*") if path.is_file())])


def lose(store):
    """The first provider is gone, with all it had."""
    shutil.rmtree(store.root)


def filled(place, folder, record):
    """Restore into a place from a folder where all files are; return what was skipped."""
    return place.restore(fetched(folder, place), record, no_progress)


def by_hand_into(server, folder, name, **settings):
    """The same of a database, into a new one of this server."""
    programs = tools.find_tool("pg_restore", at_least="13").path.parent
    with server.environment() as variables:
        return by_hand(folder, **{**variables, "NEW": name, "PATH": f"{programs}:{os.environ['PATH']}"}, **settings)


def by_hand(folder, **settings):
    """Do what the page in a backup's folder says, to the letter; returns what bash says of it."""
    lacking = [tool for tool in ("age", "zstd", "jq", "bash") if shutil.which(tool) is None]
    if lacking:
        pytest.skip(f"not installed: {', '.join(lacking)}")
    script = (folder / "RESTORE.md").read_text().partition("```sh\n")[2].partition("```")[0]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"} | {k: str(v) for k, v in settings.items()}
    command = ["bash", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
