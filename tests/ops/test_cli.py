"""The command line: its exit codes and its two streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blueprint.keys import public_line
from ops.stack.init import make_key
from tests.kits.command import ops_in
from tests.kits.outputs import BACKUP, DATABASE, build_droplet, build_outputs
from tests.ops.source_kit import in_order

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ops(tmp_path, monkeypatch, capsys):
    return ops_in(tmp_path, monkeypatch, capsys)


def refused(done, *told, code=1):
    """One line on stderr that says these things; no traceback; nothing on stdout."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len([line for line in lines if line.startswith("error:")]) == 1, done.stderr
    assert lines[-1].startswith("error:")
    for text in told:
        assert text in lines[-1]
    assert "Traceback" not in done.stderr


@pytest.fixture
def outputs(cluster, shop, bucket, machine):
    """What a stack would give back whose droplet and cluster are those of this kit."""
    target = machine.target
    database = {"private_host": "localhost", "port": cluster.port, "databases": [shop]}
    return build_outputs(
        droplets=[build_droplet(target.address)],
        access={"user": "deploy", "port": target.port, "host_key": target.host_key},
        database=DATABASE | database | {"ca_certificate": cluster.ca_certificate},
        backup=BACKUP | {"destinations": [bucket.model_dump()]},
        secrets={
            "deploy_key": target.deploy_key.get_secret_value(),
            "database_password": "c4n4ry:pa\\ss'word",
            "database_admin_password": "c4n4ry:pa\\ss'word",
            "backup_keys": [{"access_key": "AKIATEST", "secret_key": "secret-of-the-test"}],
            "app": {},
        },
    )


def write(folder, outputs, name="outputs.json"):
    path = folder / name
    path.write_text(json.dumps(outputs))
    return path


def test_the_whole_way_from_a_desk_over_the_machine(ops, outputs, tmp_path, app):
    """Backup, list, show, lose rows, restore, drill, and a damaged copy: through ssh and its tunnel, with TLS."""
    file = write(tmp_path, outputs)
    made = ops("backup", "create", "--outputs", file, "--json")
    assert made.returncode == 0, made.stderr
    (backup,) = json.loads(made.stdout)["backups"]
    assert backup["rows"] == 4552
    listed = json.loads(ops("backup", "list", "--outputs", file, "--json").stdout)
    assert [(b["id"], b["complete"]) for b in listed["backups"]] == [(backup["id"], True)]
    shown = ops("backup", "show", "--outputs", file)
    assert "public.orders" in shown.stdout
    assert "RESTORE.md" in shown.stdout
    with app.on("shop").connect() as connection:
        connection.execute("DELETE FROM public.orders")
    planned = ops("restore", "--outputs", file, "--dry-run")
    assert "nothing was changed" in planned.stdout, planned.stderr
    restored = ops("restore", backup["id"], "--outputs", file, "--json")
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout)["result"] == "equal"
    drilled = ops("drill", "--outputs", file, "--evidence", tmp_path / "evidence")
    assert drilled.returncode == 0, drilled.stderr
    assert sorted(p.suffix for p in (tmp_path / "evidence").iterdir()) == [".html", ".json", ".json", ".log"]
    refused(ops("drill", "--outputs", file, "--damage", "flip"), "negative control flip", "table public.", code=3)
    for done in (made, shown, planned, restored, drilled):
        assert "c4n4ry" not in done.stdout + done.stderr
        assert "PRIVATE KEY" not in done.stdout + done.stderr


