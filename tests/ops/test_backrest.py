from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from blueprint.keys import make_key, public_line
from blueprint.settings.backup import PostgresqlSource
from ops.cli import backrest
from ops.cli.app import app
from ops.core.errors import (
    BackupNotFoundError,
    OpsError,
    RemoteCommandError,
    RestoreRefusedError,
    SourceError,
    SpoolError,
    StackError,
    StoreError,
    StoreUnreachableError,
    ToolError,
)
from ops.drill.evidence.verification import verify as verify_evidence
from ops.drill.kinds import pgbackrest
from ops.drill.scratch.pgbackrest import Place, _environment
from ops.monitoring import audit
from ops.pgbackrest import driver, info
from ops.pgbackrest import target as targets
from ops.pgbackrest.report import Answer
from ops.sources.postgres.tools import Endpoint, find_tool
from ops.stack import remote_ops
from tests.ops.drill_kit import backrest_document

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LOCKED = {"backup": {"held": True}}


def backup(label="20261123-030000F", *, ago=9.0, repo=1, server=1, error=False, **more):
    stop = int((NOW - timedelta(hours=ago)).timestamp())
    return {
        "label": label,
        "type": {"F": "full", "D": "diff", "I": "incr"}[label[-1]],
        "error": error,
        "archive": {"start": "000000030000000000000002", "stop": "000000030000000000000003"},
        "backrest": {"format": 5, "version": "2.45"},
        "database": {"id": server, "repo-key": repo},
        "info": {"delta": 23213834, "repository": {"delta": 3075962, "size": 3075962}, "size": 23213834},
        "lsn": {"start": "0/2000028", "stop": "0/3000050"},
        "prior": None,
        "reference": None,
        "timestamp": {"start": stop - 10, "stop": stop},
    } | more


def stanza(*backups, repos=((1, 0, "ok"),), servers=(1,), code=0, message="ok", lock=None):
    """What 2.45 prints for one stanza, as recorded, with these backups."""
    return json.dumps(
        [
            {
                "archive": [
                    {
                        "database": {"id": 1, "repo-key": 1},
                        "id": "15-1",
                        "max": "000000030000000000000005",
                        "min": "000000030000000000000002",
                    }
                ],
                "backup": list(backups),
                "cipher": "none",
                "db": [
                    {"id": number, "repo-key": key, "system-id": 7711169246577039621, "version": "15"}
                    for number in servers
                    for key, _, _ in repos
                ],
                "name": "main",
                "repo": [
                    {"cipher": "none", "key": key, "status": {"code": bad, "message": told}} for key, bad, told in repos
                ],
                "status": {"code": code, "lock": lock or {"backup": {"held": False}}, "message": message},
            }
        ]
    )


class FakePgbackrest:
    """Answers `info` with what it is given; runs nothing."""

    def __init__(self, text):
        self.text = text

    def run(self, command, *options, stanza=None):
        assert (command, options) == ("info", ("--output=json",))
        return driver.Done(returncode=0, stdout=self.text, problem="", warnings=())


def read(text, name="main"):
    return info.read(FakePgbackrest(text), name)


def test_a_stanza_is_read_with_its_backups_wal_and_server():
    found = read(stanza(backup(), backup("20261123-030000F_20261123-110000I", ago=1, prior="20261123-030000F")))
    full, incr = found.backup
    assert (full.type, full.timeline, full.archive.start) == ("full", 3, "000000030000000000000002")
    assert (incr.type, incr.prior, incr.stopped_at) == ("incr", "20261123-030000F", NOW - timedelta(hours=1))
    assert found.server(incr).system == 7711169246577039621
    assert not found.running
    assert read(stanza(backup(), lock=LOCKED)).running


def test_an_older_and_a_newer_pgbackrest_are_read_too():
    # 2.30 has neither keys of repositories, nor LSNs, nor errors; block-incremental repositories have no size
    old = backup()
    del old["error"], old["lsn"], old["info"]["repository"]
    old["database"] = {"id": 1}
    text = json.loads(stanza(old))
    del text[0]["repo"], text[0]["status"]["lock"]
    text[0]["db"] = [{"id": 1, "system-id": 7, "version": "13"}]
    found = read(json.dumps(text))
    assert info.freshness(found, 26, NOW)[0].fresh
    new = backup(annotation={"by": "hand"}, info={"size": 9, "delta": 9, "repository": {"delta": 3, "delta-map": 4}})
    text = json.loads(stanza(new))
    text[0]["status"]["lock"] = {"backup": {"held": True, "size": 9, "size-cplt": 1}, "restore": {"held": False}}
    found = read(json.dumps(text))
    assert found.backup[0].info.repository.size is None
    assert found.running
    offline = read(stanza(backup(archive={"start": None, "stop": None})))
    assert offline.backup[0].timeline is None


