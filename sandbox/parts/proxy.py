"""The HTTP proxy on loopback: gives programs of this machine the sandbox's names (CONNECT and absolute-form)."""

from __future__ import annotations

from sandbox.parts.container_spec import ContainerSpec
from sandbox.parts.service import Infrastructure

PORT = 8888


class Proxy(Infrastructure):
    """The proxy of one instance."""

    name = "proxy"

    def spec(self) -> ContainerSpec:
        """Tinyproxy, published on loopback."""
        plan = self.instance.plan
        return ContainerSpec(
            name=self.container,
            image=self.images.image("parts"),
            labels=self.instance.labels,
            options=(
                "--network", self.networks.public, "--ip", plan.infrastructure("proxy"),
                "--dns", plan.infrastructure("resolver"), "--restart", "unless-stopped",
                "--publish", f"127.0.0.1:{self.instance.proxy_port}:{PORT}",
            ),
            command=("tinyproxy", "-d", "-c", "/etc/sandbox/tinyproxy.conf"),
        )  # fmt: skip
