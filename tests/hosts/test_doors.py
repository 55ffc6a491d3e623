"""Which doors are open: seen from another address, with each layer alone, and with none."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.hosts.staging import Staging

pytestmark = [pytest.mark.hosts, pytest.mark.containers]
OPEN = {"protocol": "tcp", "ports": "0", "sources": {"addresses": ["0.0.0.0/0", "::/0"]}}
PATIENCE = 15.0  # seconds: a busy machine answers late, and what is closed never does

SCAN = """
import asyncio, sys
async def probe(host, port, limit):
    async with limit:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), patience)
        except (OSError, asyncio.TimeoutError):
            return None
        writer.close()
        return port
async def main(host, ports):
    limit = asyncio.Semaphore(800)
    print(*filter(None, await asyncio.gather(*(probe(host, port, limit) for port in ports))))
first, last, patience = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
asyncio.run(main(sys.argv[1], range(first, last + 1)))
"""


def from_a_stranger(staging: Staging, *command: str, script: str | None = None) -> str:
    """Run a program in a container that shares nothing with the droplet but the public network."""
    nameserver = staging.container("nameserver")
    inspected = subprocess.run(
        [
            "docker",
            "inspect",
            "-f",
            "{{.Config.Image}} {{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}",
            nameserver,
        ],
        text=True,
        check=True,
        capture_output=True,
    ).stdout.split()
    image, network = inspected[0], next(name for name in inspected[1:] if "public" in name)
    done = subprocess.run(
        [
            "docker",
            "run",
            "--rm",
            "-i",
            "--network",
            network,
            "--label",
            f"ancla.sandbox={staging.instance.removeprefix('ancla-')}",
            "--entrypoint",
            command[0],
            image,
            *command[1:],
        ],
        input=script,
        text=True,
        check=False,
        capture_output=True,
    )
    return done.stdout


def open_ports(staging: Staging, first: int, last: int, patience: float = 1.0) -> set[int]:
    """Return the ports that answer a stranger within `patience` seconds each."""
    scan = ("python3", "-", staging.outputs.droplets[0].address, str(first), str(last), str(patience))
    return {int(port) for port in from_a_stranger(staging, *scan, script=SCAN).split()}


@pytest.fixture
def published(staging: Staging) -> Iterator[None]:
    """A container on the droplet that publishes 9999 on every address."""
    image = staging.on_droplet("docker inspect -f '{{.Image}}' $(docker ps -q | head -n 1)").strip()
    staging.on_droplet(
        f"docker run -d --name intruder -p 0.0.0.0:9999:9999 --entrypoint python3 {image}"
        " -m http.server 9999 >/dev/null"
    )
    try:
        staging.on_droplet(
            "for _ in $(seq 600); do curl -fso /dev/null http://127.0.0.1:9999/ && exit 0; sleep 0.1; done; exit 1"
        )
        yield
    finally:
        staging.on_droplet("docker rm -f intruder >/dev/null")


@pytest.fixture
def no_cloud_firewall(staging: Staging) -> Iterator[None]:
    """The cloud firewall lets everything in."""
    [firewall] = staging.api("GET", "/v2/firewalls")["firewalls"]
    body = {key: firewall[key] for key in ("name", "inbound_rules", "outbound_rules", "tags", "droplet_ids")}
    staging.api("PUT", f"/v2/firewalls/{firewall['id']}", {**body, "inbound_rules": [OPEN]})
    try:
        yield
    finally:
        staging.api("PUT", f"/v2/firewalls/{firewall['id']}", body)


@pytest.fixture
def no_host_firewall(staging: Staging) -> Iterator[None]:
    """UFW is off, and what it put before Docker's published ports is gone."""
    staging.on_droplet(
        "iptables-save > /run/doors.v4; ufw --force disable >/dev/null;"
        "iptables -F DOCKER-USER; iptables -A DOCKER-USER -j RETURN"
    )
    try:
        yield
    finally:
        staging.on_droplet("ufw --force enable >/dev/null; iptables-restore < /run/doors.v4")


@pytest.mark.long
def test_exactly_22_80_and_443_answer(staging: Staging, published: None) -> None:
    meant = {22, 80, 443}
    for patience in (1.0, 3.0, 6.0):  # a scan is believed when it sees what is open: a busy machine answers late
        seen = open_ports(staging, 1, 20000, patience)
        if meant <= seen:
            break
    assert seen == meant


@pytest.mark.long
def test_the_cloud_firewall_alone_keeps_a_published_port_closed(
    staging: Staging, published: None, no_host_firewall: None
) -> None:
    assert open_ports(staging, 9998, 10000, PATIENCE) == set()


@pytest.mark.long
def test_the_host_alone_keeps_a_published_port_closed(
    staging: Staging, published: None, no_cloud_firewall: None
) -> None:
    assert open_ports(staging, 9998, 10000, PATIENCE) == set()


def test_without_both_layers_the_scan_sees_it(
    staging: Staging, published: None, no_cloud_firewall: None, no_host_firewall: None
) -> None:
    assert open_ports(staging, 9998, 10000, PATIENCE) == {9999}


@pytest.mark.long
def test_the_database_answers_the_droplet_and_not_a_stranger(staging: Staging) -> None:
    database = staging.outputs.database
    assert database is not None
    listed = staging.api("GET", f"/v2/databases/{database.id}")["database"]
    probe = f"timeout 15 bash -c '</dev/tcp/$0/{database.port}' {{}} && echo open || echo closed"

    private = staging.on_droplet(f"getent hosts {database.private_host}").split()[0]
    public = staging.on_droplet(f"getent hosts {database.host}").split()[0]

    assert listed["connection"]["host"] == database.host
    assert staging.on_droplet(probe.format(private)).strip() == "open"
    assert from_a_stranger(staging, "bash", "-c", probe.format(public)).strip() == "closed"

    # The control: with the stranger's network trusted, the same probe comes through.
    rules = staging.api("GET", f"/v2/databases/{database.id}/firewall")["rules"]
    kept = [{"type": rule["type"], "value": rule["value"]} for rule in rules]
    network = public.rsplit(".", 1)[0] + ".0/24"
    staging.api(
        "PUT", f"/v2/databases/{database.id}/firewall", {"rules": [*kept, {"type": "ip_addr", "value": network}]}
    )
    try:
        opened = ""
        for _ in range(20):
            opened = from_a_stranger(staging, "bash", "-c", probe.format(public)).strip()
            if opened == "open":
                break
        assert opened == "open"
    finally:
        staging.api("PUT", f"/v2/databases/{database.id}/firewall", {"rules": kept})
