"""Droplets: containers that run systemd, sshd, cloud-init and Docker, with a public and a VPC address."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sandbox.parts.base import DropletSpec, FirewallRules, PartError, World
from sandbox.parts.container_spec import ContainerSpec, draft_of, make
from sandbox.parts.docker import STOP_SECONDS, AbsentError, File
from sandbox.parts.edge import Edge
from sandbox.parts.firewall import cloud_firewall
from sandbox.parts.service import PerObject, Where

LABEL = "ancla.sandbox.droplet"
STATE = "/var/lib/droplet"
SEED = "/var/lib/cloud/seed/nocloud"
PROCESSES = 8192
CAPABILITIES = (
    *(
        "AUDIT_CONTROL",
        "AUDIT_READ",
        "AUDIT_WRITE",
        "BLOCK_SUSPEND",
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
    ),
    *("FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MKNOD", "NET_ADMIN"),
    *("NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG"),
    *("SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_NICE", "SYS_PTRACE", "SYS_TTY_CONFIG", "WAKE_ALARM"),
)
"""What an init and an inner Docker need. `--privileged` would give the machine's disks and devices as well."""
SYS_RESOURCE_BIT = 24


UNIFIED_ONLY = frozenset({"ubuntu-26-04-x64"})
"""Images whose systemd (258 or later) refuses cgroup v1; a machine that has v1 mounts v2 beside it."""


def container_options(image: str) -> list[str]:
    """Docker options that let systemd and Docker run inside, for this machine's cgroup version."""
    options = [part for name in CAPABILITIES for part in ("--cap-add", name)]
    if _machine_grants_sys_resource():
        options += ["--cap-add", "SYS_RESOURCE"]
    options += ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
    options += [
        "--tmpfs",
        "/run",
        "--tmpfs",
        "/run/lock",
        "--stop-signal",
        "SIGRTMIN+3",
        "--pids-limit",
        str(PROCESSES),
    ]
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return [*options, "--cgroupns", "private"]
    # cgroup v1 has no usable private namespace: inner containers fail to start in one.
    groups = "/sys/fs/cgroup/unified" if image in UNIFIED_ONLY else "/sys/fs/cgroup"
    return [*options, "--cgroupns", "host", "--volume", f"{groups}:/sys/fs/cgroup:rw"]


