"""`ops pitr drill` on real parts: the provider's backup, a fork as of a time, over a real droplet, to its end."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from blueprint.outputs import parse_outputs
from ops.drill.evidence.details import ForkDetail
from ops.drill.kinds.provider_fork import ForkDrill
from ops.drill.runner import run
from ops.stack.cloud import Cloud
from ops.stack.outputs import LoadedStack
from sandbox.parts.containers import ContainerParts
from sandbox.parts.instance import Instance
from tests.kits.outputs import DATABASE, build_droplet, build_outputs
from tests.kits.ports import free_ports
from tests.sandbox.conftest import TOKEN, Sandbox, running
from tests.sandbox.parts.conftest import Key, Ssh, eventually

pytestmark = pytest.mark.containers
LONG = "nextgentech-production"  # the host of a fork is longer still, and has to be a name all the same
USER_DATA = """#cloud-config
users:
- name: deploy
  sudo: ALL=(ALL) NOPASSWD:ALL
  shell: /bin/bash
  ssh_authorized_keys: ['{key}']
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """An account on parts of its own: reconciling removes what it does not know of."""
    home = tmp_path_factory.mktemp("fork-home")
    parts = ContainerParts(Instance(name=f"test-fork-{os.getpid()}", home=home, port=free_ports(3)))
    try:
        parts.images.ensure()
        with running(home, parts) as sandbox:  # type: ignore[arg-type] # the kit is for NoParts, and these do as well
            yield sandbox
    finally:
        parts.reset()


def query(api: Sandbox, cluster: str, sql: str, database: str = "shop") -> str:
    """Ask PostgreSQL inside the cluster's own container, past everything that is being tested."""
    parts: Any = api.parts
    return parts.databases._query(parts.databases.container(cluster), database, sql)


def online(api: Sandbox, path: str) -> None:
    eventually(lambda: api.get(path)["database"]["status"] == "online")


@pytest.fixture(scope="module")
def stack(api: Sandbox, key: Key, ssh: Ssh) -> LoadedStack:
    droplet = api.droplet("web", user_data=USER_DATA.format(key=key.public))
    address = next(n["ip_address"] for n in droplet["networks"]["v4"] if n["type"] == "public")
    cluster = api.cluster(LONG)
    path = f"/v2/databases/{cluster['id']}"
    api.put(f"{path}/firewall", {"rules": [{"type": "droplet", "value": str(droplet["id"])}]})
    api.post(f"{path}/users", {"name": "app"})
    api.post(f"{path}/dbs", {"name": "shop"})
    live = api.get(path)["database"]
    passwords = {user["name"]: user["password"] for user in live["users"]}
    authority: Any = api.parts
    ssh.wait(address, "deploy")
    scanned = subprocess.run(
        ["ssh-keyscan", "-T", "60", "-t", "ed25519", address], capture_output=True, text=True, check=True
    )
    host_key = " ".join(scanned.stdout.split()[1:3])
    outputs = parse_outputs(
        build_outputs(
            project="shop",
            account=api.get("/v2/account")["account"]["team"]["uuid"],
            droplets=[build_droplet(address, id=str(droplet["id"]), public_ip=address)],
            access={"user": "deploy", "port": 22, "host_key": host_key},
            database={
                **DATABASE,
                "id": live["id"],
                "host": live["connection"]["host"],
                "private_host": live["private_connection"]["host"],
                "ca_certificate": authority.authority.certificate(),
            },
            secrets={
                "deploy_key": Path(key.private).read_text(),
                "database_password": passwords["app"],
                "database_admin_password": passwords["doadmin"],
            },
        )
    )
    assert not isinstance(outputs.secrets, SecretStr)
    return LoadedStack(name="staging", outputs=outputs, secrets=outputs.secrets)  # type: ignore[arg-type]


@pytest.mark.long
def test_a_drill_sees_the_rows_of_its_time_and_leaves_nothing(api: Sandbox, stack: LoadedStack) -> None:
    assert stack.outputs.database is not None
    live = stack.outputs.database.id
    eventually(lambda: len(api.get(f"/v2/databases/{live}/backups")["backups"]) >= 1)

    def insert(row: int) -> str:
        query(api, live, f"SET ROLE doadmin; CREATE TABLE IF NOT EXISTS two (row int); INSERT INTO two VALUES ({row});")
        time.sleep(0.2)
        now = datetime.now(UTC).isoformat()
        time.sleep(0.2)
        return now

    first, both = insert(1), insert(2)
    before = query(
        api, live, "SELECT timeline_id, system_identifier FROM pg_control_checkpoint(), pg_control_system();"
    )
    for at, rows in ((first, 1), (both, 2)):
        job = ForkDrill(stack=stack, cloud=Cloud(TOKEN, api.url), at=at, max_cost=1.0, wait_minutes=5, pause=0.3)
        evidence = run(job, print)
        assert evidence.summary() == ""
        assert (evidence.verdict, evidence.rows) == ("green", rows)
        assert isinstance(detail := evidence.detail, ForkDetail)
        assert [table.table for table in detail.databases[0].tables] == ["public.two"]
        assert detail.identity is not None
        assert (detail.identity.live_timeline, detail.identity.fork_timeline) == (1, 2)
        assert [cluster["name"] for cluster in api.get("/v2/databases")["databases"]] == [LONG]
    # Live is as it was: same rows, same server; and nothing of the forks is left.
    assert query(api, live, "SELECT string_agg(row::text, ',') FROM two;") == "1,2"
    again = query(api, live, "SELECT timeline_id, system_identifier FROM pg_control_checkpoint(), pg_control_system();")
    assert again == before
    left = api.client.get("/_sandbox/leaks", headers={"authorization": f"Bearer {TOKEN}"}).json()
    assert left["parts"] == []
