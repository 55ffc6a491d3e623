"""A restore killed at every step: what it leaves is never taken for whole, and the next one is as if nothing was."""

from __future__ import annotations

import multiprocessing.forkserver
import os
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.core.errors import RestoreRefusedError
from ops.repository.age import read_identities
from ops.repository.stores.folder import FolderStore
from ops.restore import restore as files
from ops.restore import swap
from ops.sources.postgres.source import PostgresDatabase
from ops.sources.secrets import SecretFiles
from ops.sources.sqlite import SqliteFile
from tests.kits.messages import silent
from tests.kits.waiting import eventually
from tests.ops import killed, source_kit
from tests.ops.drill_kit import identity, make
from tests.ops.restore_kit import RestoreJob, run

__all__ = ["identity"]

SEED = int(os.environ["ANCLA_SEED"])


def restore(root, manifest, admin, owner, target, *, spool, identity):
    job = RestoreJob(
        store=FolderStore(root),
        manifest=manifest,
        admin=admin,
        owner=owner,
        live=("shop",),
        target=target,
        spool=spool,
        identities=read_identities(identity),
    )
    return run(job, silent)


@pytest.fixture
def backup(source, app, shop, folder, identity):
    """Of a database that takes a moment to load."""
    with app.on(shop).connect() as connection:
        connection.execute("CREATE TABLE public.wide AS SELECT i, md5(i::text) a FROM generate_series(1, 30000) i")
    return make(source, identity, folder)


@pytest.fixture
def spool(tmp_path, monkeypatch):
    """Where everything temporary of a restore goes."""
    place = tmp_path / "spool"
    place.mkdir()
    multiprocessing.forkserver.ensure_running()  # elsewhere: it begins processes of other tests too
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", None)  # Python remembers what it found, and must forget this place after
    return place


@pytest.fixture
def arguments(backup, folder, admin, app):
    return folder.root, backup, admin, app


@pytest.fixture
def begin(arguments, spool, identity):
    """Restore in a process of its own, into a database of a name, killed before a step."""

    def start(target, at=None):
        return killed.run(restore_for_test, *arguments, target, spool, identity, at=at, watched=[spool], seed=SEED)

    return start


def restore_for_test(root, manifest, admin, owner, target, spool, identity):  # noqa: PLR0917 - as `restore`
    restore(root, manifest, admin, owner, target, spool=spool, identity=identity)


def state(cluster, name):
    """The comment of a database; None where there is none."""
    with cluster.connect() as connection:
        query = "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = %s"
        row = connection.execute(query, [name]).fetchone()
    return row[0] if row else None


def nobody_works(cluster, name):
    """No pg_restore of the killed run goes on loading behind our back."""
    with cluster.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        eventually(lambda: connection.execute(query, [name]).fetchone() == (0,))


