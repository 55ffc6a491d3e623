"""The container registry: Debian's docker-registry behind the edge; local images are pushed straight into it."""

from __future__ import annotations

import json
import subprocess

from sandbox.parts.base import PartError
from sandbox.parts.container_spec import ContainerSpec
from sandbox.parts.service import Infrastructure

PUSH_SECONDS = 600
LOCAL = "http://127.0.0.1:5000/v2"
MANIFESTS = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


class Registry(Infrastructure):
    """The registry of one instance."""

    name = "registry"
    has_volume = True

    def spec(self) -> ContainerSpec:
        """Debian's docker-registry, behind the edge alone."""
        return ContainerSpec(
            name=self.container,
            image=self.images.image("parts"),
            labels=self.instance.labels,
            options=(
                "--network", self.networks.backbone, "--ip", self.instance.plan.inner("registry"),
                "--restart", "unless-stopped", "--volume", f"{self.volume}:/var/lib/registry",
            ),
            command=("docker-registry", "serve", "/etc/sandbox/registry.yml"),
            volumes=(self.volume,),
        )  # fmt: skip

    def _get(self, path: str, *options: str) -> str:
        """Return what the registry answers; "" when it has no such thing.

        Raises:
            PartError: it answers nothing, or with another error.
        """
        shown = self.docker.execute(
            self.container, "curl", "-sS", "--retry", "20", "--retry-connrefused", "--retry-delay", "1",
            "--max-time", "30", *options, "--write-out", "\n%{http_code}", "-H", f"Accept: {MANIFESTS}",
            f"{LOCAL}/{path}",
        )  # fmt: skip
        body, _, status = shown.rpartition("\n")
        if status == "404":
            return ""
        if status != "200":
            raise PartError(f"registry: {path}: status {status}")
        return body

    def repositories(self) -> tuple[str, ...]:
        """Name every repository, registry name first."""
        catalog = json.loads(self._get("_catalog?n=1000") or "{}")
        return tuple(catalog.get("repositories") or ())

    def push(self, image: str, target: str) -> bool:
        """Put a local image under `target` (name/repository:tag); False when the registry has the very same image.

        Raises:
            PartError: no such image here, or the copy failed.
        """
        found = self.docker.inspect("image", image)
        if found is None:
            raise PartError(f"push: no image {image} on this computer")
        local = found["Id"]
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
            try:
                done = subprocess.run(
                    copy, stdin=saved.stdout, capture_output=True, check=False, text=True, timeout=PUSH_SECONDS
                )
            except subprocess.TimeoutExpired:
                saved.kill()
                raise PartError(f"push {image}: no end after {PUSH_SECONDS} s") from None
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
        for line in self._get(f"{repository}/manifests/{tag}", "--head").splitlines():
            name, _, value = line.partition(":")
            if name.lower() == "docker-content-digest":
                return value.strip()
        raise PartError(f"registry: no image {target}")
