"""What a person gets wrong is one line that says what, where and what to do; the exit code fits; nothing is changed."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from ops.repository.age import make_identity, recipient_of
from ops.stack.outputs import _reason
from tests.ops.test_cli import ROOT, ops, outputs, refused, write

__all__ = ["ops", "outputs"]


def unusable(done, *told):
    """A wrong command line: click's box on stderr, nothing on stdout."""
    assert done.returncode == 2, done.stderr
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.stderr).split())
    for part in told:
        assert part in text
    assert "Traceback" not in done.stderr
    assert not done.stdout


@pytest.fixture
def encrypted(ops, outputs, tmp_path):
    """A backup that one identity reads, and another that does not: (outputs file, backup's id)."""
    for name in ("right", "wrong"):
        (tmp_path / name).write_text(make_identity())
    outputs["backup"]["recipients"] = [recipient_of((tmp_path / "right").read_text())]
    file = write(tmp_path, outputs)
    made = ops("backup", "create", "--outputs", file, "--json")
    assert made.returncode == 0, made.stderr
    return file, json.loads(made.stdout)["backups"][0]["id"]


def databases(cluster):
    with cluster.connect() as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}


@pytest.mark.long
def test_who_cannot_read_a_backup_is_told_before_anything_is_fetched(ops, encrypted, cluster):
    file, backup = encrypted
    before = databases(cluster)
    for identity, told in (
        ([], "is encrypted: give the identity"),
        (["-i", "wrong"], "is encrypted for age1"),
        (["-i", "nowhere"], "nowhere: the identity cannot be read: No such file"),
        (["-i", "/tmp"], "/tmp: the identity cannot be read: Is a directory"),
        (["-i", file], "contains no age identity"),
    ):
        done = ops("restore", "--outputs", file, *identity)
        refused(done, told)
        assert "fetching" not in done.stderr
        assert "Errno" not in done.stderr
    assert databases(cluster) == before
    planned = json.loads(ops("restore", "--outputs", file, "--dry-run", "--json").stdout)
    assert planned["identity"] == "needed"
    assert ops("restore", "--outputs", file, "-i", "right").returncode == 0, backup


def test_an_id_that_is_none_says_which_may_be_meant(ops, encrypted, outputs, tmp_path):
    file, backup = encrypted
    for command in ("restore", "drill"):
        refused(ops(command, backup[:12], "--name", "shop", "--outputs", file, "-i", "right"), f"mean {backup}?")
        refused(ops(command, "yesterday", "--outputs", file, "-i", "right"), "`ops backup list` shows all")
    assert not list(Path("drills").glob("*.json")), "a mistyped id is not a red drill"
    outputs["database"]["databases"] += ["postgres"]
    more = write(tmp_path, outputs, "more.json")
    refused(ops("restore", backup, "--name", "postgres", "--outputs", more), "it belongs to shop: give --name shop")
    unusable(ops("restore", "--at", "yesterday", "--outputs", file), "No such option: --at")


@pytest.mark.long
def test_a_database_that_is_not_ours_is_refused_as_a_target(ops, encrypted, cluster):
    file, _ = encrypted
    with cluster.connect() as connection:
        connection.execute("CREATE DATABASE shop_of_others")
    for target, told in (
        ("postgres", "is the server's own"),
        ("template1", "is the server's own"),
        ("shop_of_others", "belongs to"),
        ("shop", "is a live database"),
        ("x" * 64, "not a database name"),
    ):
        refused(ops("restore", "--outputs", file, "-i", "right", "--into", target), told)
    with cluster.connect() as connection:  # negative control: an empty one of ours is taken
        connection.execute("ALTER DATABASE shop_of_others OWNER TO doadmin")
    done = ops("restore", "--outputs", file, "-i", "right", "--into", "shop_of_others")
    assert done.returncode == 0, done.stderr


def test_names_and_files_that_are_not_there(ops, encrypted):
    file, _ = encrypted
    for command in (["list"], ["create"], ["show"], ["verify"], ["fresh"]):
        refused(ops("backup", *command, "--name", "shup", "--outputs", file), "no shup is backed up; there are: shop")
    refused(ops("swap", "undo", "--name", "shup", "--outputs", file), "no database shup", "there are: shop")
    refused(ops("backup", "list", "--outputs", "/tmp"), "/tmp: cannot be read: Is a directory")
    refused(ops("audit", "show", "--log", "nowhere"), "nowhere: no such file")
    for evidence in ("nowhere", file):
        refused(ops("backup", "prune", "--yes", "--evidence", evidence, "--outputs", file), "no such folder")
    assert ops("backup", "prune", "--yes", "--outputs", file).returncode == 0
    for key, told in (("nowhere", "No such file"), ("right", "right: the signing key is not")):
        refused(ops("backup", "verify", "--signing-key", key, "--outputs", file), told)


