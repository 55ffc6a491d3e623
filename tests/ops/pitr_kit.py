"""An account of the sandbox with a cluster, a stack of it, and physical copies of the kit's server as its forks.

The API is the sandbox's, without parts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from ops.drill.kinds.provider_fork import ForkDrill
from ops.managed_postgres import provider
from ops.managed_postgres.forks import Patience
from ops.sources.postgres import scratch_server as scratch_postgres
from ops.sources.postgres.tools import Endpoint, find_tool
from ops.stack.cloud import Cloud
from ops.stack.init import make_key
from ops.stack.outputs import load_stack
from sandbox.parts.none import NoParts
from tests.kits.outputs import DATABASE, build_droplet, build_outputs
from tests.ops.pg_server import as_role, free_port, started
from tests.sandbox.conftest import TOKEN, running

ROOT = Path(__file__).resolve().parents[2]


QUICK = Patience(seconds=30, pause=0.02)


@pytest.fixture
def api(tmp_path):
    """An account with a droplet and a cluster `shop-db` that has a backup."""
    with running(tmp_path / "api", NoParts()) as sandbox:
        sandbox.machine = sandbox.droplet("web")
        sandbox.live = sandbox.cluster("shop-db")
        path = f"/v2/databases/{sandbox.live['id']}"
        sandbox.post(f"{path}/users", {"name": "app"})
        rules = [{"type": "droplet", "value": str(sandbox.machine["id"])}]
        sandbox.put(f"{path}/firewall", {"rules": rules})
        sandbox.until(lambda: len(sandbox.get(f"{path}/backups")["backups"]) >= 1)
        yield sandbox


@pytest.fixture
def cloud(api):
    return Cloud(TOKEN, api.url)


@pytest.fixture
def outputs(api, tmp_path):
    """The outputs of a stack of that account, as a file."""
    account = api.get("/v2/account")["account"]
    live, machine = api.live, api.machine
    database = {"id": live["id"], "host": live["connection"]["host"]}
    document = build_outputs(
        project="shop",
        account=account["team"]["uuid"],
        droplets=[build_droplet("127.0.0.1", id=str(machine["id"]))],
        access={"user": "deploy", "port": 1, "host_key": "ssh-ed25519 AAAA"},
        database=DATABASE | database | {"private_host": live["private_connection"]["host"]},
        secrets={
            "deploy_key": make_key().get_secret_value(),
            "database_password": "c4n4ry-user",
            "database_admin_password": "c4n4ry-admin",
        },
    )
    path = tmp_path / "outputs.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def job(cloud, outputs):
    """A drill whose servers are not asked: each test says what is there."""
    return ForkDrill(stack=load_stack(None, outputs), cloud=cloud, max_cost=1.0, wait_minutes=1, pause=0.02)


def live_of(job):
    return provider.live_cluster(job.cloud, job.stack)


def names(api):
    return sorted(cluster["name"] for cluster in api.get("/v2/databases")["databases"])


def fault(api, **rule):
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert api.client.post("/_sandbox/faults", json=rule, headers=headers).status_code == 201


def switch(api, **changes):
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert api.client.patch("/_sandbox/switches", json=changes, headers=headers).status_code == 200


@contextmanager
def copy_of(cluster, *, recovered):
    """Run a physical copy of the kit's server; yields its superuser's endpoint."""
    basebackup, postgres = find_tool("pg_basebackup", at_least="14"), find_tool("postgres", at_least="14")
    account, endpoint = scratch_postgres._account(), replace(cluster, port=free_port())
    with tempfile.TemporaryDirectory(prefix="ancla-copy-") as name, cluster.environment() as variables:
        folder = Path(name)
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        subprocess.run(
            [basebackup.path, "-D", folder / "data", "--checkpoint=fast", "--no-sync"], env=variables, check=True
        )
        if recovered:
            (folder / "data" / "standby.signal").touch()
        shutil.copy(Path(cluster_folder(cluster)) / "server.crt", folder)
        shutil.copy(Path(cluster_folder(cluster)) / "server.key", folder)
        with started(postgres, folder, endpoint):
            if recovered:
                with endpoint.connect() as connection:
                    connection.execute("SELECT pg_promote()")
            yield endpoint


@pytest.fixture
def copied(cluster, shop):
    """A copy that was recovered and promoted, `shop` in it: what a provider's fork is."""
    with copy_of(cluster, recovered=True) as endpoint:
        yield endpoint


def cluster_folder(cluster):
    with cluster.connect() as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    return Path(str(row[0])).parent


def as_users(endpoint):
    """Both logins of a server of the kit, as `open_live` and `open_fork` give them."""

    @contextmanager
    def opened(*_):
        yield as_role(endpoint, "doadmin"), as_role(endpoint, "app")

    return opened


@contextmanager
def as_nobody(_):
    endpoint = Endpoint(host="127.0.0.1", port=1, user="x", password=SecretStr("x"), database="x")
    yield endpoint, endpoint


@pytest.fixture
def ops(api, outputs, tmp_path):
    """Run `python -m ops pitr …` in a process of its own; those that still run are ended."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANCLA_", "PULUMI_"))}
    environment |= {"DIGITALOCEAN_TOKEN": TOKEN, "DIGITALOCEAN_API_URL": api.url, "ANCLA_OUTPUTS": str(outputs)}
    environment["ANCLA_AUDIT"] = str(tmp_path / "audit.jsonl")

    with ExitStack() as started:

        def start(*arguments):
            process = subprocess.Popen(
                [sys.executable, "-m", "ops", "pitr", *arguments], cwd=ROOT, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            started.callback(lambda: process.poll() is not None or process.kill())
            return process

        yield start


def done(process):
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def audit(tmp_path):
    lines = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    return [(line["verb"], line["result"], line.get("destroyed")) for line in lines]


def begun(api, ops, tmp_path):
    """A drill whose fork is there and does not come online; its process."""
    api.parts.gate["databases.contents"] = threading.Event()
    process = ops("drill", "--evidence", str(tmp_path / "drills"))
    api.until(lambda: len(names(api)) == 2 or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return process
