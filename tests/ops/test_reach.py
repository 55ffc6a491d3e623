"""From a desk: files of the machine are backed up there, everything else where the command runs; each comes back."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from blueprint.outputs import BucketKey, DestinationOutput, OutputSecrets
from ops.core.errors import StackError
from ops.repository.age import make_identity, recipient_of
from ops.repository.stores.s3 import S3Store
from ops.stack.outputs import LoadedStack, load_stack
from ops.targets import backup_sets, destinations, servers
from tests.kits.command import ops_in
from tests.kits.outputs import BACKUP, build_droplet, build_outputs
from tests.release.conftest import make_outputs

ROOT = Path(__file__).resolve().parents[2]
CANARY = "c4n4ry:pa\\ss'word"


@pytest.fixture
def ops(tmp_path, monkeypatch, capsys):
    return ops_in(tmp_path, monkeypatch, capsys)


@pytest.fixture
def desk(bucket, key, machine, tmp_path, monkeypatch):
    """A stack without a cluster, whose machine is this one; yields (outputs of the desk, what `sudo` was told)."""
    client = S3Store(bucket, key).client
    client.create_bucket(Bucket=f"{bucket.name}-assets")
    client.put_object(Bucket=f"{bucket.name}-assets", Key="site/logo.png", Body=b"png", ContentType="image/png")
    identity = make_identity()
    (tmp_path / "identity").write_text(identity)
    (tmp_path / ".env").write_text("TOKEN=c4n4ry\n")
    with closing(sqlite3.connect(tmp_path / "leads.db")) as connection:
        connection.executescript("CREATE TABLE leads (email); INSERT INTO leads VALUES ('c4n4ry')")
    target = machine.target
    secret = {"access_key": key.access_key, "secret_key": key.secret_key.get_secret_value()}
    outputs = build_outputs(
        droplets=[build_droplet(target.address)],
        access={"user": "deploy", "port": target.port, "host_key": target.host_key},
        buckets={
            "assets": {
                "bucket": bucket.model_copy(update={"name": f"{bucket.name}-assets", "prefix": ""}).model_dump(),
                "public": True,
                "url": "https://assets.example.org",
                "cdn_id": None,
            }
        },
        backup={
            **BACKUP,
            "destinations": {"near": bucket.model_dump()},
            "sources": [
                {"kind": "sqlite", "name": "leads", "path": str(tmp_path / "leads.db")},
                {"kind": "secrets", "name": "secrets", "paths": [str(tmp_path / ".env")]},
                {"kind": "bucket", "name": "assets", "bucket": "assets", "prefix": "site"},
            ],
            "recipients": [recipient_of(identity)],
        },
        secrets={"bucket_keys": {"assets": secret}, "backup_keys": {"near": secret}, "app": {}},
    )
    (tmp_path / "secrets.json").write_text(json.dumps(outputs["secrets"]))
    machine_outputs = outputs | {"secrets": {"file": str(tmp_path / "secrets.json")}}
    (tmp_path / "machine.json").write_text(json.dumps(machine_outputs))
    told = tmp_path / "told"
    programs = tmp_path / "bin"
    programs.mkdir()
    launcher = f"cd {ROOT} && ANCLA_OUTPUTS={tmp_path}/machine.json exec {sys.executable} -m ops"
    (programs / "sudo").write_text(f'#!/bin/sh\necho "told: $@" >> {told}\n[ "$1" = -n ] && shift\nexec "$@"\n')
    (programs / "ops").write_text(f'#!/bin/sh\n{launcher} "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    outputs["secrets"]["deploy_key"] = target.deploy_key.get_secret_value()
    (tmp_path / "outputs.json").write_text(json.dumps(outputs))
    return tmp_path / "outputs.json", told


@pytest.mark.long
def test_every_kind_from_a_desk_and_back(ops, desk, tmp_path):
    outputs, told = desk
    made = ops("backup", "create", "--outputs", outputs, "--json")
    assert made.returncode == 0, made.stderr
    backups = json.loads(made.stdout)["backups"]
    assert [(item["name"], item["kind"]) for item in backups] == [
        ("leads", "sqlite"),
        ("secrets", "secrets"),
        ("assets", "bucket"),
    ]
    assert [shlex.split(line)[-2:] for line in told.read_text().splitlines()] == [
        ["--name", "leads"],
        ["--name", "secrets"],
    ], "the bucket is read from the desk"
    assert "c4n4ry" not in made.stdout + made.stderr + told.read_text()
    given = ("--outputs", outputs, "--identity", tmp_path / "identity")
    for name, into in {"leads": tmp_path / "new.db", "secrets": tmp_path / "new", "assets": "back"}.items():
        planned = ops("restore", "--name", name, "--into", into, "--dry-run", *given)
        assert "nothing was changed" in planned.stdout, planned.stderr
        assert "time: about " in planned.stdout
        done = ops("restore", "--name", name, "--into", into, "--json", *given)
        assert done.returncode == 0, done.stderr
        again = ops("restore", "--name", name, "--into", into, *given)
        assert (again.returncode, "error:" in again.stderr) == (1, True)
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        assert connection.execute("SELECT * FROM leads").fetchall() == [("c4n4ry",)]
    assert (tmp_path / "new" / str(tmp_path / ".env").lstrip("/")).read_text() == "TOKEN=c4n4ry\n"
    loaded = load_stack(None, outputs)
    assert [item.key for item in destinations.app_bucket(loaded, "assets", "back").list("")] == ["logo.png"]


def test_what_fails_on_the_machine_is_one_line_at_the_desk(ops, desk, tmp_path):
    outputs, _ = desk
    (tmp_path / "leads.db").unlink()
    done = ops("backup", "create", "--name", "leads", "--outputs", outputs)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "deploy@127.0.0.1" in line
    assert "leads.db: there is no such file; see backup.sources" in line


def test_a_machine_that_prints_no_report_is_said_so(ops, desk, tmp_path):
    outputs, _ = desk
    (tmp_path / "bin" / "ops").write_text("#!/bin/sh\necho fine\n")
    done = ops("backup", "create", "--name", "leads", "--outputs", outputs)
    assert done.returncode == 1
    assert "without a report" in done.stderr


def test_on_the_machine_nothing_is_elsewhere(desk, tmp_path):
    for file, there in {"outputs.json": True, "machine.json": False}.items():
        loaded = load_stack(None, tmp_path / file)
        assert [backup_sets.elsewhere(loaded, name) for name in backup_sets.names(loaded)] == [there, there, False]
        with backup_sets.sources(loaded) as found:
            assert set(found) == ({"assets"} if there else {"leads", "secrets", "assets"})


def test_secrets_that_came_went_and_changed_are_named_without_a_value(ops, desk, tmp_path):
    outputs, _ = desk
    made = []
    for text in ("TOKEN=c4n4ry\nOLD=c4n4ry\nSAME=c4n4ry\n", "TOKEN=c4n4ry2\nNEW='c4n4ry'\nSAME=c4n4ry\n"):
        (tmp_path / ".env").write_text(text)
        done = ops("backup", "create", "--name", "secrets", "--outputs", outputs, "--json")
        made.append(json.loads(done.stdout)["backups"][0]["id"])
    env = tmp_path / ".env"
    names = ops("backup", "diff", *made, "--outputs", outputs)
    assert names.stdout.splitlines() == [
        f"+ {env}: NEW",
        f"- {env}: OLD",
        "values were not compared; give --identity to compare them",
    ]
    found = ops("backup", "diff", *made, "--outputs", outputs, "--identity", tmp_path / "identity", "--json")
    assert json.loads(found.stdout)["changed"] == [f"{env}: TOKEN"]
    same = ops("backup", "diff", made[0], made[0], "--outputs", outputs, "--identity", tmp_path / "identity")
    assert same.stdout.splitlines() == ["no difference"]
    assert "c4n4ry" not in names.stdout + found.stdout + names.stderr + found.stderr + same.stdout


@pytest.fixture
def own(cluster, app, shop, desk, tmp_path):
    """The desk with a source that is a server of one's own, for the database `shop`."""
    outputs, _ = desk
    document = json.loads(outputs.read_text())
    document["backup"]["sources"] = [
        {
            "kind": "postgresql",
            "name": "own",
            "host": "127.0.0.1",
            "port": cluster.port,
            "database": shop,
            "user": "app",
            "password": "OWN_PASSWORD",
        }
    ]
    document["secrets"]["app"] = {"OWN_PASSWORD": CANARY}
    outputs.write_text(json.dumps(document))
    return outputs


