from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from ops.backup.create import BackupJob, create
from ops.core import workdir
from ops.core.errors import BackupNotFoundError, SourceError, SpoolError, ToolError
from ops.repository import catalog
from ops.repository.age import make_identity, recipient_of
from ops.sources.postgres import scratch_server as postgres
from ops.sources.postgres import source as sources
from ops.sources.postgres import tools
from ops.sources.postgres.source import PostgresDatabase
from ops.targets.servers import readable_database
from tests.kits.messages import silent
from tests.kits.waiting import eventually
from tests.ops.restore_kit import RestoreJob, run
from tests.ops.source_kit import by_hand_into


def job(source, *stores, spool=None):
    return BackupJob(environment="staging", project="test", name="shop", source=source, stores=stores, spool=spool)


def test_a_backup_is_listed_as_complete_and_shows_what_it_holds(source, s3):
    made = create(job(source, s3), silent)
    (entry,) = catalog.entries(s3, "shop")
    assert (entry.id, entry.complete, entry.objects) == (made.id, True, len(made.objects) + 2)
    assert catalog.find(s3, "shop") == made
    held = ", ".join(o.holds for o in made.objects)
    assert all(table in held for table in ("table public.orders", "table audit.log", "table public.Odd name; x"))
    assert made == catalog.find(s3, "shop")


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_person_restores_with_stock_tools_alone(source, cluster, folder, tmp_path, encrypted):
    """By the page inside of the backup, to the letter."""
    identity = tmp_path / "identity.txt"
    identity.write_text(make_identity())
    recipients = (recipient_of(identity.read_text()),) if encrypted else ()
    made = create(replace(job(source, folder), recipients=recipients), silent)
    assert ("age -d" in (folder.root / "shop" / made.id / "RESTORE.md").read_text()) is encrypted
    done = by_hand_into(cluster, folder.root / "shop" / made.id, "shop_by_hand", IDENTITY=identity)
    assert (done.returncode, done.stderr) == (0, ""), done
    copy = PostgresDatabase(endpoint=cluster.on("shop_by_hand"))
    assert copy.check(made.source) == []
    with cluster.on("shop_by_hand").connect() as connection:
        connection.execute("DELETE FROM public.orders WHERE id = (SELECT id FROM public.orders LIMIT 1)")
    assert copy.check(made.source) != [], "the comparison sees nothing"


def test_a_damaged_object_stops_the_page_before_anything_is_made(source, cluster, folder):
    made = create(job(source, folder), silent)
    damaged = folder.root / "shop" / made.id / made.objects[0].key
    with damaged.open("ab") as file:
        file.write(b"x")
    done = by_hand_into(cluster, damaged.parent, "never")
    assert done.returncode != 0
    assert f"{damaged.name}: FAILED" in done.stdout


def test_without_its_manifest_a_backup_is_incomplete_and_is_not_taken(source, s3):
    made = create(job(source, s3), silent)
    s3.delete([catalog.prefix_of("shop", made.id) + "manifest.json"])
    (entry,) = catalog.entries(s3, "shop")
    assert not entry.complete
    with pytest.raises(BackupNotFoundError, match="no complete backup"):
        catalog.find(s3, "shop")
    with pytest.raises(BackupNotFoundError, match="not complete"):
        catalog.find(s3, "shop", made.id)


