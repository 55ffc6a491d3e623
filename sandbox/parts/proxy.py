"""The HTTP proxy on loopback: gives programs of this machine the sandbox's names (CONNECT and absolute-form)."""

from __future__ import annotations

from sandbox.parts.container_spec import ContainerSpec, ensure
from sandbox.parts.docker import Docker
from sandbox.parts.images import Images
from sandbox.parts.instance import Instance
from sandbox.parts.network import Networks

PORT = 8888


class Proxy:
    """The proxy of one instance."""

    def __init__(self, instance: Instance, docker: Docker, images: Images, networks: Networks) -> None:
        self.instance, self.docker, self.images, self.networks = instance, docker, images, networks

    @property
    def container(self) -> str:
        """The proxy's container."""
        return self.instance.thing("proxy")

    def ensure(self) -> bool:
        """Create and start the proxy if it is not there; False when it ran."""
        plan = self.instance.plan
        spec = ContainerSpec(
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
        return ensure(self.docker, spec)
