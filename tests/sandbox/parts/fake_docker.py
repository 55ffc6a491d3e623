"""A Docker of values: containers, networks and volumes in memory, which can fail at the n-th call, before or after it.

It stands where `docker` is run (`Docker(program=…)`), so the parts' own code runs whole, in milliseconds. Each disk and
each volume has a mark of its own: data is lost when a mark is gone.
"""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_FLAGS = frozenset({"--all", "--force", "--volumes", "--quiet", "--interactive", "--rm", "--internal"})
UNREACHABLE = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


class Killed(BaseException):
    """The process of the sandbox was killed here."""


class RefusedError(Exception):
    """Docker's answer to a call that it cannot do."""


@dataclass(eq=False)
class Thing:
    """A container, network or volume. `mark` is what is on it; empty until something ran that may write."""

    labels: dict[str, str]
    mark: str = ""
    image: str = ""
    running: bool = False
    options: dict[str, list[str]] = field(default_factory=dict)
    networks: dict[str, Thing | None] = field(default_factory=dict[str, "Thing | None"])
    addresses: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    subnet: str = ""

    @property
    def mounts(self) -> list[str]:
        """The named volumes."""
        named = (option.split(":")[0] for option in self.options.get("--volume", []))
        return [name for name in named if not name.startswith("/")]