def test_a_server_of_ones_own_through_the_tunnel_and_directly_on_the_machine(ops, own, machine, admin, tmp_path):
    loaded = load_stack(None, own)
    with backup_sets.sources(loaded) as found:
        tunnelled = found["own"]()
        assert tunnelled.endpoint.port != admin.port
        rows = tunnelled.fingerprint().rows
    with backup_sets.sources(replace(loaded, on_machine=True)) as found:
        direct = found["own"]()
        assert (direct.endpoint.port, direct.fingerprint().rows) == (admin.port, rows)
    made = ops("backup", "create", "--outputs", own, "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["backups"][0]["rows"] == rows
    assert servers.live(loaded) == ("shop",)
    live = ops("restore", "--name", "own", "--into", "shop", "--outputs", own, "--identity", tmp_path / "identity")
    assert (live.returncode, "is a live database" in live.stderr) == (1, True)


def test_a_password_that_is_not_there_is_one_line(own):
    loaded = load_stack(None, own)
    without = replace(loaded, secrets=loaded.secrets.model_copy(update={"app": {}}))
    with backup_sets.sources(without) as found, pytest.raises(StackError, match=r"OWN_PASSWORD is not in secrets\.app"):
        found["own"]()


def test_two_destinations_of_one_bucket_are_refused_and_a_destination_goes_by_its_name_or_its_bucket():
    def stack(*buckets: str) -> LoadedStack:
        places = {
            f"place-{number}": DestinationOutput(name=name, region="auto", endpoint="https://s3.example.org")
            for number, name in enumerate(buckets)
        }
        backup = make_outputs().backup.model_copy(update={"destinations": places})
        keys = dict.fromkeys(places, BucketKey(access_key="a", secret_key=SecretStr("b")))
        outputs = make_outputs().model_copy(update={"backup": backup})
        return LoadedStack(name="prod", outputs=outputs, secrets=OutputSecrets(backup_keys=keys))

    both = stack("copies", "other")
    assert list(destinations.stores(both)) == ["place-0", "place-1"]
    by_name, by_bucket = destinations.store(both, "place-1"), destinations.store(both, "other")
    assert by_name.name == by_bucket.name == "s3://other"
    usual = both.outputs.backup.retention
    assert destinations.retention(both, by_name) == usual
    few = both.outputs.backup.destinations["place-1"].model_copy(update={"keep_last": 3})
    places = both.outputs.backup.destinations | {"place-1": few}
    backup = both.outputs.backup.model_copy(update={"destinations": places})
    both = replace(both, outputs=both.outputs.model_copy(update={"backup": backup}))
    alone = destinations.retention(both, by_name)
    assert (alone.keep_last, alone.daily, alone.weekly, alone.monthly) == (3, 0, 0, 0)
    assert alone.minimum_count == usual.minimum_count
    assert destinations.retention(both, destinations.store(both, "copies")) == usual
    with pytest.raises(StackError, match="two of them have the bucket copies"):
        destinations.stores(stack("copies", "copies"))


def test_what_one_source_lacks_does_not_cost_the_others_their_backup(ops, desk, tmp_path):
    (tmp_path / "leads.db").unlink()
    done = ops("backup", "create", "--outputs", tmp_path / "machine.json")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "leads.db: there is no such file" in line
    listed = ops("backup", "list", "--outputs", tmp_path / "machine.json", "--json")
    assert sorted(item["name"] for item in json.loads(listed.stdout)["backups"]) == ["assets", "secrets"]