@pytest.mark.long
def test_a_database_that_was_emptied_pushes_no_backup_out_until_a_person_says_so(
    ops, outputs, tmp_path, app, monkeypatch
):
    """Two good backups, the rows lost, two more: a policy of two would have kept the worthless ones."""
    in_order(monkeypatch)
    outputs["backup"]["retention"] = {
        "keep_last": 2, "daily": 0, "weekly": 0, "monthly": 0, "minimum_count": 1, "minimum_age_hours": 0
    }  # fmt: skip
    file = write(tmp_path, outputs)

    def create():
        made = ops("backup", "create", "--outputs", file, "--json")
        assert made.returncode == 0, made.stderr
        return json.loads(made.stdout)["backups"][0]["id"]

    def prune(*more):
        done = ops("backup", "prune", "--yes", "--json", *more, "--outputs", file)
        (shop,) = json.loads(done.stdout)["sets"]
        return done, [b["id"] for b in shop["backups"] if b["outcome"] == "deleted"]

    full = [create(), create()]
    with app.on("shop").connect() as connection:
        connection.execute("DELETE FROM public.orders")
    emptied = [create(), create()]
    done, deleted = prune()
    refused(done, "nothing is deleted because of problems", emptied[1], "rows", code=3)
    assert deleted == []
    done, deleted = prune("--accept", emptied[1])
    assert (done.returncode, deleted) == (0, full)


def test_on_the_machine_the_secrets_are_in_a_second_file_and_nothing_is_tunnelled(ops, outputs, tmp_path, machine):
    secrets = outputs.pop("secrets")
    secrets.pop("deploy_key")
    write(tmp_path, secrets, "secrets.json")
    file = write(tmp_path, {**outputs, "secrets": {"file": str(tmp_path / "secrets.json")}})
    made = ops("backup", "create", "--outputs", file)
    assert made.returncode == 0, made.stderr
    assert "complete" in made.stdout
    assert machine.transports == []


def test_all_negative_controls_are_caught(ops, outputs, tmp_path):
    file = write(tmp_path, outputs)
    assert ops("backup", "create", "--outputs", file).returncode == 0
    done = ops("drill", "--controls", "--outputs", file, "--json")
    assert done.returncode == 0, done.stderr
    assert [e["verdict"] for e in json.loads(done.stdout)] == ["green"] + ["red"] * 6


def test_evidence_from_the_drill_to_its_verification(ops, outputs, tmp_path):
    """Signed by the runner, chosen at random, measured by a canary, of all that is backed up; then one character."""
    runner, stranger = make_key(), make_key()
    (tmp_path / "runner").write_text(runner.get_secret_value())
    (tmp_path / "stranger").write_text(stranger.get_secret_value())
    outputs["backup"]["signers"] = [public_line(runner)]
    outputs["backup"]["assertions"] = ["SELECT count(*) > 0 FROM public.orders"]
    file = write(tmp_path, outputs)
    assert "ancla.canary" in ops("backup", "canary", "--outputs", file).stdout
    assert ops("backup", "create", "--outputs", file).returncode == 0
    refused(ops("drill", "--outputs", file, "--signing-key", tmp_path / "stranger"), "not in backup.signers")
    drilled = ops("drill", "--outputs", file, "--pick", "random", "--seed", 7, "--signing-key", tmp_path / "runner")
    assert drilled.returncode == 0, drilled.stderr
    assert "measured" in drilled.stdout
    assert "--seed 7" in drilled.stderr
    verified = ops("evidence", "verify", "drills", "--outputs", file, "--json")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["documents"] == 1
    assert ops("evidence", "verify", "drills", "--key", public_line(runner)).returncode == 0
    assert "green" in ops("evidence", "list", "drills").stdout
    refused(ops("evidence", "verify", "drills", "--key", public_line(stranger)), "not trusted", code=3)
    refused(ops("evidence", "verify", "drills", "--key", "nowhere.pub"), "no public key")
    (page,) = Path("drills").glob("drill-*.html")
    (document,) = Path("drills").glob("drill-*.json")
    page.write_text(page.read_text().replace("green", "blue", 1))
    refused(ops("evidence", "verify", "drills", "--outputs", file), page.name, code=3)
    document.write_text(document.read_text().replace('"verdict":"green"', '"verdict":"grey"'))
    refused(ops("evidence", "verify", "drills", "--outputs", file), document.name, code=3)


