"""The first hour, asked of an account that answers: every answer is kept, and what was made is removed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from ops.core.errors import CloudError
from ops.first_hour import __main__ as command
from ops.first_hour import machine as machines
from ops.first_hour.machine import ask_cluster, ask_machine, machine
from ops.first_hour.notebook import Notebook
from ops.stack.cloud import Cloud
from sandbox.parts.none import NoParts
from tests.sandbox.conftest import TOKEN, running


@pytest.fixture
def api(tmp_path):
    with running(tmp_path / "api", NoParts()) as sandbox:
        yield sandbox


@pytest.fixture
def cloud(api):
    return Cloud(TOKEN, api.url)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(machines, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(machines, "BETWEEN_SECONDS", 1.2)


@pytest.fixture
def notebook(tmp_path, cloud):
    return Notebook(folder=tmp_path / "answers", address=cloud.address, say=print)


@pytest.fixture
def hour(api, s3_endpoint, key, tmp_path, monkeypatch):
    """Run the command; returns its result, and the document and page that it wrote."""
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", TOKEN)
    monkeypatch.setenv("DIGITALOCEAN_API_URL", api.url)
    monkeypatch.setenv("SPACES_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("SPACES_ACCESS_KEY_ID", key.access_key)
    monkeypatch.setenv("SPACES_SECRET_ACCESS_KEY", key.secret_key.get_secret_value())
    out = tmp_path / "answers"

    def run(*arguments):
        done = CliRunner().invoke(command.app, [*arguments, "--out", str(out)])
        (document,) = [json.loads(file.read_text()) for file in out.glob("*.json")] or [None]
        (page,) = [file.read_text() for file in out.glob("*.md")] or [None]
        return done, document, page

    return run


def calls(api):
    return [json.loads(line) for line in (api.home / "journal.jsonl").read_text().splitlines()]


def answer(document, question):
    return next(each for each in document["answers"] if question in each["question"])


def test_the_account_is_asked_and_nothing_is_made(api, hour):
    cluster = api.cluster("there")
    before = len(calls(api))
    done, document, page = hour("account")
    assert done.exit_code == 0, done.output
    assert document["api"] == api.url
    assert answer(document, "nyc3 a VPC")["holds"] is True
    assert answer(document, "passwords of clusters")["answer"] == "1 clusters, without a password: []"
    assert answer(document, "room for a cluster")["holds"] is True
    assert "| C1 | Has nyc3 a VPC already? |" in page
    assert cluster["connection"]["password"] not in page + json.dumps(document)
    assert {each["method"] for each in calls(api)[before:]} == {"GET"}


def test_a_bucket_is_asked_and_it_and_its_key_are_removed(api, hour, s3):
    """The gateway of this test has one key, so the limited one is refused everything: an answer like any other."""
    done, document, _ = hour("bucket", "--yes")
    assert done.exit_code == 0, done.output
    assert len(document["answers"]) == 13
    assert answer(document, "deleted and made again")["answer"] == "200"
    assert api.get("/v2/spaces/keys")["keys"] == []
    names = [bucket["Name"] for bucket in s3.client.list_buckets()["Buckets"]]
    assert not [name for name in names if name.startswith("ancla-first-hour")]
    assert document["left"] == []


def test_what_costs_is_asked_for_first_and_a_wrong_part_is_named(api, hour, monkeypatch):
    done, document, _ = hour("bucket")
    assert (done.exit_code, document) == (1, None)
    assert "Make and remove things" in done.output
    done, _, _ = hour("bukkit")
    assert (done.exit_code, "no part bukkit; there are: account" in done.output) == (2, True)
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "")
    done, _, _ = hour("account")
    assert (done.exit_code, "error: DIGITALOCEAN_TOKEN: not set" in done.output) == (1, True)


class Droplet:
    """What a droplet answers to scripts; `fork_has` are the rows of a fork."""

    def __init__(self, fork_has):
        self.scripts, self.fork_has = [], fork_has

    def __call__(self, address, script):
        self.scripts.append(script)
        if script == "echo up":
            return "up"
        if "/dev/tcp" in script:
            return "25 shut\n465 shut\n587 shut\n2525 open\n443 open"
        if "SSH_CONNECTION" in script:
            return f"192.0.2.9{len([each for each in self.scripts if 'SSH_CONNECTION' in each])}"
        if "subjectAltName" in script:
            return "DNS:somewhere.else"
        if "string_agg" in script:
            return self.fork_has
        if "GRANT app" in script:
            raise OSError("exit 3: ERROR: permission denied to grant role")
        return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize(("rows", "holds"), [("1", True), ("", False)])
def test_a_droplet_and_a_cluster_are_asked_and_all_is_removed(api, cloud, notebook, rows, holds):
    droplet = Droplet(rows)
    with machine(cloud, notebook, "nyc3", "ubuntu-24-04-x64", lambda key: droplet) as made:
        ask_machine(cloud, notebook, made)
        ask_cluster(cloud, notebook, made, region="nyc3", version="17")
    found = {each.question: each for each in notebook.answers}
    assert found["Which ports lead out of a droplet?"].holds is True
    assert found["Does a login over the reserved IP show its own source?"].holds is False
    assert found["Which names has the certificate?"].holds is False
    assert "permission denied" in found["May doadmin join a role that the API made?"].answer
    assert found["Has a fork the data of a time between two backups?"].holds is holds, found
    assert notebook.left == []
    for path, name in (("droplets", "droplets"), ("databases", "databases"), ("account/keys", "ssh_keys"),
                       ("reserved_ips", "reserved_ips")):  # fmt: skip
        api.until(lambda path=path, name=name: api.get(f"/v2/{path}")[name] == [])
    kept = notebook.file.read_text() + notebook.file.with_suffix(".md").read_text()
    passwords = [line.split("'")[1] for each in droplet.scripts for line in each.splitlines() if "PGPASSWORD" in line]
    assert passwords
    assert not [each for each in passwords if each in kept]


def test_what_cannot_be_removed_is_named_and_the_rest_is_removed(cloud, notebook, api, monkeypatch):
    real = Cloud.delete

    def refusing(self, path):
        if "/droplets/" in path:
            raise CloudError("503 busy")
        real(self, path)

    monkeypatch.setattr(Cloud, "delete", refusing)
    with machine(cloud, notebook, "nyc3", "ubuntu-24-04-x64", lambda key: Droplet("1")):
        pass
    (left,) = notebook.left
    assert left.startswith("droplet ancla-first-hour-")
    assert "503 busy" in notebook.file.with_suffix(".md").read_text()
    assert api.get("/v2/account/keys")["ssh_keys"] == []