def test_doors_that_stay_closed_say_what_to_do(ops, outputs, tmp_path):
    file = write(tmp_path, outputs)
    assert ops("backup", "list", "--outputs", file).returncode == 0
    outputs["backup"]["destinations"][0]["name"] += "-x"
    refused(
        ops("backup", "create", "--outputs", write(tmp_path, outputs)),
        "no such bucket; if it was deleted, `pulumi up --refresh`",
    )
    done = ops("backup", "prune", "--yes", "--outputs", write(tmp_path, outputs))
    refused(done, "no such bucket")
    assert not done.stdout, "nobody knows whether there are backups"
    outputs["secrets"]["backup_keys"][0]["secret_key"] = "wrong"
    refused(
        ops("backup", "list", "--outputs", write(tmp_path, outputs)), "the key pair is refused", "`pulumi up --refresh`"
    )
    outputs["secrets"] |= {"database_password": "wrong", "database_admin_password": "wrong"}
    refused(ops("backup", "create", "--outputs", write(tmp_path, outputs)), "password", "`pulumi up --refresh`")


def test_evidence_that_cannot_be_kept_is_told_before_the_drill(ops, encrypted):
    file, _ = encrypted
    for folder in ("/proc", "/proc/x", file):
        done = ops("drill", "--outputs", file, "-i", "right", "--evidence", folder)
        refused(done, f"{folder}: the evidence cannot be kept there")
        assert "fetching" not in done.stderr
    refused(ops("drill", "--outputs", file, "--evidence", "new"), "give the identity")  # and not the evidence
    assert not list(Path("new").iterdir()), "what it was tried with is gone"


def test_options_that_exclude_one_another_and_numbers_that_are_none(ops):
    unusable(ops("status", "--stack", "prod", "--outputs", "x.json"), "cannot be combined with --stack")
    unusable(ops("drill", "20260101T000000Z-000000", "--pick", "random"), "cannot be combined with BACKUP")
    unusable(ops("drill", "--seed", 3), "requires --pick random")
    unusable(ops("drill", "--damage", "flip", "--controls"), "cannot be combined with --controls")
    unusable(ops("drill", "--rto", 0), "greater than or equal to 1")
    unusable(ops("backup", "fresh", "--max-age", -3), "greater than or equal to 0")
    unusable(ops("backup", "verify", "--all", "--sample", 3), "cannot be combined with --all")
    unusable(ops("backup", "create", "--progress", "loud"), "--progress")
    unusable(ops("pitr", "drill", "--at", "yesterday"), "expected latest, oldest or a time")
    unusable(ops("cost"), "give a stack file")


def test_a_stack_in_the_environment_is_no_conflict(ops, outputs, tmp_path, monkeypatch):
    monkeypatch.setenv("ANCLA_STACK", "prod")
    assert ops("backup", "list", "--outputs", write(tmp_path, outputs)).returncode == 0


def test_a_stack_file_that_is_none_is_named_once_with_those_that_are(ops, tmp_path):
    (tmp_path / "Pulumi.prod.yaml").touch()
    for command in (["settings", "check"], ["cost"], ["settings", "env-example"]):
        done = ops(*command, "Pulumi.prd.yaml")
        refused(done, "No such file", "stack files: Pulumi.prod.yaml")
        assert done.stderr.count("Pulumi.prd.yaml") == 1
    refused(ops("settings", "env-example", ROOT / "Pulumi.prod.yaml", "--check", "/tmp"), "/tmp: cannot be read")


def test_a_secret_that_is_missing_is_named_with_what_sets_it(ops):
    text = ops("settings", "check", ROOT / "Pulumi.prod.yaml").stdout
    assert "secrets.deployKey (a secret; `ops stack init`, or ANCLA_SECRETS)" in text
    assert "`pulumi config set --secret --path 'ancla:secrets.app.JWT_PRIVATE_KEY'`" in text


def test_the_engines_riddles_are_said_in_words():
    for riddle, told in (
        ("error: PULUMI_ACCESS_TOKEN must be set for login during non-interactive CLI sessions", "`pulumi login`"),
        ("error: no stack selected; please use `pulumi stack select` to choose one", "--stack"),
        ("error: no stack named 'x' found", "`pulumi stack ls` lists them"),
    ):
        assert told in _reason(riddle)


