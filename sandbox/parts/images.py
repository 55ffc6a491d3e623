"""The local images: `droplet` (a small server), `cluster-<major>` (PostgreSQL), `parts` (the rest), `app` (for apps).

Tagged by the hash of all that goes in, so an unchanged image is never built again. The base is the official image where
images can be pulled; where they cannot, debootstrap makes it from the mirror that this machine's apt uses.
"""

from __future__ import annotations

import configparser
import contextlib
import datetime as dt
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sandbox.parts.authority import Authority, cache_folder
from sandbox.parts.base import PartError
from sandbox.parts.docker import Docker

SOURCES = Path(__file__).parent.parent / "images"
IMAGE_LABEL = "ancla.sandbox.image"
POSTGRES_RELEASES = {"15": "bookworm", "17": "trixie", "18": "forky"}
"""Major versions of PostgreSQL, and the Debian release that has each; none has two."""
DROPLETS = {
    "ubuntu-22-04-x64": "droplet-22.04",
    "ubuntu-24-04-x64": "droplet",
    "ubuntu-26-04-x64": "droplet-26.04",
    "debian-13-x64": "droplet-debian-13",
}
"""The kind of local image for each image of DigitalOcean."""
BASES: dict[str, tuple[str, str | None]] = {
    "droplet": ("ubuntu:24.04", "bookworm"),
    "parts": ("debian:bookworm-slim", None),
    "app": ("debian:bookworm-slim", None),
    "droplet-22.04": ("ubuntu:22.04", "bookworm"),
    "droplet-26.04": ("ubuntu:26.04", "forky"),
    "droplet-debian-13": ("debian:trixie", "trixie"),
    **{f"cluster-{major}": (f"debian:{release}-slim", release) for major, release in POSTGRES_RELEASES.items()},
}
"""What each kind of image is made of: an official image, and where that cannot be pulled a Debian release; None is this
machine's own. The droplet of 24.04 stays on bookworm: trixie has no client of PostgreSQL 15, which the clusters are."""
ON_DEMAND = frozenset(BASES) - {"droplet", "parts", "app", "cluster-15"}
"""Built when something asks for them: the environments of this repository need none."""
DEBOOTSTRAP_SCRIPTS = Path("/usr/share/debootstrap/scripts")
DEBOOTSTRAP_INCLUDE = "ca-certificates,systemd,systemd-sysv,dbus"
PULL_SECONDS = 90
OLD_DAYS = 7
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "no-index")


@dataclass(frozen=True)
class AptTarget:
    """One line of this machine's package sources."""

    site: str
    release: str
    component: str


def read_os_release() -> dict[str, str]:
    """/etc/os-release as a mapping; empty where there is none."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def apt_targets() -> list[AptTarget]:
    """The package sources this machine itself uses, as apt reads them; empty without apt."""
    if shutil.which("apt-get") is None:
        return []
    command = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    lines = subprocess.run(command, capture_output=True, check=False, text=True).stdout.splitlines()
    return [AptTarget(*line.split()) for line in dict.fromkeys(lines) if len(line.split()) == 3]


@cache
def apt_settings() -> str:
    """This machine's apt settings that reach the network: proxies, certificates, date checks."""
    if shutil.which("apt-config") is None:
        return ""
    dump = subprocess.run(
        ["apt-config", "dump", "--format", '%f "%v";%n', "Acquire"], capture_output=True, check=False, text=True
    ).stdout
    wanted = ("::proxy", "::verify-", "::cainfo", "::check-", "::retries", "::timeout")
    return "".join(f"{line}\n" for line in dump.splitlines() if any(word in line.lower() for word in wanted))