def test_the_newest_that_counts_decides_and_says_what_it_passed_over():
    assert info.freshness(read(stanza(backup())), 26, NOW)[0].fresh
    assert not info.freshness(read(stanza(backup(ago=27))), 26, NOW)[0].fresh  # the control
    torn = read(stanza(backup(ago=30), backup("20261123-110000F", ago=1, error=True)))
    looked = info.freshness(torn, 26, NOW)[0]
    assert (looked.fresh, looked.backup) == (False, "20261123-030000F")
    assert "wrong checksums" in str(looked)
    future = info.freshness(read(stanza(backup(ago=-5))), 26, NOW)[0]
    assert not future.fresh
    assert "of the future" in str(future)
    replaced = info.freshness(read(stanza(backup(), servers=(1, 2))), 26, NOW)[0]
    assert not replaced.fresh
    assert "earlier server" in str(replaced)


def test_each_repository_has_to_be_fresh():
    two = ((1, 0, "ok"), (2, 0, "ok"))
    found = read(stanza(backup(), backup("20261121-030000F", ago=57, repo=2), repos=two))
    assert [item.fresh for item in info.freshness(found, 26, NOW)] == [True, False]
    mixed = read(stanza(backup(), repos=((1, 0, "ok"), (2, 99, "[ServiceError] no\n route")), code=4, message="mixed"))
    assert info.unwell(mixed) == ["repo2: [ServiceError] no route"]
    assert info.unwell(found) == []
    garbled = json.loads(stanza(repos=((1, 99, "[FormatError] line 1:\nSalted_\x81\x1b[2J\nHINT: more"),), code=99))
    raw = json.dumps(garbled, ensure_ascii=False).replace("\\u001b", "\x1b")  # as 2.45 prints it
    assert info.unwell(info.parse(raw)[0]) == ["repo1: [FormatError] line 1: Salted_??[2J"]


def test_no_stanza_no_repository_and_no_json_are_told():
    missing = stanza(repos=((1, 1, "missing stanza path"),), servers=(), code=1, message="missing stanza path")
    with pytest.raises(StoreError, match=r"main: missing stanza path; .*stanza-create"):
        read(missing)
    with pytest.raises(StoreError, match="is not there"):
        read("[]")
    with pytest.raises(StoreError, match=r"repo1: \[CryptoError\]"):
        read(stanza(repos=((1, 99, "[CryptoError] flush"),), servers=(), code=99, message="other"))
    empty = read(stanza(repos=((1, 2, "no valid backups"),), code=2, message="no valid backups"))
    assert "repo1 has no complete backup" in str(info.freshness(empty, 26, NOW)[0])
    for text in ("stanza: main", "{}x", '[{"name": "main"}]'):
        with pytest.raises(ToolError, match="pgbackrest info"):
            read(text)


def test_a_time_is_recovered_from_the_last_backup_before_it():
    found = read(stanza(backup(ago=9), backup("20261123-030000F_20261123-110000I", ago=1)))
    assert pgbackrest.choose(found, None, None, NOW).type == "incr"
    assert pgbackrest.choose(found, NOW - timedelta(hours=2), None, NOW).type == "full"
    with pytest.raises(BackupNotFoundError, match="complete only at 2026-11-23T03:00:00Z"):
        pgbackrest.choose(found, NOW - timedelta(hours=10), None, NOW)
    with pytest.raises(OpsError, match="in the future"):
        pgbackrest.choose(found, NOW + timedelta(hours=1), None, NOW)
    with pytest.raises(BackupNotFoundError, match="no backup that counts"):
        pgbackrest.choose(found, None, 2, NOW)