def parse(arguments: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Split options with their values from the rest, which begins at the first other word after them."""
    options: dict[str, list[str]] = {}
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("--"):
            return options, [word, *rest]
        options.setdefault(word, []).append("" if word in _FLAGS else next(rest))
    return options, []


class FakeDocker:
    """Runs `docker` command lines. Set `fail_at` (from 1), `after` and `killed` to let one of them fail."""

    def __init__(self) -> None:
        self.things: dict[str, dict[str, Thing]] = {"container": {}, "network": {}, "volume": {}}
        self.lines: list[str] = []
        self.limits: dict[str, float] = {}  # the longest of each command, by its line
        self.fail_at = 0
        self.after = self.killed = False
        self.mute: set[str] = set()  # verbs that never succeed
        self._marks: Iterator[int] = itertools.count(1)
        self._lock = threading.Lock()

    def arm(self, fail_at: int = 0, *, after: bool = False, killed: bool = False) -> None:
        """Count from here on, and fail at this call (0: at none)."""
        self.lines, self.fail_at, self.after, self.killed = [], fail_at, after, killed

    def __call__(self, command: list[str], stdin: bytes | None, timeout: float) -> subprocess.CompletedProcess[bytes]:
        with self._lock:
            self.lines.append(" ".join(command[1:4]))
            self.limits[" ".join(command[1:])] = timeout
            over = len(self.lines) == self.fail_at
            if over and not self.after:
                return self._fail(command)
            if self.killed and self.fail_at and len(self.lines) > self.fail_at:
                raise Killed  # nothing of it runs any more
            if " ".join(command[1:3]) in self.mute or command[1] in self.mute:
                return subprocess.CompletedProcess(command, 1, b"", UNREACHABLE.encode())
            try:
                out = getattr(self, f"_{command[1]}")(command[2:], stdin or b"")
            except RefusedError as error:
                return subprocess.CompletedProcess(command, 1, b"", str(error).encode())
            if over:
                return self._fail(command)
        return subprocess.CompletedProcess(command, 0, out if isinstance(out, bytes) else str(out).encode(), b"")

    def _fail(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        if self.killed:
            raise Killed
        return subprocess.CompletedProcess(command, 1, b"", UNREACHABLE.encode())

    def _one(self, kind: str, name: str) -> Thing:
        try:
            return self.things[kind][name]
        except KeyError:
            said = {"container": f"No such container: {name}", "network": f"network {name} not found"}
            raise RefusedError(f"Error response from daemon: {said.get(kind, f'get {name}: no such {kind}')}") from None

    # Commands, by name.

    def _list(self, kind: str, options: dict[str, list[str]]) -> str:
        label, _, value = options["--filter"][0].removeprefix("label=").partition("=")
        if label == "driver":
            return "\n".join(self.things[kind])
        found = (
            name
            for name, thing in self.things[kind].items()
            if label in thing.labels and value in ("", thing.labels[label])
            if kind != "container" or "--all" in options or thing.running
        )
        return "\n".join(found)

    def _ps(self, arguments: list[str], _: bytes) -> str:
        return self._list("container", parse(arguments)[0])

    def _inspect(self, arguments: list[str], _: bytes) -> str:
        options, (name,) = parse(arguments)
        kind = options["--type"][0]
        thing = self._one(kind, name)
        value: dict[str, Any] = {"Name": name}
        if kind == "container":
            state = "running" if thing.running else "exited" if thing.mark else "created"
            value |= {"State": {"Running": thing.running, "Status": state}, "Config": {"Labels": thing.labels}}
            asked = {name: {"IPv4Address": address} for name, address in thing.addresses.items()}
            value["NetworkSettings"] = {"Networks": {name: {"IPAMConfig": asked.get(name)} for name in thing.networks}}
        elif kind == "network":
            value |= {"IPAM": {"Config": [{"Subnet": thing.subnet}]}, "Options": {}}
            value["Internal"] = "--internal" in thing.options
        return json.dumps([value])

    def _labels(self, options: dict[str, list[str]]) -> dict[str, str]:
        return dict(label.split("=", 1) for label in options.get("--label", []))

    def _create(self, arguments: list[str], _: bytes) -> str:
        options, (image, *_command) = parse(arguments)
        (name,) = options["--name"]
        if name in self.things["container"]:
            raise RefusedError(f'Conflict. The container name "/{name}" is already in use')
        thing = Thing(
            labels=self._labels(options), image=image, options=options, networks={options["--network"][0]: None}
        )
        thing.addresses[options["--network"][0]] = options["--ip"][0]
        for volume in thing.mounts:
            self._one("volume", volume)
        self.things["container"][name] = thing
        return name

    def _run(self, arguments: list[str], _: bytes) -> str:
        options, _rest = parse(arguments)
        for option in options["--volume"]:
            volume, _, place = option.partition(":")
            if not place.endswith(":ro"):
                self.things["volume"][volume].mark = f"filled-{next(self._marks)}"
        return ""

    def _start(self, arguments: list[str], _: bytes) -> str:
        thing = self._one("container", arguments[0])
        for name, network in thing.networks.items():
            found = self._one("network", name)
            if network not in (None, found):
                raise RefusedError(
                    f"Error response from daemon: network id-of-{name} not found\nError: failed to start"
                )
            thing.networks[name] = found
        thing.running = True
        for written in (thing, *(self._one("volume", volume) for volume in thing.mounts)):
            written.mark = written.mark or f"data-{next(self._marks)}"
        return ""

    def _stop(self, arguments: list[str], _: bytes) -> str:
        self._one("container", parse(arguments)[1][0]).running = False
        return ""

    def _restart(self, arguments: list[str], _: bytes) -> str:
        return self._start(parse(arguments)[1], b"")

    def _update(self, arguments: list[str], _: bytes) -> str:
        self._one("container", parse(arguments)[1][0])
        return ""

    def _rm(self, arguments: list[str], _: bytes) -> str:
        name = parse(arguments)[1][0]
        self._one("container", name)
        del self.things["container"][name]
        return ""

    def _rename(self, arguments: list[str], _: bytes) -> str:
        old, new = arguments
        if new in self.things["container"]:
            raise RefusedError(f'Conflict. The container name "/{new}" is already in use')
        thing = self._one("container", old)
        del self.things["container"][old]
        self.things["container"][new] = thing
        return ""

    def _cp(self, arguments: list[str], stdin: bytes) -> bytes:
        source, target = arguments
        if source == "-":
            files = self._one("container", target.partition(":")[0]).files
            with tarfile.open(fileobj=io.BytesIO(stdin)) as tar:
                for member in tar:
                    data = tar.extractfile(member)
                    files[f"/{member.name}"] = data.read().decode() if data else ""
            return b""
        name, _, folder = source.partition(":")
        prefix = folder.removesuffix(".")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path, text in self._one("container", name).files.items():
                if path.startswith(prefix):
                    info = tarfile.TarInfo(f"./{path.removeprefix(prefix)}")
                    info.size = len(text.encode())
                    tar.addfile(info, io.BytesIO(text.encode()))
        return packed.getvalue()

    def _exec(self, arguments: list[str], _: bytes) -> str:
        _, (name, *_command) = parse(arguments)
        if not self._one("container", name).running:
            raise RefusedError(f"Container {name} is not running")
        return ""

    def _logs(self, arguments: list[str], _: bytes) -> str:
        self._one("container", arguments[-1])
        return ""

    def _network(self, arguments: list[str], _: bytes) -> str:
        verb, *rest = arguments
        options, names = parse(rest)
        networks = self.things["network"]
        match verb:
            case "ls":
                return self._list("network", options)
            case "create":
                if names[0] in networks:
                    raise RefusedError(f"network with name {names[0]} already exists")
                networks[names[0]] = Thing(labels=self._labels(options), subnet=options["--subnet"][0], options=options)
            case "connect":
                thing = self._one("container", names[1])
                thing.networks[names[0]] = self._one("network", names[0])
                if "--ip" in options:
                    thing.addresses[names[0]] = options["--ip"][0]
            case "disconnect":
                thing = self._one("container", names[1])
                del thing.networks[names[0]]
                thing.addresses.pop(names[0], None)
            case _:
                self._one("network", names[0])
                users = [name for name, thing in self.things["container"].items() if thing.running]
                if any(names[0] in self.things["container"][name].networks for name in users):
                    raise RefusedError(f"error while removing network: network {names[0]} has active endpoints")
                del networks[names[0]]
        return ""

    def _volume(self, arguments: list[str], _: bytes) -> str:
        verb, *rest = arguments
        options, names = parse(rest)
        volumes = self.things["volume"]
        match verb:
            case "ls":
                return self._list("volume", options)
            case "create":
                volumes.setdefault(names[0], Thing(labels=self._labels(options)))
            case _:
                if any(names[0] in thing.mounts for thing in self.things["container"].values()):
                    raise RefusedError(f"remove {names[0]}: volume is in use")
                volumes.pop(names[0], None)
        return ""
