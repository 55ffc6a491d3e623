"""A cluster keeps real base backups and WAL, and a fork has what was committed at the asked time, and nothing later."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from sandbox.parts.base import BaseBackup, ClusterSpec, RestoreSpec
from sandbox.parts.container_spec import draft_of
from sandbox.parts.containers import ContainerParts
from tests.sandbox.parts.conftest import inside

pytestmark = pytest.mark.containers


def connect(cluster: ClusterSpec, user: str = "doadmin", dbname: str = "defaultdb") -> psycopg.Connection[Any]:
    passwords = {each.name: each.password for each in cluster.users}
    return psycopg.connect(
        host=cluster.host, hostaddr=cluster.public_ip, port=25060, user=user, password=passwords[user], dbname=dbname,
        sslmode="require", connect_timeout=60, autocommit=True,
    )  # fmt: skip


def one(session: psycopg.Connection[Any], query: str) -> Any:
    row = session.execute(query).fetchone()  # type: ignore[call-overload]
    assert row is not None
    return row[0]


def moment(session: psycopg.Connection[Any]) -> str:
    """Now, by the server's clock, with a moment of nothing before and after."""
    time.sleep(0.2)
    now: datetime = one(session, "SELECT clock_timestamp()")
    time.sleep(0.2)
    return now.astimezone(UTC).isoformat()


@pytest.fixture(scope="module")
def backup(parts: ContainerParts, cluster: ClusterSpec) -> BaseBackup:
    taken = parts.databases.take_backup(cluster, "first")
    assert taken is not None
    return taken


@pytest.fixture(scope="module")
def times(cluster: ClusterSpec, backup: BaseBackup) -> dict[str, str]:
    """Moments around two inserts, after the backup."""
    found: dict[str, str] = {}
    with connect(cluster) as session:
        session.execute("CREATE TABLE two (row int)")
        found["none"] = moment(session)
        session.execute("INSERT INTO two VALUES (1)")
        found["first"] = moment(session)
        session.execute("INSERT INTO two VALUES (2)")
        found["both"] = moment(session)
        session.execute("CREATE DATABASE later")
    return found


@pytest.fixture
def forks(parts: ContainerParts, cluster: ClusterSpec, taken: set[str]) -> Iterator[Any]:
    made: list[ClusterSpec] = []

    def fork(time: str, **more: Any) -> ClusterSpec:
        public = parts.free_public_ip(frozenset(taken))
        taken.add(public)
        spec = replace(
            cluster, id=f"fork-{len(made)}", name="fork", host="fork.a.db.ondigitalocean.com",
            private_host="private-fork.a.db.ondigitalocean.com", public_ip=public,
            private_ip=inside(cluster.vpc, 20 + len(made)), databases=("defaultdb",), users=cluster.users[:1], pools=(),
            restore=RestoreSpec(source=cluster.id, backup="first", time=time), **more,
        )  # fmt: skip
        made.append(spec)
        return spec

    yield fork
    for spec in made:
        parts.databases.delete(spec.id)


@pytest.mark.long
def test_a_fork_has_what_was_committed_at_the_time_and_nothing_later(
    parts: ContainerParts, cluster: ClusterSpec, times: dict[str, str], forks: Any
) -> None:
    for moment, rows in (("none", []), ("first", [1]), ("both", [1, 2])):
        spec = forks(times[moment])
        parts.databases.apply(spec)
        with connect(spec) as session:
            found = session.execute("SELECT row FROM two ORDER BY 1").fetchall()
            assert [row for (row,) in found] == rows, moment
            session.execute("INSERT INTO two VALUES (3)")  # it is a cluster of its own
    with connect(cluster) as session:
        assert one(session, "SELECT array_agg(row ORDER BY row) FROM two") == [1, 2], "the source is as it was"