@pytest.mark.parametrize(
    ("code", "kind", "fix"),
    [
        (27, ToolError, "configuration file"),
        (28, StoreError, "stanza-upgrade"),
        (37, ToolError, "not set"),
        (38, RestoreRefusedError, "nothing was touched"),
        (50, OpsError, "wait"),
        (55, StoreError, "stanza-create"),
        (56, SourceError, "pg1-path"),
        (64, SpoolError, "disk"),
        (82, SourceError, "archive_command"),
        (95, StoreError, "repo1-cipher-pass"),
        (103, StoreUnreachableError, "repo1-"),
        (125, OpsError, "log file"),
    ],
)
def test_exit_codes_are_our_errors_with_the_fix(code, kind, fix):
    error = driver.as_error(driver.Done(returncode=code, stdout="", problem="said", warnings=()), "backup", "main")
    assert type(error) is kind
    assert str(error).startswith(f"pgbackrest backup of main: said (exit {code}); ")
    assert fix in str(error)
    assert "\n" not in str(error)


def test_the_stanza_comes_from_the_stack_or_from_its_name():
    def stack(*stanzas, host="127.0.0.1", on_machine=False):
        sources = [
            PostgresqlSource(name=f"db{n}", host=host, database="shop", user="app", password="PG_PASSWORD", stanza=each)
            for n, each in enumerate(stanzas)
        ]
        outputs = SimpleNamespace(backup=SimpleNamespace(sources=sources))
        return SimpleNamespace(name="staging", outputs=outputs, on_machine=on_machine)

    assert targets.target(stack("main"), None).stanza == "main"
    assert not targets.target(stack("main"), None).here
    assert targets.target(stack("main", on_machine=True), "main").here
    assert targets.target(None, "main").here
    for wrong, name, told in (
        (None, None, "--stanza"),
        (stack(), None, "no backup.sources with a stanza"),
        (stack(None), "main", "no backup.sources has stanza main"),
        (stack("one", "two"), None, "one, two"),
        (stack("main", host="10.10.0.5"), None, "at 10.10.0.5, not on the droplet"),
    ):
        with pytest.raises(StackError, match=told):
            targets.target(wrong, name)


@pytest.fixture
def droplet(target, tmp_path, monkeypatch):
    """A stack whose droplet has an `ops` that prints $SAID to stderr and $ANSWER to stdout, and exits with $CODE."""
    program, asked = tmp_path / "ops", tmp_path / "asked"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {asked}\nprintf "%s\\n" "$SAID" >&2\nprintf "%s" "$ANSWER"\nexit "${{CODE:-0}}"\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(remote_ops, "PROGRAM", (str(program),))

    def says(answer, said=(), code=0):
        monkeypatch.setenv("ANSWER", answer)
        monkeypatch.setenv("SAID", "\n".join(map(json.dumps, said)))
        monkeypatch.setenv("CODE", str(code))

    stack = SimpleNamespace(ssh_target=lambda: target, on_machine=False, name="staging")
    return SimpleNamespace(stack=stack, says=says, asked=asked)


ANSWER = {"stanza": "main", "problems": [], "seconds": 1}


def test_from_a_workstation_the_same_command_runs_on_the_droplet(droplet, capsys):
    def ask(*words):
        return remote_ops.run_ops(droplet.stack, ["backrest", *words], Answer, reported=(0, 3))

    droplet.says(json.dumps(ANSWER), [{"step": "WAL [/x]"}, {"warning": "slow"}])
    assert ask("check", "--stanza=main") == Answer(stanza="main", problems=(), seconds=1)
    assert droplet.asked.read_text() == "backrest check --stanza=main\n"
    assert [line.strip() for line in capsys.readouterr().err.splitlines()] == ["· WAL [/x]", "warning: slow"]
    droplet.says(json.dumps(ANSWER), code=3)  # a red verdict comes with its report
    assert ask("verify").stanza == "main"


