"""A droplet of the sandbox alone, without a stack: converged by `python3 -m host`, as the engine does."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from blueprint.keys import public_line
from components.cloud_init import build_cloud_config
from ops.stack.init import make_key
from sandbox.parts.base import DropletSpec, VpcSpec
from sandbox.parts.containers import ContainerParts
from sandbox.parts.instance import Instance
from sandbox.parts.network import VPC_POOL
from tests.kits.ports import free_ports
from tests.kits.process import run_to_end

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Bare:
    """A droplet that had its first contact. `login` is the part of a document that every verb reads."""

    parts: ContainerParts
    spec: DropletSpec
    login: dict[str, Any]
    key: Path

    def host(self, verb: str, *flags: str, **document: Any) -> subprocess.CompletedProcess[str]:
        """Run a verb of `host` with the login and these fields."""
        return subprocess.run(
            [sys.executable, "-m", "host", verb, *flags],
            input=json.dumps({**self.login, **document}),
            text=True,
            capture_output=True,
            cwd=ROOT,
            check=False,
        )

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return `MachineSettings` as JSON values."""
        values = {
            "hostname": self.spec.name,
            "ssh": {"user": "deploy", "deploy_key": public_line_of(self.login["deploy_key"])},
            "firewall": {"ssh_sources": ["0.0.0.0/0", "::/0"]},
        }
        return values | changes

    def converge(self, *flags: str, fails: int = 0, **changes: Any) -> tuple[dict[str, int], str]:
        """Converge; return the answer and the progress."""
        done = self.host("converge", *flags, machine=self.settings(**changes))
        assert done.returncode == fails, f"exit {done.returncode}\n{done.stderr}"
        return json.loads(done.stdout or "{}"), done.stderr

    def shell(self, script: str) -> str:
        """Run a script as root on the droplet, past its firewalls and its sshd."""
        container = self.parts.droplets.container(self.spec.id)
        return run_to_end("docker", "exec", "-i", container, "bash", "-eu", input=script).stdout

    def ssh(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Log in from outside."""
        fixed = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=20", "LogLevel=ERROR"]
        command = ["ssh", *options, *(part for option in fixed for part in ("-o", option)), "-i", str(self.key)]
        return subprocess.run(
            [*command, f"deploy@{self.spec.public_ip}", "true"], text=True, capture_output=True, check=False
        )


def public_line_of(pem: str) -> str:
    return public_line(SecretStr(pem))


@contextlib.contextmanager
def bare_droplet(home: Path, image: str) -> Iterator[Bare]:
    """Make a droplet of this image, and have its first contact; all of it goes in the end."""
    parts = ContainerParts(Instance(name=f"host-{os.getpid()}", home=home / "sandbox", port=free_ports(4, 28570)))
    deploy, bootstrap, final = make_key(), make_key(), make_key()
    key = home / "deploy"
    key.touch(mode=0o600)
    key.write_text(deploy.get_secret_value())
    try:
        parts.images.ensure()
        parts.start()
        ranges = [str(network) for network in VPC_POOL.subnets(new_prefix=20)]
        free = next(cidr for cidr in reversed(ranges) if parts.networks.check_vpc_range(cidr) is None)
        spec = DropletSpec(
            id=4711, name="acme-test", image=image, vcpus=2, memory=2048, disk=50, region="nyc3",
            vpc=VpcSpec(id="vpc-1", name="default-nyc3", ip_range=free),
            public_ip=parts.free_public_ip(frozenset()), private_ip=free.rsplit(".", 1)[0] + ".2",
            authorized_keys=(public_line(deploy),), reserved_ips=(),
            user_data=build_cloud_config(
                user="deploy",
                authorized_keys=[public_line(deploy)],
                host_key=bootstrap.get_secret_value(),
                host_key_public=public_line(bootstrap),
            ),
        )  # fmt: skip
        parts.droplets.create(spec)
        login = {
            "address": spec.public_ip,
            "port": 22,
            "user": "deploy",
            "deploy_key": deploy.get_secret_value(),
            "host_key": public_line(final),
        }
        made = Bare(parts, spec, login, key)
        done = made.host(
            "first-contact", bootstrap_host_key=public_line(bootstrap), host_key_private=final.get_secret_value()
        )
        assert done.returncode == 0, done.stderr
        yield made
    finally:
        parts.reset()
