"""A target or a spool that is nearly full: refused where it can be known, else red, marked, and clean after it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import pytest

from ops.core.errors import RestoreError, RestoreRefusedError, SpoolError
from ops.repository.age import read_identities
from ops.restore.restore import RestoreJob as PlaceJob
from ops.restore.restore import run as run_files
from ops.sources.postgres import scratch_server as postgres
from ops.sources.postgres.source import PostgresDatabase
from ops.sources.secrets import SecretFiles
from ops.sources.sqlite import SqliteFile
from tests.kits.messages import silent
from tests.ops import drill_kit, source_kit
from tests.ops.drill_kit import identity
from tests.ops.restore_kit import RestoreJob, run
from tests.ops.test_restore import comment_of, names

__all__ = ["identity"]

MIB = 1 << 20


@pytest.fixture
def disk():
    """Mount a small disk: gives what mounts one of so many MiB, and returns its folder."""
    mounted = []

    def mount(mebibytes):
        folder = Path(tempfile.mkdtemp(prefix="anc-", dir="/tmp"))
        command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "none", folder]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            folder.rmdir()
            pytest.skip("cannot mount a small disk here")
        mounted.append(folder)
        folder.chmod(0o755)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


@pytest.fixture
def blind(monkeypatch):
    """Nobody is told how little is free, as when it is taken while we work."""
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - what the library gives
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, 1 << 40))


@pytest.fixture
def backup(source, app, shop, folder, identity):
    """Of 11 MiB, an index, and a large object of 3 MiB (less in the database), which a restore needs as a file."""
    with app.on(shop).connect() as connection:
        connection.execute(
            "CREATE TABLE public.wide AS SELECT i, repeat(md5(i::text), 4) a FROM generate_series(1, 60000) i"
        )
        connection.execute("CREATE INDEX wide_a ON public.wide (a)")
        connection.execute("SELECT lo_from_bytea(0, decode(repeat('ab', 3 << 20), 'hex'))")
    return drill_kit.make(source, identity, folder)


@pytest.fixture
def job(backup, folder, admin, app, identity):
    def build(**more):
        facts = {"store": folder, "manifest": backup, "admin": admin, "owner": app, "live": ("shop",)}
        return RestoreJob(**facts, identities=read_identities(identity), **more)

    return build


@pytest.fixture
def small_space(disk, cluster, admin):
    """Make an empty database on a disk of so many MiB; returns its name."""
    made = []

    def make(mebibytes):
        account, folder = postgres._account(), disk(mebibytes)
        inside = folder / "space"
        inside.mkdir()
        if account is not None:
            os.chown(inside, account.pw_uid, account.pw_gid)
        with cluster.connect() as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{inside}'")
            made.append("small")
            connection.execute("CREATE DATABASE shop_small OWNER doadmin TEMPLATE template0 TABLESPACE small")
        return "shop_small"

    yield make
    with cluster.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS shop_small WITH (FORCE)")
        for name in made:
            connection.execute(f"DROP TABLESPACE {name}")


@pytest.mark.parametrize(("size", "what"), [(14, "table"), (24, "index")])
def test_a_servers_disk_that_fills_up_is_red_and_the_target_is_marked(job, small_space, admin, app, size, what):  # noqa: PLR0917 - fixtures add up
    target = small_space(size)
    live = PostgresDatabase(endpoint=app.on("shop")).fingerprint().tables
    says = r"(No space left on device|wrote only \d+ of \d+ bytes).*the database"
    with pytest.raises(RestoreError, match=f"{says} {target} is left as it is") as red:
        run(job(target=target), silent)
    assert "--spool" not in str(red.value), "it is not this machine's disk"
    assert "\n" not in str(red.value)
    assert comment_of(admin, target).endswith("FAILED")
    with pytest.raises(RestoreRefusedError, match=r"is not empty \(ancla: restore of .* FAILED\): drop it"):
        run(job(target=target), silent)
    assert PostgresDatabase(endpoint=app.on("shop")).fingerprint().tables == live
    assert run(job(), silent).skipped == [], "where there is room it goes"


def test_a_spool_that_is_too_small_for_a_restore_is_refused_and_nothing_is_made(job, disk, admin):
    before, small = names(admin), disk(1)
    with pytest.raises(SpoolError, match=r"MiB are free; give another folder with --spool"):
        run(job(spool=small), silent)
    assert names(admin) == before
    assert list(small.iterdir()) == []


def test_a_spool_that_fills_up_during_a_restore_is_red_and_nothing_is_made(job, disk, admin, blind):
    before, small = names(admin), disk(1)
    with pytest.raises(SpoolError, match="the disk filled up"):
        run(job(spool=small), silent)
    assert names(admin) == before
    assert list(small.iterdir()) == []


@pytest.mark.parametrize("size", [1, 60])
def test_a_disk_that_fills_up_during_a_drill_is_no_word_against_the_backup(backup, folder, disk, blind, identity, size):  # noqa: PLR0917 - fixtures add up
    """While it fetches; and while its server loads: a new server takes some 40 MiB."""
    small = disk(size)
    with pytest.raises(SpoolError, match="the disk filled up") as red:
        drill_kit.drill(folder, identity, spool=small)
    assert "\n" not in str(red.value)
    assert list(small.iterdir()) == []
    assert drill_kit.drill(folder, identity).verdict == "green"


@pytest.fixture(params=["sqlite", "secrets"])
def files(request, tmp_path, folder, identity):
    """A backup of 3 MiB of files; returns what restores it under a folder, and the name it gets."""
    recipients = (source_kit.recipient_of(identity.read_text()),)
    path = tmp_path / "data"
    if request.param == "sqlite":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE blobs (b)")
            connection.execute("INSERT INTO blobs VALUES (?)", [os.urandom(3 * MIB)])
            connection.commit()
        source = SqliteFile(path=path)
    else:
        path.write_bytes(os.urandom(3 * MIB))
        source = SecretFiles(paths=(path,))
    manifest = source_kit.backup(source, folder, recipients=recipients)

    def put_back(home):
        place = SqliteFile(path=home / "back") if request.param == "sqlite" else SecretFiles(root=home / "back")
        identities = read_identities(identity)
        job = PlaceJob(store=folder, manifest=manifest, target=place, identities=identities)
        return run_files(job, silent)

    return put_back


def test_a_place_for_files_with_too_little_room_is_refused_before_anything_is_fetched(files, disk, tmp_path):
    small = disk(1)
    with pytest.raises(RestoreRefusedError, match=r"about \d MiB are needed there, 1 MiB are free"):
        files(small)
    assert list(small.iterdir()) == []
    files(tmp_path)


def test_a_place_for_files_that_fills_up_is_red_and_has_no_name(files, disk, tmp_path, blind):
    small = disk(1)
    with pytest.raises(RestoreError, match=r"No space left on device; .*back.partial is left as it is"):
        files(small)
    assert [path.name for path in small.iterdir()] == ["back.partial"]
    files(tmp_path)