def test_an_interrupt_leaves_nothing_in_the_bucket_and_nothing_in_the_spool(source, s3, tmp_path):
    def interrupt(text):
        if text.startswith("stored"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create(job(source, s3, spool=tmp_path), interrupt)
    assert list(s3.list("")) == []
    assert list(tmp_path.iterdir()) == []


def test_too_small_a_spool_is_refused_before_the_dump(source, s3, tmp_path, monkeypatch):
    monkeypatch.setattr(workdir.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    with pytest.raises(SpoolError, match="1 MiB are free; give another folder with --spool"):
        create(job(source, s3, spool=tmp_path), silent)
    assert list(s3.list("")) == []


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no file-size limits here")
def test_a_disk_that_fills_up_during_the_dump_is_one_clear_line(source, s3, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # the orders alone are larger
    try:
        with pytest.raises(SpoolError, match="filled up"):
            create(job(source, s3, spool=tmp_path), silent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(s3.list("")) == []
    assert list(tmp_path.iterdir()) == []
    create(job(source, s3, spool=tmp_path), silent)  # the same without the limit works: it was the limit


@pytest.fixture
def tiny_disk(tmp_path):
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "none", tmp_path], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("cannot mount a small disk here")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_disk_that_is_full_in_truth_is_one_clear_line(source, s3, tiny_disk, monkeypatch):
    monkeypatch.setattr(workdir.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 40))  # it fills up later
    with pytest.raises(SpoolError, match="filled up"):
        create(job(source, s3, spool=tiny_disk), silent)
    assert list(s3.list("")) == []
    assert list(tiny_disk.iterdir()) == []


def test_what_the_role_may_not_read_is_named_before_the_dump(admin, app, shop, s3):
    with admin.on(shop).connect() as connection:
        connection.execute("CREATE TABLE public.hidden (a int)")
        connection.execute("REVOKE ALL ON public.hidden FROM app")
    with pytest.raises(SourceError, match=r"app may not read public.hidden; run `GRANT"):
        PostgresDatabase(endpoint=app.on(shop)).plan()


def test_the_administrator_is_taken_when_it_may_read_all_and_the_app_user_else(admin, app, shop):
    assert readable_database(admin, app, shop).endpoint.user == "app"
    with admin.connect() as connection:
        connection.execute("GRANT app TO doadmin")
    try:
        assert readable_database(admin, app, shop).endpoint.user == "doadmin"
    finally:
        with admin.connect() as connection:
            connection.execute("REVOKE app FROM doadmin")


@pytest.mark.parametrize("version", ["13.4", "15.0"], ids=["an older major", "an older minor"])
def test_an_old_pg_dump_is_refused_with_what_to_install(source, monkeypatch, version):
    """A minor one too: it writes down column options of the server that no older server takes."""
    old = tools.Tool(path=Path("/usr/bin/pg_dump"), version=version)
    monkeypatch.setattr(tools, "_tools", lambda name: (old,))
    says = rf"pg_dump: found {version}, the server is PostgreSQL [\d.]+; run `apt-get install"
    with pytest.raises(ToolError, match=says):
        source.plan()


def test_a_wrong_password_and_an_unverified_certificate_are_one_line(source, app):
    wrong = PostgresDatabase(endpoint=replace(source.endpoint, password=SecretStr("no")))
    with pytest.raises(SourceError, match="password authentication failed") as caught:
        wrong.plan()
    assert "\n" not in str(caught.value)
    elsewhere = PostgresDatabase(endpoint=replace(source.endpoint, host="database.example.org"))
    with pytest.raises(SourceError, match="does not match host name"):
        elsewhere.plan()


def test_writes_during_the_backup_do_not_make_it_differ(source, admin, app, shop, folder):
    """The fingerprints are of the dump's own snapshot; of the live database they would differ here.

    Sequences stand outside of it: those of the copy may be ahead of what is recorded, never behind.
    """
    stop, rounds = threading.Event(), []

    def write():
        with app.on(shop).connect() as connection:
            while not stop.is_set():
                connection.execute("INSERT INTO public.customers (name) VALUES ('live')")
                connection.execute("INSERT INTO public.events SELECT '2026-02-02', i FROM generate_series(1, 50) i")
                rounds.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        eventually(lambda: rounds)  # it is at it when the dump begins
        made = create(job(source, folder), silent)
        seen = len(rounds)
        eventually(lambda: len(rounds) > seen + 1)  # and some of it came after the snapshot, however slow it was
    finally:
        stop.set()
        writer.join()
    after, before = source.fingerprint(), made.source
    for name in ("public.events", "public.customers"):
        assert {t.table: t.rows for t in after.tables}[name] > {t.table: t.rows for t in before.tables}[name]
    report = run(RestoreJob(store=folder, manifest=made, admin=admin, owner=app, live=(shop,)), silent)
    assert report.skipped == []


def test_no_password_is_ever_in_a_command_line(source, admin, app, shop, folder, monkeypatch):  # noqa: PLR0917 - fixtures add up
    """Of what is begun, and of what /proc shows meanwhile: programs that others begin, too."""
    seen, stop = set(), threading.Event()
    begin = subprocess.Popen.__init__

    def noted(process, args, *more, **options):
        seen.add(b"\0".join(os.fsencode(arg) for arg in args))
        begin(process, args, *more, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)

    def watch():
        while not stop.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        made = create(job(source, folder), silent)
        run(RestoreJob(store=folder, manifest=made, admin=admin, owner=app, live=(shop,)), silent)
    finally:
        stop.set()
        watcher.join()
    assert Path("/proc/self/cmdline").read_bytes() in seen, "the watcher saw nothing at all"
    assert any(b"pg_dump" in line for line in seen)
    assert any(b"pg_restore" in line for line in seen)
    assert not any(b"c4n4ry" in line for line in seen)


def test_a_pooler_is_known_by_the_process_id_it_makes_up(source, monkeypatch):
    """PgBouncer cannot share a snapshot; through a tunnel its port says nothing."""
    real = "SELECT pg_catalog.pg_backend_pid()"
    monkeypatch.setattr(sources, "SESSION_PID", "SELECT pg_catalog.pg_backend_pid() + 1")
    with pytest.raises(SourceError, match="a connection pooler answers there"):
        source.plan()
    monkeypatch.setattr(sources, "SESSION_PID", real)
    source.plan()


def listens(port):
    with socket.socket() as there:
        return there.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="no PgBouncer here")
def test_pgbouncer_itself_is_refused(source, tmp_path_factory):
    folder = Path(tempfile.mkdtemp(prefix="ancla-pool-"))
    endpoint = source.endpoint
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    password = endpoint.password.get_secret_value()
    quoted = password.replace('"', '""')
    (folder / "users").write_text(f'"app" "{quoted}"\n')
    (folder / "ini").write_text(
        f"[databases]\nshop = host=127.0.0.1 port={endpoint.port} dbname=shop\n[pgbouncer]\nlisten_addr=127.0.0.1\n"
        f"listen_port={port}\nauth_type=plain\nauth_file={folder / 'users'}\npool_mode=transaction\n"
        f"server_tls_sslmode=require\nunix_socket_dir=\nlogfile={folder / 'log'}\n"
    )
    account = postgres._account()
    if account is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, account.pw_uid, account.pw_gid)
    process = subprocess.Popen(
        [*postgres._as(account, dies_with_us=True), shutil.which("pgbouncer"), "-q", folder / "ini"]
    )
    try:
        pooled = PostgresDatabase(endpoint=replace(endpoint, port=port, ca_certificate=None))
        eventually(lambda: listens(port))
        with pytest.raises(SourceError, match="a connection pooler answers there"):
            pooled.plan()
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(folder)
