"""The HTTP proxy on loopback: gives programs of this machine the sandbox's names (CONNECT and absolute-form)."""

from __future__ import annotations

from sandbox.parts.docker import Docker, label_options
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
        if self.docker.running(self.container):
            return False
        if self.docker.inspect("container", self.container) is None:
            plan = self.instance.plan
            self.docker.create(
                self.container,
                self.images.image("parts"),
                [
                    *label_options(self.instance.labels),
                    "--network", self.networks.public, "--ip", plan.infrastructure("proxy"),
                    "--dns", plan.infrastructure("resolver"), "--restart", "unless-stopped",
                    "--publish", f"127.0.0.1:{self.instance.proxy_port}:{PORT}",
                ],
                ["tinyproxy", "-d", "-c", "/etc/sandbox/tinyproxy.conf"],
            )  # fmt: skip
        self.docker.start(self.container)
        return True