@pytest.mark.long
def test_a_fork_is_the_same_server_on_a_timeline_of_its_own(
    parts: ContainerParts, cluster: ClusterSpec, times: dict[str, str], forks: Any
) -> None:
    spec = forks(times["first"])
    parts.databases.apply(spec)
    with connect(cluster) as live, connect(spec) as fork:
        system = "SELECT system_identifier FROM pg_control_system()"
        assert one(live, system) == one(fork, system)
        timeline = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
        assert (one(live, timeline), one(fork, timeline)) == ("00000001", "00000002")
        assert one(fork, "SHOW work_mem") == "8MB", "settings are the new cluster's own, none of the replay is left"
        assert one(fork, "SELECT count(*) FROM pg_settings WHERE name = 'restore_command' AND setting = ''") == 1
    # What is in it is what was in it then: the database made later is not.
    contents = parts.databases.contents(spec)
    assert "later" not in contents.databases
    assert {"defaultdb", "app"} <= contents.databases
    assert {"doadmin", "app"} <= contents.users
    assert "later" in parts.databases.contents(cluster).databases
    # And it is forked in its turn, by its own backups alone.
    taken = parts.databases.take_backup(spec, "first")
    assert taken is not None
    with connect(spec) as session:
        session.execute("INSERT INTO two VALUES (7)")
        again = forks(moment(session))
    again = replace(again, restore=RestoreSpec(source=spec.id, backup="first", time=again.restore.time))
    parts.databases.apply(again)
    with connect(again) as session:
        assert one(session, "SELECT array_agg(row ORDER BY row) FROM two") == [1, 7]


@pytest.mark.long
def test_a_fork_killed_in_the_making_is_made_anew(
    parts: ContainerParts, cluster: ClusterSpec, times: dict[str, str], forks: Any
) -> None:
    spec = forks(times["first"])
    volume, image = parts.databases.volume(spec.id), parts.images.image(f"cluster-{cluster.version}")
    # What a kill leaves: half of the data in the volume, a worker that still runs, a draft of the container.
    parts.docker.ensure_volume(volume, parts.instance.labels)
    label = f"ancla.sandbox={parts.instance.name}"
    options = ["--label", label, "--volume", f"{volume}:/var/lib/postgresql", "--entrypoint", "sh"]
    parts.docker.run(
        "run", "--detach", "--user", "postgres", "--name", f"{volume}-fill", *options, image,
        "-c", "mkdir -p /var/lib/postgresql/data && echo 15 >/var/lib/postgresql/data/PG_VERSION && sleep 600",
    )  # fmt: skip
    parts.docker.run("create", "--name", draft_of(parts.databases.container(spec.id)), *options, image, "-c", "true")
    assert f"{volume}-fill" in parts.docker.names("container", label), "the worker is one of ours, so it would be swept"
    parts.databases.apply(spec)
    with connect(spec) as session:
        assert one(session, "SELECT array_agg(row) FROM two") == [1]
        session.execute("INSERT INTO two VALUES (4)")
    # Once it has its data it keeps it, whatever is asked again: here the job that was killed before it noted the end.
    parts.docker.run("kill", parts.databases.container(spec.id))
    parts.databases.apply(spec)
    with connect(spec) as session:
        assert one(session, "SELECT array_agg(row) FROM two") == [1, 4]
    assert not [name for name in parts.docker.names("container", label) if "fill" in name or "draft" in name]


def test_what_no_kept_backup_needs_goes(parts: ContainerParts, cluster: ClusterSpec, times: dict[str, str]) -> None:
    name = parts.databases.container(cluster.id)

    def archived() -> list[str]:
        return parts.docker.execute(name, "ls", "/var/lib/postgresql/backups/wal").split()

    first = parts.docker.execute(name, "cat", "/var/lib/postgresql/backups/base/first/wal")
    needed = {file for file in archived() if file >= first}  # the cluster is older than its first backup here
    second = parts.databases.take_backup(cluster, "second")
    assert second is not None
    assert second.finished > time.time() - 600
    assert 1_000_000 < second.size < 100_000_000
    parts.databases.keep_backups(cluster, ("first", "second"))
    assert needed <= set(archived()), "the first one needs them all"
    parts.databases.keep_backups(cluster, ("second",))
    assert parts.docker.execute(name, "ls", "/var/lib/postgresql/backups/base").split() == ["second"]
    assert not needed <= set(archived())
    kept = sorted(file for file in archived() if len(file) == 27)
    assert kept[0] == parts.docker.execute(name, "cat", "/var/lib/postgresql/backups/base/second/wal") + ".gz"


def test_a_cluster_without_wal_archive_has_no_backup(parts: ContainerParts, cluster: ClusterSpec) -> None:
    ask = parts.databases.backups.query
    try:
        parts.databases.backups.query = lambda *_: "off"  # as a cluster that an earlier sandbox made
        assert parts.databases.take_backup(cluster, "third") is None
    finally:
        parts.databases.backups.query = ask
