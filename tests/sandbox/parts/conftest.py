"""One sandbox of containers for the tests in this folder, with its own name, home and addresses; removed at the end."""

from __future__ import annotations

import ipaddress
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.parts.base import ClusterSpec, DatabaseUser, DropletSpec, PoolSpec, VpcSpec
from sandbox.parts.containers import ContainerParts
from sandbox.parts.instance import Instance
from tests.kits import waiting
from tests.kits.ports import free_ports
from tests.leftovers import owned

os.environ.update(owned())


def inside(vpc: VpcSpec, number: int) -> str:
    """The address of a number in a VPC's range."""
    return str(ipaddress.IPv4Network(vpc.ip_range)[number])


@dataclass(frozen=True)
class Key:
    """An SSH key pair of the tests."""

    private: Path
    public: str


def eventually(check: Callable[[], bool], seconds: float = 300) -> None:
    """Wait as containers need it: long, and with a look that costs a process."""
    waiting.eventually(check, seconds, pause=0.2)


class Ssh:
    """Runs commands on a droplet by SSH."""

    def __init__(self, key: Key, folder: Path) -> None:
        self.key, self.known = key, folder / "known_hosts"

    def __call__(self, address: str, command: str, user: str = "root", timeout: float = 120) -> str:
        done = self.try_(address, command, user, timeout)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def try_(
        self, address: str, command: str, user: str = "root", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        # The connection's limit holds for the exchange of keys too, for which a busy sshd may need seconds.
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", f"UserKnownHostsFile={self.known}", "ConnectTimeout=20"]
        arguments = ["ssh", "-i", str(self.key.private), *(part for option in options for part in ("-o", option))]
        arguments += [f"{user}@{address}", command]
        try:
            return subprocess.run(arguments, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            # A machine that goes down or comes up may take a login and leave it hanging.
            return subprocess.CompletedProcess(arguments, 124, "", f"{command}: no end after {timeout:g} s")

    def wait(self, address: str, user: str = "root") -> None:
        eventually(lambda: self.try_(address, "true", user).returncode == 0)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerParts]:
    home = tmp_path_factory.mktemp("sandbox-home")
    instance = Instance(name=f"test-{os.getpid()}", home=home, port=free_ports(3))
    made = ContainerParts(instance)
    try:
        made.images.ensure()
        made.start()
        yield made
    finally:
        made.reset()


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    private = tmp_path_factory.mktemp("ssh") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", private], check=True)
    return Key(private, private.with_suffix(".pub").read_text().strip())


@pytest.fixture(scope="session")
def ssh(key: Key, tmp_path_factory: pytest.TempPathFactory) -> Ssh:
    return Ssh(key, tmp_path_factory.mktemp("known"))


@pytest.fixture(scope="session")
def taken() -> set[str]:
    """Public addresses given out so far."""
    return set()


@pytest.fixture(scope="session")
def vpc() -> VpcSpec:
    return VpcSpec(id="vpc-1", name="default-nyc3", ip_range="10.99.0.0/20")


@pytest.fixture(scope="session")
def droplet(parts: ContainerParts, vpc: VpcSpec, key: Key, ssh: Ssh, taken: set[str]) -> Iterator[DropletSpec]:
    """A droplet that is up, with a sudo user from user_data and a reserved IP."""
    public, reserved = parts.free_public_ip(frozenset(taken)), parts.free_public_ip(frozenset(taken), reserved=True)
    taken.update((public, reserved))
    spec = DropletSpec(
        id=1001, name="web-1", image="ubuntu-24-04-x64", vcpus=1, memory=2048, disk=50, region="nyc3", vpc=vpc,
        public_ip=public, private_ip=inside(vpc, 2), authorized_keys=(key.public,), reserved_ips=(reserved,),
        user_data=(
            "#cloud-config\nusers:\n- name: deploy\n  sudo: ALL=(ALL) NOPASSWD:ALL\n  shell: /bin/bash\n"
            f"  ssh_authorized_keys: ['{key.public}']\n"
        ),
    )  # fmt: skip
    parts.droplets.create(spec)
    ssh.wait(reserved)
    yield spec
    parts.droplets.delete(spec.id)


@pytest.fixture(scope="session")
def cluster(parts: ContainerParts, vpc: VpcSpec, taken: set[str]) -> Iterator[ClusterSpec]:
    """A PostgreSQL cluster that is online, open to all."""
    public = parts.free_public_ip(frozenset(taken))
    taken.add(public)
    spec = ClusterSpec(
        id="c-1", name="db", version="15", nodes=1, vcpus=1, memory=1024, vpc=vpc,
        host="db-1.a.db.ondigitalocean.com", private_host="private-db-1.a.db.ondigitalocean.com",
        public_ip=public, private_ip=inside(vpc, 9),
        users=(DatabaseUser(name="doadmin", password="pa'ss\\\"w"), DatabaseUser(name="app", password="app-secret")),
        databases=("defaultdb", "app"),
        pools=(PoolSpec(name="app-pool", mode="transaction", size=3, database="app", user="app"),),
        config={"work_mem": "8MB", "pgbouncer.server_reset_query_always": "1"},
    )  # fmt: skip
    parts.databases.apply(spec)
    yield spec
    parts.databases.delete(spec.id)


def scan(parts: ContainerParts, address: str, *ports: int) -> dict[int, str]:
    """What a stranger on the public network sees of some ports: open, closed or filtered."""
    text = parts.docker.execute(
        parts.proxy.container, "nmap", "-Pn", "-n", "-p", ",".join(str(port) for port in ports), address
    )
    lines = [line.split() for line in text.splitlines() if "/tcp" in line]
    return {int(line[0].split("/")[0]): line[1] for line in lines}
