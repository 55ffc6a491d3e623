"""`pulumi-language-python`: runs the program in a fresh interpreter, this one's."""

# ruff: noqa: ARG002, N802 - gRPC calls its methods by these names and with these arguments

from __future__ import annotations

import importlib.metadata
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

from sandbox.plugins import serving
from sandbox.plugins.children import end_group

_RUNNER: Final = Path(__file__).with_name("language_runner.py")
# The runner has told the person already; nothing more is to be said.
SHOWN: Final = 32


class Language(language_pb2_grpc.LanguageRuntimeServicer):
    """The language host. `engine` is the engine's address."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._running: set[int] = set()
        self._lock = threading.Lock()

    def Handshake(self, request: Any, context: Any) -> Any:
        """Take the engine's address."""
        self._engine = request.engine_address or self._engine
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        """Say the version: that of the SDK."""
        return plugin_pb2.PluginInfo(version=importlib.metadata.version("pulumi"))

    def About(self, request: Any, context: Any) -> Any:
        """Say which interpreter this is."""
        version = ".".join(str(part) for part in sys.version_info[:3])
        return language_pb2.AboutResponse(executable=sys.executable, version=version)

    def GetRequiredPlugins(self, request: Any, context: Any) -> Any:
        """Name the plugins of the installed SDKs."""
        return language_pb2.GetRequiredPluginsResponse(
            plugins=[
                plugin_pb2.PluginDependency(name=name, kind="resource", version=version, server=server)
                for name, version, server in _plugins()
            ]
        )

    def GetRequiredPackages(self, request: Any, context: Any) -> Any:
        """Name the plugins of the installed SDKs, as packages."""
        return language_pb2.GetRequiredPackagesResponse(
            packages=[
                plugin_pb2.PackageDependency(name=name, kind="resource", version=version, server=server)
                for name, version, server in _plugins()
            ]
        )

    def GetProgramDependencies(self, request: Any, context: Any) -> Any:
        """List what is installed, or what the program's requirements name when only that is asked for."""
        wanted = None if request.transitiveDependencies else _required(Path(request.info.program_directory or "."))
        found = {dist.name: dist.version for dist in importlib.metadata.distributions()}
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=name, version=version)
                for name, version in sorted(found.items())
                if wanted is None or _normal(name) in wanted
            ]
        )

    def InstallDependencies(self, request: Any, context: Any) -> Iterator[Any]:
        """Nothing to install: the program runs in the interpreter that runs this host."""
        text = f"the program runs in {sys.executable}; install its requirements there\n"
        yield language_pb2.InstallDependenciesResponse(stdout=text.encode())

    def RuntimeOptionsPrompts(self, request: Any, context: Any) -> Any:
        """Ask nothing."""
        return language_pb2.RuntimeOptionsResponse()

    def Template(self, request: Any, context: Any) -> Any:
        """Change nothing in a template."""
        return language_pb2.TemplateResponse()

    def Run(self, request: Any, context: Any) -> Any:
        """Run the program; an error that it has told the person itself is not told again."""
        folder = request.info.program_directory or request.pwd or "."
        program = Path(folder, request.info.entry_point or request.program or ".")
        # Settings and secrets go by a pipe: an argument or a variable would be in the process list.
        told = {
            "monitor": request.monitor_address,
            "engine": self._engine,
            "project": request.project,
            "root": request.info.root_directory,
            "stack": request.stack,
            "organization": request.organization or "organization",
            "parallel": request.parallel,
            "dry_run": request.dryRun,
            "config": dict(request.config),
            "secret_keys": list(request.configSecretKeys),
            "program": str(program),
            "arguments": list(request.args),
            "shown": SHOWN,
        }
        process = subprocess.Popen(
            [sys.executable, "-u", str(_RUNNER)],
            cwd=request.pwd or folder,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        with self._lock:
            self._running.add(process.pid)
        context.add_callback(lambda: end_group(process.pid) if process.poll() is None else None)
        process.communicate(json.dumps(told).encode())
        with self._lock:
            self._running.discard(process.pid)
        code = process.returncode
        if code == SHOWN:
            return language_pb2.RunResponse(bail=True)
        error = "" if code == 0 else f"the program ended with {_ended(code)}"
        return language_pb2.RunResponse(error=error)

    def Cancel(self, request: Any, context: Any) -> Any:
        """End the program."""
        self.cancel()
        return empty_pb2.Empty()

    def cancel(self) -> None:
        """End the program, with its children."""
        with self._lock:
            for group in self._running:
                end_group(group)


def _ended(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _plugins() -> list[tuple[str, str, str]]:
    """Find (name, version, server) of the plugins that installed packages need, each told in a pulumi-plugin.json."""
    found: dict[str, tuple[str, str, str]] = {}
    for dist in importlib.metadata.distributions():
        for file in dist.files or ():
            if file.name == "pulumi-plugin.json" and len(file.parts) == 2:
                told = json.loads(Path(str(dist.locate_file(file))).read_text())
                if told.get("resource"):
                    version = told.get("version") or dist.version
                    found[told["name"]] = (told["name"], f"v{version.removeprefix('v')}", told.get("server", ""))
    return sorted(found.values())


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _required(folder: Path) -> set[str]:
    requirements = folder / "requirements.txt"
    if not requirements.is_file():
        return set()
    lines = (line.split("#")[0].strip() for line in requirements.read_text().splitlines())
    names = (line.split("==")[0].split(">")[0].split("<")[0].split("~")[0].split("[")[0] for line in lines)
    return {_normal(name.strip()) for name in names if name.strip() and not name.startswith("-")}


def main() -> None:
    """Serve until the engine is done."""
    addresses = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    language = Language(addresses[-1] if addresses else "")

    def register(server: grpc.Server) -> None:
        language_pb2_grpc.add_LanguageRuntimeServicer_to_server(language, server)

    serving.serve(register, language.cancel)


if __name__ == "__main__":
    main()