@cache
def pip_settings() -> str:
    """This machine's pip settings that reach an index, as a pip.conf; files and variables as pip itself reads them."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    files = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", Path.home() / ".pip/pip.conf", f"{config}/pip/pip.conf")
    parser = configparser.RawConfigParser()
    parser.read([*files, os.environ.get("PIP_CONFIG_FILE", "")], encoding="utf-8")
    lines = ["[global]"]
    for name in PIP_SETTINGS:
        value = os.environ.get(f"PIP_{name.upper().replace('-', '_')}") or parser.get("global", name, fallback="")
        if value:
            lines.append(f"{name} = {' '.join(value.split())}")
    # A droplet's own bundle has this machine's added authorities and the sandbox's.
    lines.append("cert = /etc/ssl/certs/ca-certificates.crt")
    return "\n".join(lines) + "\n"


def added_authorities() -> dict[str, str]:
    """Certificates the owner of this machine added to its trust, by file name."""
    found: dict[str, str] = {}
    for folder in ("/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors"):
        for file in sorted(Path(folder).glob("**/*")):
            if file.is_file() and file.suffix in (".crt", ".pem"):
                found[f"{file.stem}.crt"] = file.read_text(encoding="utf-8")
    return found


def find_tool(name: str) -> Path:
    """A pinned tool: `$ANCLA_TOOLS/NAME`, else on PATH, else where `make tools` keeps it (`<cache>/tools/NAME-…/NAME`).

    Raises:
        PartError: it is nowhere.
    """
    tools = os.environ.get("ANCLA_TOOLS")
    kept = sorted((cache_folder() / "tools").glob(f"{name}-*/{name}"), reverse=True)
    for candidate in (Path(tools) / name if tools else None, shutil.which(name), *kept):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    raise PartError(
        f"{name}: not found; `make tools` builds it (looked in $ANCLA_TOOLS, on PATH and in {cache_folder()}/tools)"
    )


def _quiet(_: str) -> None:
    """Take a line of progress and say nothing."""


class Images:
    """Builds the images when what goes in has changed. `say` gets one line for each step."""

    def __init__(self, docker: Docker, authority: Authority, say: Callable[[str], None] = _quiet) -> None:
        self.docker, self.authority, self.say = docker, authority, say
        self._tags: dict[str, str] = {}
        self._online = True

    def ensure(self, *, rebuild: bool = False) -> dict[str, str]:
        """Build what is missing and always needed; returns the name of each image by its kind."""
        return {kind: self.image(kind, rebuild=rebuild) for kind in BASES if kind not in ON_DEMAND}

    def remove_old(self) -> None:
        """Remove images of earlier versions, unless a container is made of one.

        Only when they are some days old: another checkout on this computer may be at another version.
        """
        label = f"label={IMAGE_LABEL}"
        names = self.docker.run("image", "ls", "--filter", label, "--format", "{{.Repository}}:{{.Tag}}").split()
        newest = dt.datetime.now(dt.UTC) - dt.timedelta(days=OLD_DAYS)
        ours = {name for name in names if name.partition(":")[0] in {f"ancla-sandbox-{kind}" for kind in BASES}}
        for name in sorted(ours - set(self._tags.values())):
            found = self.docker.inspect("image", name)
            if found and found["Created"][:19] < newest.strftime("%Y-%m-%dT%H:%M:%S"):
                with contextlib.suppress(PartError):  # a droplet keeps the image it was made of
                    self.docker.run("image", "rm", name)
                    self.say(f"{name}: removed, it is of an earlier version")

    def droplet(self, slug: str) -> str:
        """Return the local image for an image of DigitalOcean, built first if it is not there."""
        return self.image(DROPLETS.get(slug, "droplet"))

    def image(self, kind: str, *, rebuild: bool = False) -> str:
        """The image's name, built first if it is not there."""
        if kind in self._tags and not rebuild:
            return self._tags[kind]
        context = self._context(kind)
        digest = hashlib.sha256((BASES[kind][1] or "").encode())
        for path, (data, mode) in sorted(context.items()):
            digest.update(f"{path}\0{mode:o}\0{len(data)}\0".encode())
            digest.update(data)
        name = f"ancla-sandbox-{kind}:{digest.hexdigest()[:12]}"
        if rebuild or not self.docker.run("image", "ls", "--quiet", name):
            self._build(kind, name, context)
        self._tags[kind] = name
        return name

    def _context(self, kind: str) -> dict[str, tuple[bytes, int]]:
        """Every file of the build context: the tracked ones, and under machine/ this machine's own."""
        files: dict[str, tuple[bytes, int]] = {}
        folder = SOURCES / kind.partition("-")[0]
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                files[str(file.relative_to(folder))] = (file.read_bytes(), 0o755 if "/sbin/" in str(file) else 0o644)
        machine = {
            "etc/apt/apt.conf.d/90machine": apt_settings(),
            "etc/pip.conf": pip_settings(),
            "usr/local/share/ca-certificates/ancla-sandbox.crt": self.authority.certificate(),
            **{f"usr/local/share/ca-certificates/{name}": text for name, text in added_authorities().items()},
        }
        for path, text in machine.items():
            files[f"machine/{path}"] = (text.encode(), 0o644)
        if kind == "parts":
            files["versitygw"] = (find_tool("versitygw").read_bytes(), 0o755)
        return files

    def _build(self, kind: str, name: str, context: dict[str, tuple[bytes, int]]) -> None:
        base = self._base(kind)
        self.say(f"{kind}: building {name} from {base} (a few minutes, once)")
        major = kind.removeprefix("cluster-")
        with tempfile.TemporaryDirectory(prefix="ancla-image-") as folder:
            for path, (data, mode) in context.items():
                target = Path(folder, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                target.chmod(mode)
            log = Path(folder, ".build.log")
            with log.open("wb") as output:
                done = subprocess.run(
                    [
                        "docker",
                        "build",
                        "--build-arg",
                        f"BASE={base}",
                        *(["--build-arg", f"MAJOR={major}"] if major != kind else []),
                        "--label",
                        f"{IMAGE_LABEL}={kind}",
                        "--tag",
                        name,
                        folder,
                    ],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    check=False,
                )
            if done.returncode != 0:
                kept = cache_folder() / f"sandbox-image-{kind}.log"
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(log, kept)
                raise PartError(f"image {kind}: the build failed (exit code {done.returncode}); the log is {kept}")
        self.say(f"{kind}: built")

    def _base(self, kind: str) -> str:
        official, release = BASES[kind]
        if self.docker.run("image", "ls", "--quiet", official) or (self._online and self._pulled(official)):
            return official
        return self._debootstrapped(release)

    def _pulled(self, image: str) -> bool:
        self.say(f"pulling {image}")
        try:
            self.docker.run("pull", "--quiet", image, timeout=PULL_SECONDS)
        except PartError:
            self.say(f"{image}: cannot be pulled here; debootstrap makes the base instead")
            self._online = False
            return False
        return True

    def _debootstrapped(self, release: str | None) -> str:
        """Return an image of a Debian release, or of this machine's own, from the mirror its apt uses."""
        own = read_os_release().get("VERSION_CODENAME", "")
        codename = release or own
        targets = [target for target in apt_targets() if target.release.split("-")[0] == own]
        mirror = next((target.site for target in targets if target.release == own), None)
        if mirror is None:
            raise PartError("base image: it cannot be pulled, and this machine has no apt sources to make it from")
        name = f"ancla-sandbox-base:{codename}"
        if self.docker.run("image", "ls", "--quiet", name):
            return name
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise PartError(
                "base image: it cannot be pulled; making it takes root, and debootstrap (apt-get install debootstrap)"
            )
        if codename != own:  # its updates may be elsewhere
            targets = [AptTarget(mirror, codename, "main")]
        self.say(f"base: debootstrap of {codename} (about 90 s, once)")
        with tempfile.TemporaryDirectory(prefix="ancla-base-", dir=_roomy_folder()) as folder:
            command = ["debootstrap", "--variant=minbase", f"--include={DEBOOTSTRAP_INCLUDE}", codename, folder, mirror]
            if not (DEBOOTSTRAP_SCRIPTS / codename).exists():  # a release that is newer than this debootstrap
                command.append("sid")
            done = subprocess.run(command, capture_output=True, check=False, text=True)
            if done.returncode != 0:
                raise PartError(f"base image: debootstrap: {(done.stdout.strip().splitlines() or ['failed'])[-1]}")
            sources = "".join(f"deb {target.site} {target.release} {target.component}\n" for target in targets)
            Path(folder, "etc/apt/sources.list").write_text(sources, encoding="utf-8")
            self._import(folder, name)
        return name

    def _import(self, folder: str, name: str) -> None:
        tar = ["tar", "--directory", folder, "--exclude=./var/cache/apt/archives/*.deb", "--create", "--file", "-", "."]
        with subprocess.Popen(tar, stdout=subprocess.PIPE) as packed:
            command = ["docker", "import", "--change", f"LABEL {IMAGE_LABEL}=base", "-", name]
            done = subprocess.run(command, stdin=packed.stdout, capture_output=True, check=False, text=True)
        if done.returncode != 0 or packed.returncode != 0:
            raise PartError(f"base image: docker import: {done.stderr.strip() or 'tar failed'}")


def _roomy_folder() -> str | None:
    """Not /tmp where it is memory or mounted without devices: the cache folder will do."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)