@pytest.mark.parametrize(
    ("answer", "said", "code", "told"),
    [
        ("", [{"step": "x"}, {"error": "stanza main: gone"}], 1, "22: stanza main: gone"),
        ("fine", [], 0, "without a report"),
        ('{"stanza": "main"}', [], 0, "version mismatch"),
        (json.dumps(ANSWER | {"added_later": 1}), [], 0, "version mismatch"),
        ("", [], 127, "no `ops` on the droplet"),
        ("", ["Traceback"], 1, "Traceback"),
    ],
)
def test_what_a_droplet_cannot_answer_is_one_line(droplet, answer, said, code, told):
    droplet.says(answer, said, code)
    with pytest.raises(RemoteCommandError) as caught:
        remote_ops.run_ops(droplet.stack, ["backrest", "check"], Answer)
    assert told.removeprefix("22") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_the_workstation_that_asked_keeps_the_evidence_of_a_drill(droplet, tmp_path, monkeypatch):
    """Two folders with numbered documents would be two series of one name."""
    monkeypatch.setenv("ANCLA_AUDIT", str(tmp_path / "audit.jsonl"))
    monkeypatch.setattr(backrest, "load_stack", lambda *given: droplet.stack)
    monkeypatch.setattr(backrest, "target", lambda stack, stanza: targets.Target(stanza="main", stack=stack))
    monkeypatch.setattr(backrest, "alert_on_error", lambda *given: nullcontext())
    droplet.stack.outputs = SimpleNamespace(
        backup=SimpleNamespace(max_age_hours=26, rto_minutes=5, signers=()), environment="staging"
    )
    droplet.says(backrest_document().model_dump_json())
    folder = tmp_path / "drills"
    result = CliRunner().invoke(app, ["backrest", "drill", "--evidence", str(folder)])
    assert result.exit_code == 0, result.output
    assert "--report-only" in droplet.asked.read_text().split()
    assert "--evidence" not in droplet.asked.read_text()
    assert len(list(folder.glob("backrest-drill-main-000001-*.json"))) == 1


def test_the_copy_sees_of_our_environment_what_fetching_wal_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("PGBACKREST_REPO1_CIPHER_PASS", "cipher")
    monkeypatch.setenv("ANCLA_IDENTITY", "canary")
    program = driver.Pgbackrest(program=Path("pgbackrest"), account=None)
    seen = _environment(program, Place(folder=tmp_path))
    assert (seen["PGBACKREST_REPO1_CIPHER_PASS"], seen["HOME"]) == ("cipher", str(tmp_path))
    assert "ANCLA_IDENTITY" not in seen


def test_what_the_server_told_those_who_knocked_is_not_why_it_ended(tmp_path):
    place = Place(folder=tmp_path)
    place.log.write_text(
        "03:12:45 [7] FATAL:  recovery ended before configured recovery target was reached\n"
        "03:12:45 [9] FATAL:  the database system is in recovery mode\n"
        "03:12:45 [1] LOG:  shutting down\n"
    )
    assert "recovery ended before" in place.why()
    place.log.write_text("03:12:45 [9] FATAL:  the database system is starting up\n03:12:45 [1] LOG:  redo starts\n")
    assert "redo starts" in place.why()


# From here on: the real pgbackrest on a real server.


class Server:
    """A throw-away PostgreSQL whose WAL goes to a repository in a folder."""

    def __init__(self, folder: Path, account):
        self.folder, self.account, self.config = folder, account, folder / "pgbackrest.conf"
        self.endpoint = Endpoint(
            host=str(folder), port=5432, user="postgres", password=SecretStr("unused"), database="postgres"
        )

    def words(self, *command):
        become = ["setpriv", f"--reuid={self.account.pw_uid}", f"--regid={self.account.pw_gid}", "--init-groups", "--"]
        return [*(become if os.geteuid() == 0 else []), *map(str, command)]

    def run(self, *command):
        words = self.words(*command)
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def pgbackrest(self, *options):
        return self.run("pgbackrest", f"--config={self.config}", "--stanza=main", *options)

    def sql(self, query):
        with self.endpoint.connect() as connection:
            cursor = connection.execute(query)
            return cursor.fetchone()[0] if cursor.description else None