def test_a_drill_of_all_that_is_backed_up_is_red_where_one_is(ops, outputs, tmp_path, app):
    """One database has a backup, the other none; both are told, and the green one has its evidence."""
    outputs["database"]["databases"] += ["postgres"]
    file = write(tmp_path, outputs)
    assert ops("backup", "create", "--name", "shop", "--outputs", file).returncode == 0
    planned = ops("drill", "--name", "shop", "--outputs", file, "--dry-run", "--json")
    (plan,) = json.loads(planned.stdout)
    assert (plan["name"], plan["kind"], plan["objects"] > 0, plan["chosen"]) == ("shop", "postgresql", True, "latest")
    assert plan["backup"] in ops("drill", "--name", "shop", "--outputs", file, "--dry-run").stdout
    refused(ops("drill", "--outputs", file, "--dry-run"), "no complete backup of postgres")
    assert not Path("drills").exists(), "nothing was restored, and nothing kept"
    done = ops("drill", "--outputs", file, "--json")
    refused(done, "no complete backup of postgres", code=3)
    assert {e["name"]: e["verdict"] for e in json.loads(done.stdout)} == {"shop": "green", "postgres": "red"}
    assert len(list(Path("drills").glob("drill-*.html"))) == 1, "one page of all"
    assert ops("drill", "--outputs", file, "--name", "shop", "--lang", "es").returncode == 0
    assert "Simulacro" in max(Path("drills").glob("drill-*.html")).read_text()
    refused(ops("drill", "20260101T000000Z-000000", "--outputs", file), "does not exist")
    assert ops("drill", "--outputs", file, "--keep-failed", "soon").returncode == 2
    refused(ops("evidence", "verify", "drills", "--outputs", file), "backup.signers is empty")


def test_what_cannot_be_read_is_one_line(ops, tmp_path, monkeypatch):
    refused(ops("status", "--outputs", "none.json"), "none.json: no such file")
    (tmp_path / "bad.json").write_text("{")
    refused(ops("backup", "list", "--outputs", "bad.json"), "bad.json:1: not JSON")
    refused(ops("backup", "list", "--outputs", write(tmp_path, {}, "empty.json")), "no outputs: run `pulumi up`")
    refused(ops("backup", "list", "--outputs", write(tmp_path, {"schema_version": 9}, "new.json")), "schema_version")
    hidden = write(tmp_path, {"schema_version": 1, "secrets": "[secret]"}, "hidden.json")
    refused(ops("backup", "list", "--outputs", hidden), "--show-secrets")
    monkeypatch.setenv("PATH", "/nonexistent")
    refused(ops("status", "--stack", "staging"), "pulumi: not found on PATH")


def test_what_is_not_there_is_one_line(ops, outputs, tmp_path):
    file = write(tmp_path, outputs)
    refused(ops("drill", "--outputs", file), "no complete backup of shop", code=3)
    refused(ops("restore", "--outputs", file), "no complete backup of shop")
    refused(ops("backup", "show", "20260101T000000Z-000000", "--outputs", file), "does not exist")
    refused(ops("backup", "create", "--outputs", file, "--name", "none"), "no none is backed up; there are: shop")
    refused(ops("backup", "list", "--outputs", file, "--store", "none"), "no backup destination none")
    refused(ops("restore", "--outputs", file, "--into", "shop"), "no complete backup")


@pytest.mark.long
def test_what_does_not_answer_is_one_line(ops, outputs, tmp_path):
    nowhere = json.loads(json.dumps(outputs))
    nowhere["backup"]["destinations"][0]["endpoint"] = "http://127.0.0.1:9"
    refused(ops("backup", "list", "--outputs", write(tmp_path, nowhere)), "127.0.0.1:9", "no answer")
    refused(ops("drill", "--outputs", write(tmp_path, nowhere)), "no answer")
    closed = {**outputs, "access": {**outputs["access"], "port": 9}}
    refused(ops("backup", "create", "--outputs", write(tmp_path, closed)), "127.0.0.1:9: no connection")
    other = {**outputs, "access": {**outputs["access"], "host_key": _other_host_key()}}
    refused(ops("backup", "create", "--outputs", write(tmp_path, other)), "a host key other than the pinned")
    pooled = {**outputs, "database": {**outputs["database"], "pool_port": outputs["database"]["port"]}}
    refused(ops("backup", "create", "--outputs", write(tmp_path, pooled)), "a dump needs the direct port")
    full = ops("backup", "create", "--outputs", write(tmp_path, outputs), "--spool", tmp_path / "none")
    refused(full, "cannot be used as the spool")