def _machine_grants_sys_resource() -> bool:
    """Whether the first process of this machine may hold CAP_SYS_RESOURCE; where it may not, nothing may."""
    try:
        lines = Path("/proc/1/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return True
    bounds = next((int(line.split()[1], 16) for line in lines if line.startswith("CapBnd:")), -1)
    return bool(bounds >> SYS_RESOURCE_BIT & 1)


def seed(droplet: DropletSpec) -> list[File]:
    """The NoCloud seed: who this machine is, whose keys get in, and its user_data."""
    metadata = {
        "instance-id": str(droplet.id),
        "local-hostname": droplet.name,
        "public-keys": list(droplet.authorized_keys),
        "region": droplet.region,
    }
    user_data = droplet.user_data or "#cloud-config\n{}\n"
    return [
        File(path=f"{SEED}/meta-data", text=json.dumps(metadata), mode=0o600),
        File(path=f"{SEED}/user-data", text=user_data, mode=0o600),
        File(path=f"{SEED}/vendor-data", text="", mode=0o600),
    ]


class Droplets(PerObject):
    """The droplets of one instance. The volume is that of a droplet's own Docker."""

    name = "droplet"
    data = "docker"

    def __init__(self, *where: *Where, edge: Edge) -> None:
        super().__init__(*where)
        self.edge = edge
        # Names of containers and volumes that an earlier state of the account made and this one does not know.
        self.aside: frozenset[str] = frozenset()

    def ids(self, world: World) -> tuple[Iterable[object], Iterable[object]]:
        """As `PerObject.ids`."""
        return [droplet.id for droplet in world.droplets], world.leaving_droplets

    def steps(self, world: World) -> dict[str, Callable[[], object]]:
        """As `Service.steps`."""
        return {
            f"start of droplet {droplet.id}": partial(self._reconcile, droplet, world.firewalls.get(droplet.id))
            for droplet in world.droplets
        }

    def _reconcile(self, droplet: DropletSpec, rules: FirewallRules | None) -> None:
        # Made but not booted, then closed, then booted: no moment without its firewall.
        if not self.docker.running(self.container(droplet.id)):
            self.create(replace(droplet, powered=False), rules)
        self.set_reserved_ips(droplet)
        self.set_firewall(droplet, rules)
        if droplet.powered:
            self.power(droplet, "power_on")
        elif self.docker.running(self.container(droplet.id)):
            self.power(droplet, "shutdown")

    def leaks(self, world: World) -> list[str]:
        """Name the addresses on which a droplet answers and should not."""
        return [
            f"address {address} on droplet {droplet.id}"
            for droplet in world.droplets
            for address in sorted(set(self.reserved_ips_in(droplet.id)) - set(droplet.reserved_ips))
        ]

    def create(self, droplet: DropletSpec, rules: FirewallRules | None = None) -> None:
        """Make the droplet if it is not there, and boot it if it is to be powered.

        One that is there stays as it is, whatever image it was made of: its container is its disk.
        """
        name = self.container(droplet.id)
        if taken := self.aside & {name, self.volume(droplet.id)}:
            # A new droplet would get the disk of another one.
            raise PartError(f"droplet {droplet.id}: the disk of an earlier one has its name, {' and '.join(taken)}")
        if self.docker.inspect("container", name) is None:
            self.networks.create_vpc(droplet.vpc)
            make(self.docker, self._spec(droplet, rules))
        if droplet.powered:
            self._start(droplet)
        self.edge.note_reserved(droplet.id, droplet.reserved_ips)

    def _joins(self, droplet: DropletSpec) -> dict[str, str | None]:
        """Return the networks of the droplet, each with the address that Docker gives it there (None: any)."""
        return {
            self.networks.public: droplet.public_ip,
            **dict([self.networks.join(droplet.vpc, droplet.private_ip)]),
        }

    def _start(self, droplet: DropletSpec) -> None:
        """Start the droplet. Where one of its networks was removed and made again, it joins the new one."""
        name, joins = self.container(droplet.id), self._joins(droplet)
        found = self.docker.inspect("container", name)
        if found is None:
            raise AbsentError(f"droplet {droplet.id}: it is gone from this computer with its disk")
        if found["State"]["Running"]:
            return
        networks: dict[str, dict[str, Any]] = found["NetworkSettings"]["Networks"]
        joined = {other: (state["IPAMConfig"] or {}).get("IPv4Address") or None for other, state in networks.items()}
        try:
            if joined == joins:
                self.docker.start(name)
                return
        except AbsentError:
            pass
        for network in joined:
            self.docker.run("network", "disconnect", "--force", network, name)
        for network, address in joins.items():
            self.docker.run("network", "connect", *(("--ip", address) if address else ()), network, name)
        self.docker.start(name)

    def _spec(self, droplet: DropletSpec, rules: FirewallRules | None) -> ContainerSpec:
        resolver = self.instance.plan.infrastructure("resolver")
        return ContainerSpec(
            name=self.container(droplet.id),
            image=self.images.droplet(droplet.image),
            labels={**self.instance.labels, LABEL: str(droplet.id)},
            options=(
                *container_options(droplet.image),
                "--hostname", droplet.name,
                "--restart", "unless-stopped",
                # Always eth0, on every start: libnetwork joins the container's network mode first.
                "--network", self.networks.public, "--ip", droplet.public_ip,
                "--volume", f"{self.volume(droplet.id)}:/var/lib/docker",
            ),
            networks=(self.networks.join(droplet.vpc, droplet.private_ip),),
            volumes=(self.volume(droplet.id),),
            limits=tuple(self._limits(droplet)),
            files=(
                *seed(droplet),
                File(path=f"{STATE}/resolv.conf", text=f"nameserver {resolver}\n"),
                File(path=f"{STATE}/vpc_address", text=f"{droplet.vpc.interface(droplet.private_ip)}\n"),
                *self._state(droplet, rules),
            ),
        )  # fmt: skip

    @staticmethod
    def _state(droplet: DropletSpec, rules: FirewallRules | None) -> list[File]:
        return [
            File(path=f"{STATE}/reserved_ips", text="".join(f"{address}\n" for address in droplet.reserved_ips)),
            File(path=f"{STATE}/firewall.nft", text=cloud_firewall(rules) if rules else "", mode=0o600),
        ]

    @staticmethod
    def _limits(droplet: DropletSpec) -> list[str]:
        """CPU and memory of the size, never above what this machine has; swap is not counted."""
        cpus = min(droplet.vcpus, os.cpu_count() or 1)
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        memory = min(droplet.memory, machine)
        return ["--cpus", str(cpus), "--memory", f"{memory}m", "--memory-swap", f"{memory * 2}m"]

    def delete(self, droplet_id: int) -> None:
        """Remove the droplet with its disk."""
        name = self.container(droplet_id)
        if self.aside & {name, self.volume(droplet_id)}:
            return  # it never got further than its number
        if self.docker.running(name):
            # On cgroup v1 an inner container's cgroup is the machine's: ended by its own Docker, it leaves nothing.
            script = "command -v docker >/dev/null && docker ps --quiet | xargs --no-run-if-empty docker kill"
            self.docker.probe(name, "timeout", "10", "sh", "-c", script)
        self.docker.remove(draft_of(name))
        self.docker.remove(name)
        self.docker.remove_volume(self.volume(droplet_id))
        self.edge.note_reserved(droplet_id, ())

    def power(self, droplet: DropletSpec, operation: str) -> None:
        """Do power_on, power_off, shutdown, reboot or power_cycle."""
        name = self.container(droplet.id)
        match operation:
            case "power_on":
                self._start(droplet)
            case "power_off":
                self.docker.stop(name, seconds=0)
            case "shutdown":
                self.docker.stop(name)
            case "reboot":
                self.docker.run("restart", "--time", str(STOP_SECONDS), name)
            case "power_cycle":
                self.docker.run("restart", "--time", "0", name)
            case _:
                raise PartError(f"droplet {droplet.id}: no power operation {operation}")

    def resize(self, droplet: DropletSpec) -> None:
        """Give the droplet the CPUs and memory of its size, running or not."""
        self.docker.run("update", *self._limits(droplet), self.container(droplet.id))

    def set_firewall(self, droplet: DropletSpec, rules: FirewallRules | None) -> None:
        """Put the rules in the place of the old ones; None takes the firewall away."""
        text = cloud_firewall(rules) if rules else ""
        self._change(droplet, File(path=f"{STATE}/firewall.nft", text=text, mode=0o600), "firewall")

    def set_reserved_ips(self, droplet: DropletSpec) -> None:
        """Make the droplet answer on exactly these reserved IPs."""
        text = "".join(f"{address}\n" for address in droplet.reserved_ips)
        self._change(droplet, File(path=f"{STATE}/reserved_ips", text=text), "addresses")
        self.edge.note_reserved(droplet.id, droplet.reserved_ips)

    def reserved_ips_in(self, droplet_id: int) -> list[str]:
        """The reserved IPs the running droplet truly answers on; none when it is off."""
        name = self.container(droplet_id)
        if not self.docker.running(name):
            return []
        lines = self.docker.execute(
            name, "ip", "-4", "-o", "address", "show", "dev", "eth0", "label", "eth0:r"
        ).splitlines()
        return [line.split()[3].split("/")[0] for line in lines]

    def _change(self, droplet: DropletSpec, file: File, what: str) -> None:
        """Write what every boot reads, and have a running droplet read it now."""
        name = self.container(droplet.id)
        self.docker.put(name, [file])
        if self.docker.running(name):
            self.docker.execute(name, "/usr/local/sbin/droplet-init", what)