@pytest.fixture(scope="module")
def server():
    if shutil.which("pgbackrest") is None:
        pytest.skip("pgbackrest is not installed here (apt-get install pgbackrest)")
    try:
        initdb, postgres = find_tool("initdb", at_least="13"), find_tool("pg_ctl", at_least="13")
    except ToolError as error:
        pytest.skip(f"no PostgreSQL server programs: {error}")
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    with tempfile.TemporaryDirectory(prefix="ancla-test-", dir=memory()) as name:
        made = Server(Path(name), account)
        os.chown(name, account.pw_uid, account.pw_gid)
        made.config.write_text(
            f"[global]\nrepo1-path={name}/repo\nrepo1-bundle=y\nlog-path={name}\nlock-path={name}/lock\n"
            f"spool-path={name}\nlog-level-file=off\nstart-fast=y\ncompress-type=lz4\njob-retry=0\n"
            f"archive-async=y\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass={PASSPHRASE}\n"
            f"[main]\npg1-path={name}/data\npg1-socket-path={name}\n"
        )
        made.config.chmod(0o600)
        os.chown(made.config, account.pw_uid, account.pw_gid)
        made.run(initdb.path, "-D", f"{name}/data", "-U", "postgres", "--auth=trust", "--no-sync", "--locale=C")
        space = Path(name) / "space"
        made.run("mkdir", space)
        with (Path(name) / "data" / "postgresql.conf").open("a") as file:
            file.write(
                f"archive_mode=on\narchive_command='pgbackrest --config={made.config} --stanza=main archive-push %p'\n"
                f"listen_addresses=''\nunix_socket_directories='{name}'\nfsync=off\nautovacuum=off\n"
            )
        made.run(postgres.path, "-D", f"{name}/data", "-l", f"{name}/log", "-w", "start")
        made.pgbackrest("stanza-create")
        try:
            yield made
        finally:
            made.run(postgres.path, "-D", f"{name}/data", "-m", "immediate", "-w", "stop")