def programs(spool):
    """Processes that have the spool in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"{spool}/" in line and "--dbname" in line:
            found.append(line.replace("\0", " "))
    return found


def drop(cluster, name):
    with cluster.connect() as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def kill_at(points, begin, cluster, admin, app, spool):  # noqa: PLR0917 - fixtures add up
    seen = set()
    live = PostgresDatabase(endpoint=app.on("shop")).fingerprint().tables
    for at in points:
        code, steps = begin("shop_r", at)
        here = f"killed before step {at}, {steps[-1]} (ANCLA_SEED={SEED})"
        if code == 0 and at != killed.END and at >= len(steps):  # it came to fewer steps than were counted
            drop(cluster, "shop_r")
            continue
        assert code == -9, here
        eventually(lambda: not programs(spool))
        nobody_works(cluster, "shop_r")
        comment = state(cluster, "shop_r")
        seen.add("nothing" if comment is None else comment.rpartition(", ")[2] or "made")
        if comment is None:
            # a step of the thread that fetches may be the deadly one while the last statement is on its way
            answered = [step for step in steps if step.startswith("statement")][:-1]
            assert "CREATE DATABASE" not in "".join(answered), here
        elif comment.endswith("verified"):
            assert steps[-1] == killed.END or steps[-1].startswith(("os.", "open")), here
        else:
            refused(cluster, admin, app, begin, comment)
        drop(cluster, "shop_r")
    assert PostgresDatabase(endpoint=app.on("shop")).fingerprint().tables == live
    return seen


def refused(cluster, admin, app, begin, comment):
    """It is not taken for whole, and not restored into: but for an empty one, which is as good as a new one."""
    with pytest.raises(RestoreRefusedError, match="no restore has verified it"):
        swap.plan_promote(swap.Cluster(admin=admin, owner=app), "shop", "shop_r", datetime.now(UTC))
    with cluster.on("shop_r").connect() as connection:
        tables = connection.execute("SELECT count(*) FROM pg_class WHERE relnamespace::regnamespace::text = 'public'")
        empty = tables.fetchone() == (0,)
    assert comment.endswith("not finished") or (empty and comment == "")


def the_next_one_is_clean(begin, cluster, spool):
    assert begin("shop_next")[0] == 0
    assert state(cluster, "shop_next").endswith("verified")
    for path in spool.iterdir():  # killed between making a folder and locking it: it is empty
        if path.is_file() and path.read_bytes() in (b"", b"blat"):  # Python's own try whether it may write there
            continue
        assert path.name.startswith(("ancla-work-", "ancla-private-")), path
        assert list(path.iterdir()) == []


def steps_of(begin, cluster):
    code, steps = begin("shop_r")
    assert code == 0
    assert any(step.startswith("while") and "pg_restore" in step for step in steps)
    drop(cluster, "shop_r")
    return steps


@pytest.mark.long
def test_killed_at_some_steps_the_target_is_marked_and_the_next_one_is_clean(  # noqa: PLR0917 - fixtures add up
    begin, cluster, admin, app, spool, arguments, identity
):
    print(f"ANCLA_SEED={SEED}")
    steps = steps_of(begin, cluster)
    at_work = [number for number, step in enumerate(steps) if step.startswith("while") and "--jobs" in step]
    points = {at_work[SEED % len(at_work)], killed.sample(len(steps), SEED, 1)[0]}
    kill_at(sorted(points), begin, cluster, admin, app, spool)
    into_what_is_left(max(at_work) + 1, begin, cluster, arguments, spool, identity)
    the_next_one_is_clean(begin, cluster, spool)


def into_what_is_left(loaded, begin, cluster, arguments, spool, identity):  # noqa: PLR0917 - fixtures add up
    """A second restore into what a killed one had filled is refused, with the reason and what to do."""
    assert begin("shop_r", loaded)[0] == -9
    nobody_works(cluster, "shop_r")
    with pytest.raises(RestoreRefusedError, match=r"shop_r: is not empty \(ancla: restore of .*, not finished\)") as no:
        restore(*arguments, "shop_r", spool=spool, identity=identity)
    assert "drop it" in str(no.value)
    drop(cluster, "shop_r")
    restore(*arguments, "shop_r", spool=spool, identity=identity)


@pytest.mark.all
@pytest.mark.timeout(1500)
def test_killed_at_every_step_the_target_is_marked_and_the_next_one_is_clean(begin, cluster, admin, app, spool):
    seen = kill_at([*range(len(steps_of(begin, cluster))), killed.END], begin, cluster, admin, app, spool)
    assert seen >= {"nothing", "made", "not finished", "verified"}
    the_next_one_is_clean(begin, cluster, spool)


def test_the_programs_of_a_killed_restore_end_with_it(app, shop, source, folder, identity, begin_of, cluster, spool):  # noqa: PLR0917 - fixtures add up
    """The load would take minutes: its CHECK sleeps by now."""
    with app.on(shop).connect() as connection:
        connection.execute("CREATE FUNCTION public.slow(x int) RETURNS bool LANGUAGE sql AS 'SELECT true'")
        connection.execute("CREATE TABLE public.slow (x int CHECK (public.slow(x)))")
        connection.execute("INSERT INTO public.slow SELECT generate_series(1, 10000)")
        body = "SELECT pg_sleep(0.05) IS NOT NULL"
        connection.execute(f"CREATE OR REPLACE FUNCTION public.slow(x int) RETURNS bool LANGUAGE sql AS '{body}'")
    backup = make(source, identity, folder)
    working = []

    def is_loading():
        with cluster.connect() as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop_r' AND query LIKE 'COPY public.slow %'"
            loading = connection.execute(query).fetchone() == (1,)
        working[:] = programs(spool)  # after it: they were not there before
        return loading

    process = begin_of(backup)
    eventually(is_loading)
    assert working, "the look for programs sees them"
    process.kill()
    process.join()
    eventually(lambda: not programs(spool))
    nobody_works(cluster, "shop_r")
    assert state(cluster, "shop_r").endswith("not finished")


@pytest.fixture
def begin_of(folder, admin, app, spool, identity):
    def start(backup):
        arguments = (folder.root, backup, admin, app, "shop_r", spool, identity)
        process = killed.processes.Process(target=restore_for_test, args=arguments)
        process.start()
        return process

    return start


# --- files ------------------------------------------------------------------------------------------------------------


def put_back(root, manifest, place, spool, identity):
    job = files.RestoreJob(
        store=FolderStore(root), manifest=manifest, target=place, spool=spool, identities=read_identities(identity)
    )
    files.run(job, silent)


@pytest.fixture(params=["sqlite", "secrets"])
def thing(request, tmp_path, folder, identity):
    """A backup of files, and how to make the place that it goes into, and how to see that it is whole."""
    recipients = (source_kit.recipient_of(identity.read_text()),)
    if request.param == "sqlite":
        path = tmp_path / "leads.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE leads (id INTEGER PRIMARY KEY, mail TEXT)")
            connection.executemany("INSERT INTO leads (mail) VALUES (?)", [(f"{n}@x",) for n in range(5000)])
            connection.commit()
        manifest = source_kit.backup(SqliteFile(path=path), folder, recipients=recipients)
        return folder.root, manifest, lambda place: SqliteFile(path=place), lambda place: rows_in(place) == 5000
    path = tmp_path / "app.env"
    path.write_text("TOKEN=abc\n")
    manifest = source_kit.backup(SecretFiles(paths=(path,)), folder, recipients=recipients)
    inside = path.relative_to("/")
    return folder.root, manifest, lambda place: SecretFiles(root=place), lambda place: (place / inside).is_file()


def rows_in(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM leads").fetchone()[0]


def test_files_killed_at_some_steps_have_their_name_only_when_they_are_whole(thing, tmp_path, spool, identity):
    print(f"ANCLA_SEED={SEED}")
    kill_files_at(lambda count: [*killed.sample(count, SEED, 2), count - 1], thing, tmp_path, spool, identity)


@pytest.mark.all
def test_files_killed_at_every_step_have_their_name_only_when_they_are_whole(thing, tmp_path, spool, identity):
    kill_files_at(range, thing, tmp_path, spool, identity)


def kill_files_at(chosen, thing, tmp_path, spool, identity):
    root, manifest, make_place, whole = thing
    home = tmp_path / "back"
    home.mkdir()
    count = len(killed.run(put_back, root, manifest, make_place(home / "0"), spool, identity, watched=[home, spool])[1])
    assert whole(home / "0")
    named = 0
    for at in chosen(count):
        place = home / f"{at + 1}-{named}"
        arguments = (root, manifest, make_place(place), spool, identity)
        code, steps = killed.run(put_back, *arguments, at=at, watched=[home, spool])
        assert code == -9
        if place.exists():
            named += 1
            assert whole(place), steps[-1]
            continue
        partial = place.with_name(place.name + ".partial")
        if partial.exists():
            with pytest.raises(RestoreRefusedError, match=f"{partial.name}"):
                put_back(*arguments)
            killed_of(partial)
        put_back(*arguments)
        assert whole(place), steps[-1]
    assert 0 < named < count
    for path in spool.iterdir():  # killed between making a folder and locking it: it is empty
        assert list(path.iterdir()) == []
        os.utime(path, (0, 0))
    put_back(root, manifest, make_place(home / "last"), spool, identity)
    assert list(spool.iterdir()) == []


def killed_of(partial):
    """Do what the refusal asks for: remove what is left."""
    if partial.is_file():
        partial.unlink()
        return
    for path in sorted(partial.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    partial.rmdir()