def test_the_list_shows_whole_ids_on_a_narrow_terminal(ops, encrypted, monkeypatch):
    file, backup = encrypted
    monkeypatch.setenv("COLUMNS", "60")
    assert backup in ops("backup", "list", "--outputs", file).stdout


def test_errors_are_json_lines_too_where_progress_is(ops):
    done = ops("restore", "--progress", "json", "--outputs", "none.json")
    assert done.returncode == 1
    assert json.loads(done.stderr)["error"].startswith("none.json: no such file")


def at_a_terminal(tmp_path, arguments, *, when, keys, again=False):
    """Run ops on a pseudo-terminal and press keys when it has written `when`, or that is true of what it wrote.

    Returns its exit code and what it wrote.

    None for `keys`: the signal that systemd sends; empty: only see that it was written. `again`: press once more, as a
    person does, when nothing happens for 10 s: between a question and the reading of its answer Ctrl-C is lost on C's
    `read`.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", "NO_PROXY": "*"}
        environment |= {"ANCLA_RUNTIME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "LANG": "C.UTF-8"}
        os.execve(sys.executable, [sys.executable, "-m", "ops", *map(str, arguments)], environment)
    seen, pressed, deadline = "", False, time.monotonic() + 120
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 10)[0]:
            if pressed and again:
                os.write(terminal, keys)
            continue
        try:
            block = os.read(terminal, 65536)
        except OSError:  # Linux: the other end is closed
            break
        seen += block.decode(errors="replace")
        if not pressed and (when(seen) if callable(when) else when in seen):
            pressed = True
            os.kill(pid, signal.SIGTERM) if keys is None else os.write(terminal, keys)
    else:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert pressed, seen
    return os.waitstatus_to_exitcode(status), seen


@pytest.mark.parametrize("keys", [b"\x03", pytest.param(None, marks=pytest.mark.all)], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_backup_says_so_and_leaves_nothing(encrypted, ops, tmp_path, keys, source):
    file, backup = encrypted
    with source.endpoint.connect() as connection:  # long enough to be interrupted in
        connection.execute("CREATE TABLE public.long AS SELECT i, md5(i::text) FROM generate_series(1, 300000) i")
    code, seen = at_a_terminal(tmp_path, ["backup", "create", "--outputs", file], when="MiB/s", keys=keys)
    assert code == 130, seen
    assert "interrupted: removing the upload" in seen
    assert seen.rstrip().endswith("interrupted")
    assert "Traceback" not in seen
    listed = json.loads(ops("backup", "list", "--outputs", file, "--json").stdout)
    assert [entry["id"] for entry in listed["backups"]] == [backup]


@pytest.mark.long
def test_an_interrupted_restore_names_what_it_leaves(encrypted, ops, tmp_path, cluster, source):
    file, _ = encrypted
    with source.endpoint.connect() as connection:  # long enough to be interrupted in
        connection.execute("CREATE TABLE public.long AS SELECT i, md5(i::text) FROM generate_series(1, 300000) i")
    assert ops("backup", "create", "--outputs", file).returncode == 0

    def begun(_):
        with cluster.connect() as connection:
            query = "SELECT FROM pg_stat_activity WHERE datname = 'shop_half' AND query LIKE 'COPY public.long %'"
            return connection.execute(query).fetchone() is not None

    arguments = ["restore", "--outputs", file, "-i", tmp_path / "right", "--into", "shop_half"]
    code, seen = at_a_terminal(tmp_path, arguments, when=begun, keys=b"\x03")
    assert code == 130, seen
    assert "the database shop_half is left as it is, do not use it" in seen
    assert "Traceback" not in seen
    with cluster.connect() as connection:
        query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop_half'"
        (mark,) = connection.execute(query).fetchone()
    assert mark.endswith("FAILED")


@pytest.mark.long
def test_a_question_answered_with_ctrl_c_changes_nothing(encrypted, ops, tmp_path, cluster):
    file, _ = encrypted
    assert ops("restore", "--outputs", file, "-i", "right", "--into", "shop_new").returncode == 0
    before = databases(cluster)
    arguments = ["swap", "promote", "shop_new", "--outputs", file]
    code, seen = at_a_terminal(tmp_path, arguments, when="Swap them in staging?", keys=b"\x03", again=True)
    assert code == 130, seen
    assert seen.rstrip().endswith("interrupted")
    assert databases(cluster) == before