def memory():
    """A folder in memory where there is one with room: pgBackRest syncs every file, which says nothing here."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > 2**30 else None


PASSPHRASE = "c4n4ry-of-the-repository"


@pytest.fixture
def ops(server, tmp_path, monkeypatch):
    """`ops backrest VERB …` for the server; returns exit code, stdout, and the error's one line."""
    monkeypatch.setenv("ANCLA_AUDIT", str(tmp_path / "audit.jsonl"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", memory())

    def run(verb, *options, config=server.config, stanza="main"):
        words = ["backrest", verb, "--here", "--stanza", stanza, "--config", str(config), *map(str, options)]
        result = CliRunner().invoke(app, words)
        error = result.exception
        code = error.exit_code if isinstance(error, OpsError) else result.exit_code
        assert error is None or isinstance(error, OpsError | SystemExit), error
        told = str(error) if isinstance(error, OpsError) else ""
        assert "\n" not in told
        assert PASSPHRASE not in result.output + told
        return SimpleNamespace(code=code, stdout=result.stdout, error=told)

    return run


def rows(report, table="public.entry"):
    return next(t["rows"] for d in report["detail"]["databases"] for t in d["tables"] if t["table"] == table)


@pytest.mark.long
def test_backups_are_made_listed_drilled_to_a_moment_and_damage_is_seen(server, ops, tmp_path):  # noqa: PLR0915  # one history
    key = make_key()
    (tmp_path / "runner").write_text(key.get_secret_value())
    none = ops("info")
    assert (none.code, "no complete backup" in none.error) == (3, True)
    assert ops("verify").code == 3
    assert ops("check").code == 0

    server.sql("CREATE TABLE entry (id int PRIMARY KEY, at timestamptz DEFAULT now())")
    server.sql(f"CREATE TABLESPACE space LOCATION '{server.folder}/space'")
    server.sql("CREATE TABLE wide TABLESPACE space AS SELECT generate_series(1, 1000) AS n")
    server.sql("ALTER SYSTEM SET log_min_messages = 'warning'")
    made = json.loads(ops("backup", "--type", "full", "--json").stdout)
    assert made["label"].endswith("F")
    server.sql("INSERT INTO entry VALUES (1)")
    time.sleep(0.2)
    between = server.sql("SELECT now()").astimezone(UTC).isoformat()
    time.sleep(0.2)
    server.sql("INSERT INTO entry VALUES (2)")
    assert json.loads(ops("backup", "--json").stdout)["type"] == "incr"

    listed = ops("info", "--json")
    document = json.loads(listed.stdout)
    assert (listed.code, document["problems"]) == (0, [])
    assert [item["type"] for item in document["backups"]] == ["full", "incr"]
    stale = ops("info", "--max-age", "0")
    assert (stale.code, "the budget is 0 s" in stale.error) == (3, True)
    assert ops("verify").code == 0

    before = live_files(server)
    planned = ops("drill", "--at", between, "--json", "--dry-run")
    plan = json.loads(planned.stdout)
    assert (planned.code, plan["backup"], plan["backup_type"]) == (0, made["label"], "full"), planned.error
    assert not Path("drills").exists(), "nothing is restored, and no evidence made"
    assert made["label"] in ops("drill", "--at", between, "--dry-run").stdout
    then = ops("drill", "--at", between, "--json", "--signing-key", "runner")
    report = json.loads(then.stdout)
    assert (then.code, report["verdict"], report["detail"]["backup_type"]) == (0, "green", "full"), then.error
    assert (rows(report), rows(report, "public.wide")) == (1, 1000)
    assert "before 20" in report["detail"]["recovered"]["ended"]
    assert report["detail"]["recovered"]["parent_timeline"] == 1
    asked = {check["name"]: check["status"] for check in report["checks"]}
    assert asked.pop("time") == "skipped"  # no budget is given here
    assert asked.pop("amcheck") in {"passed", "skipped"}
    assert set(asked.values()) == {"passed"}
    latest = ops("drill", "--json", "--signing-key", "runner")  # the control: the second row is there, and is seen
    report = json.loads(latest.stdout)
    assert (latest.code, rows(report), report["detail"]["backup_type"]) == (0, 2, "incr")
    assert report["detail"]["recovered"]["system"] == report["detail"]["system"]
    assert len(list(Path("drills").glob("backrest-drill-main-*.json"))) == 2
    assert report["previous"]
    found = verify_evidence(Path("drills"), [public_line(key)])
    assert (found.documents, found.problems) == (2, [])
    logged = audit.read(audit.log_path()).entries[-1]
    assert (logged["verb"], logged["backups"]) == ("backrest drill", [report["backup"]])
    assert (Path("drills") / logged["evidence"]).exists()
    assert live_files(server) == before  # live was not touched
    assert server.sql("SELECT timeline_id FROM pg_control_checkpoint()") == 1
    assert not list(Path(tempfile.gettempdir()).glob("ancla-drill-*"))
    archived = json.loads(ops("info", "--json").stdout)["archive"][0]["max"]
    assert archived.startswith("00000001")  # nor did a copy archive its own timeline

    quiet = ops("drill", "--at", server.sql("SELECT now()").isoformat())  # nothing was written after it
    assert (quiet.code, "recovery ended before" in quiet.error) == (3, True), quiet.error
    early = ops("drill", "--at", "2020-01-01T00:00:00Z")
    assert (early.code, "no time before that" in early.error) == (1, True)
    damage(server)
    seen = ops("verify")
    assert (seen.code, "invalid" in seen.error) == (3, True)
    red = ops("drill", "--json")
    assert (red.code, json.loads(red.stdout)["verdict"], "restore" in red.error) == (3, "red", True)
    assert not list(Path(tempfile.gettempdir()).glob("ancla-drill-*"))


def test_a_second_backup_a_wrong_name_and_a_wrong_file_are_one_line(server, ops, tmp_path):
    lock = server.folder / "lock" / "main-backup.lock"
    if not lock.parent.is_dir():
        server.run("mkdir", "-m", "770", lock.parent)
    held = subprocess.Popen(server.words("flock", "--no-fork", lock, "sleep", "120"))  # as a running backup holds it
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(server.words("flock", "-n", lock, "true"), check=False).returncode == 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        second = ops("backup")
    finally:
        held.kill()
        held.wait()
    assert (second.code, "another pgbackrest works on this stanza" in second.error) == (1, True), second.error
    for verb in ("info", "backup", "verify", "drill"):
        absent = ops(verb, stanza="other")
        assert (absent.code, "missing stanza path" in absent.error) == (1, True), absent.error
    assert "37" in ops("check", stanza="other").error
    assert "no such file" in ops("info", config=tmp_path / "none.conf").error
    assert ops("drill", "--at", "yesterday").code == 2
    wrong = server.folder / "wrong.conf"  # where the server's account may read
    wrong.write_text(server.config.read_text().replace(PASSPHRASE, "another"))
    wrong.chmod(0o600)
    os.chown(wrong, server.account.pw_uid, server.account.pw_gid)
    closed = ops("info", config=wrong)
    assert (closed.code, "unable to load info file" in closed.error) == (1, True), closed.error


def live_files(server):
    return sorted(str(path) for path in (server.folder / "data" / "base").rglob("*")) + sorted(
        (str(path), path.stat().st_mtime_ns) for path in (server.folder / "space").rglob("*")
    )  # fmt: skip


def damage(server):
    """Change a byte in the middle of the newest full backup's largest file."""
    files = [path for path in (server.folder / "repo" / "backup" / "main").glob("*F/**/*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.seek(largest.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))
