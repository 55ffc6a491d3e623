"""Spaces: versitygw gateways behind the front, one container, one volume; keys and their grants."""

from __future__ import annotations

import json
import secrets
from typing import Any

from sandbox.catalog import SPACES_REGIONS
from sandbox.parts.base import SpacesKey, World
from sandbox.parts.container_spec import ContainerSpec
from sandbox.parts.docker import File, eventually
from sandbox.parts.service import Infrastructure

FRONT = "/usr/local/lib/spaces/front.py"
START_SECONDS = 20


class Spaces(Infrastructure):
    """The Spaces of one instance."""

    name = "spaces"
    has_volume = True

    def spec(self) -> ContainerSpec:
        """Front and gateways; all buckets are in the volume."""
        address = self.instance.plan.inner("spaces")
        return ContainerSpec(
            name=self.container,
            image=self.images.image("parts"),
            labels=self.instance.labels,
            options=(
                "--network", self.networks.backbone, "--ip", address,
                "--restart", "unless-stopped", "--volume", f"{self.volume}:/data",
                "--env", f"SPACES_ADDRESS={address}", "--env", f"SPACES_REGIONS={','.join(SPACES_REGIONS)}",
            ),
            command=("python3", FRONT),
            volumes=(self.volume,),
            first_files=self._administrator,
        )  # fmt: skip

    def ensure(self) -> bool:
        """Create and start the container, and wait until it answers; False when it ran."""
        made = super().ensure()
        if made:
            address = self.instance.plan.inner("spaces")
            eventually(
                lambda: self.docker.probe(self.container, "nc", "-z", address, "7000"),
                what="spaces",
                seconds=START_SECONDS,
            )
        return made

    @staticmethod
    def _administrator() -> list[File]:
        """The gateways' own one: known to nobody outside the container. Buckets belong to its fixed name."""
        root = {"access_key": "sandbox", "secret_key": secrets.token_urlsafe(30)}
        return [File(path="/data/root.json", text=json.dumps(root), mode=0o600)]

    def set_keys(self, keys: tuple[SpacesKey, ...]) -> None:
        """Make these the only keys."""
        value = {key.access_key: {"secret": key.secret_key, "grants": key.grants} for key in keys}
        self.docker.execute(self.container, "python3", FRONT, "keys", stdin=json.dumps(value))

    def set_switches(self, switches: dict[str, Any]) -> None:
        """Set what the service refuses or hides (`sandbox.api.switches`)."""
        self.docker.execute(self.container, "python3", FRONT, "switches", stdin=json.dumps(switches))

    def with_policy(self) -> frozenset[str]:
        """Name the buckets that have a policy."""
        return frozenset(self.docker.execute(self.container, "python3", FRONT, "policies").split())

    def buckets(self) -> tuple[tuple[str, str], ...]:
        """List (region, bucket) of every Space; none while Spaces are stopped."""
        if not self.docker.running(self.container):
            return ()
        # There is no folder before the first bucket.
        script = "cd /data/buckets 2>/dev/null || exit 0; find . -mindepth 2 -maxdepth 2 -type d"
        found = self.docker.execute(self.container, "sh", "-c", script)
        pairs = sorted(tuple(line.split("/")[1:3]) for line in found.splitlines())
        return tuple((region, bucket) for region, bucket in pairs if not bucket.startswith("."))

    def leaks(self, world: World) -> list[str]:
        """Name the buckets for which no key is granted, and that no CDN stands before."""
        explained = {bucket for key in world.spaces_keys for bucket, _ in key.grants}
        explained |= {cdn.origin.split(".")[0] for cdn in world.cdns}
        return [f"bucket {region}/{bucket}" for region, bucket in self.buckets() if bucket not in explained]