def _other_host_key():
    return public_line(make_key())


def test_status_says_what_is_down_and_exits_3(ops, outputs, tmp_path):
    file = write(tmp_path, outputs)
    done = ops("status", "--outputs", file, "--json")
    assert done.returncode == 3
    probes = {(p["part"], p["name"]): p["state"] for p in json.loads(done.stdout)["probes"]}
    assert probes["droplet", "web"] == "ok"
    assert probes["database", "shop"] == "ok"
    assert probes["backup", "shop"] == "attention"
    assert probes["address", "http://staging.example.org/"] == "down"


def test_settings_and_cost_need_no_engine(ops, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    for stack in ("staging", "prod"):
        file = ROOT / f"Pulumi.{stack}.yaml"
        assert ops("settings", "check", file).returncode == 0
        cost = json.loads(ops("cost", file, "--json").stdout)
        assert cost["total"] == round(sum(line["monthly"] for line in cost["lines"]), 2)
    schema = json.loads(ops("settings", "schema").stdout)
    assert "environment" in schema["required"]


def test_a_wrong_stack_file_is_told_line_by_line(ops, tmp_path):
    text = (ROOT / "Pulumi.staging.yaml").read_text()
    (tmp_path / "Pulumi.bad.yaml").write_text(text.replace("s-2vcpu-4gb", "s-2vcpu-5gb").replace("nyc3", "nyc9"))
    done = ops("settings", "check", "Pulumi.bad.yaml")
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2
    assert any("ancla:topology.size" in line and "s-2vcpu-5gb" in line for line in lines)
    assert any("ancla:region" in line for line in lines)
    refused(ops("cost", "Pulumi.bad.yaml"), "Pulumi.bad.yaml: ancla:", "and 1 more")
    refused(ops("settings", "env-example", "none.yaml"), "none.yaml")


def test_a_stack_file_whose_alarm_could_not_leave_a_droplet_is_valid_with_a_warning(ops, tmp_path):
    text = (ROOT / "Pulumi.staging.yaml").read_text().rstrip()
    more = '\n  ancla:secrets:\n    notifications: ["mailto://user:c4nary@smtp.example.org"]\n'
    (tmp_path / "Pulumi.staging.yaml").write_text(text + more)
    done = ops("settings", "check", "Pulumi.staging.yaml")
    assert (done.returncode, "c4nary" in done.stderr + done.stdout) == (0, False)
    assert "secrets.notifications[0]: mail by port 25, 465 or 587" in " ".join(done.stderr.split())
    found = json.loads(ops("settings", "check", "Pulumi.staging.yaml", "--json").stdout)
    assert (found["valid"], sum("notifications[0]" in warning for warning in found["warnings"])) == (True, 1)


def test_a_stale_env_example_exits_3(ops, tmp_path):
    file = ROOT / "Pulumi.staging.yaml"
    text = ops("settings", "env-example", file).stdout
    (tmp_path / ".env.example").write_text(text)
    assert ops("settings", "env-example", file, "--check", ".env.example").returncode == 0
    (tmp_path / ".env.example").write_text(text.replace("NODE_ENV", "NODE"))
    refused(ops("settings", "env-example", file, "--check", ".env.example"), "is stale", code=3)


def test_a_wrong_command_line_exits_2(ops):
    assert ops("backup", "destroy").returncode == 2
    assert ops("drill", "--damage", "everything").returncode == 2


def test_as_a_process_it_says_the_same(tmp_path):
    command = [sys.executable, "-m", "ops", "status", "--outputs", "none.json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: none.json: no such file")
