"""The container registry: Debian's docker-registry behind the edge; local images are pushed straight into it."""

from __future__ import annotations

import json
import subprocess

from sandbox.parts.base import PartError
from sandbox.parts.docker import Docker, label_options
from sandbox.parts.images import Images
from sandbox.parts.instance import Instance
from sandbox.parts.network import Networks

LOCAL = "http://127.0.0.1:5000/v2"
MANIFESTS = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


class Registry:
    """The registry of one instance."""

    def __init__(self, instance: Instance, docker: Docker, images: Images, networks: Networks) -> None:
        self.instance, self.docker, self.images, self.networks = instance, docker, images, networks

    @property
    def container(self) -> str:
        """The registry's container."""
        return self.instance.thing("registry")

    @property
    def volume(self) -> str:
        """The volume of its layers."""
        return self.instance.thing("registry", "data")

    def ensure(self) -> bool:
        """Create and start the registry if it is not there; False when it ran."""
        if self.docker.running(self.container):
            return False
        if self.docker.inspect("container", self.container) is None:
            self.docker.ensure_volume(self.volume, self.instance.labels)
            self.docker.create(
                self.container,
                self.images.image("parts"),
                [
                    *label_options(self.instance.labels), "--network", self.networks.backbone,
                    "--ip", self.instance.plan.inner("registry"), "--restart", "unless-stopped",
                    "--volume", f"{self.volume}:/var/lib/registry",
                ],
                ["docker-registry", "serve", "/etc/sandbox/registry.yml"],
            )  # fmt: skip
        self.docker.start(self.container)
        return True

    def _get(self, path: str) -> str:
        return self.docker.execute(
            self.container, "curl", "-sf", "--retry", "20", "--retry-connrefused", "--retry-delay", "1",
            "-H", f"Accept: {MANIFESTS}", f"{LOCAL}/{path}", check=False,
        )  # fmt: skip

    def repositories(self) -> tuple[str, ...]:
        """Name every repository, registry name first."""
        catalog = json.loads(self._get("_catalog?n=1000") or "{}")
        return tuple(catalog.get("repositories") or ())

    def push(self, image: str, target: str) -> bool:
        """Put a local image under `target` (name/repository:tag); False when the registry has the very same image.

        Raises:
            PartError: no such image here, or the copy failed.
        """
        local = self.docker.run("image", "inspect", "--format", "{{.Id}}", image)
        repository, _, tag = target.rpartition(":")
        if not repository:
            raise PartError(f"push: {target} has no tag; use REPOSITORY:TAG")
        manifest = json.loads(self._get(f"{repository}/manifests/{tag}") or "{}")
        if manifest.get("config", {}).get("digest") == local:
            return False
        # skopeo seeks in the archive, so it lands in a file first; the target is the shell's argument, never its text.
        script = (
            'file=$(mktemp); trap "rm -f $file" EXIT; cat > "$file"; '
            "skopeo copy --quiet --insecure-policy --dest-tls-verify=false "
            '"docker-archive:$file" "docker://127.0.0.1:5000/$1"'
        )
        copy = ["docker", "exec", "--interactive", self.container, "sh", "-euc", script, "push", target]
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            done = subprocess.run(copy, stdin=saved.stdout, capture_output=True, check=False, text=True)
        if done.returncode != 0 or saved.returncode != 0:
            lines = done.stderr.strip().splitlines()
            raise PartError(f"push {image}: {lines[-1] if lines else 'docker save failed'}")
        return True

    def digest(self, target: str) -> str:
        """The manifest's digest, `sha256:…`, by which a machine pulls it.

        Raises:
            PartError: the registry has no such image.
        """
        repository, _, tag = target.rpartition(":")
        head = self.docker.execute(
            self.container,
            "curl",
            "-sfI",
            "-H",
            f"Accept: {MANIFESTS}",
            f"{LOCAL}/{repository}/manifests/{tag}",
            check=False,
        )
        for line in head.splitlines():
            name, _, value = line.partition(":")
            if name.lower() == "docker-content-digest":
                return value.strip()
        raise PartError(f"registry: no image {target}")
