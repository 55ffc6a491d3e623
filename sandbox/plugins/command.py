"""`pulumi-resource-command`: commands of this machine. Commands over SSH are refused by name."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

from pulumi.runtime.proto import provider_pb2_grpc

from sandbox.plugins import serving
from sandbox.plugins.engine_log import EngineLog
from sandbox.plugins.fields import Field, boolean, coerce, list_of, mapping, one_of, string
from sandbox.plugins.globs import matching
from sandbox.plugins.provider import Checked, Difference, Found, Provider, Servicer
from sandbox.plugins.resource import ProviderError
from sandbox.plugins.values import UNKNOWN, Secret, Unknown, Values, contains_secret, contains_unknown, reveal

VERSION: Final = "1.2.1"
_LOCAL: Final = "command:local:Command"
_RUN: Final = "command:local:run"
_ASSET: Final = {"4dabf18193072939515e22adb298388d": "c44067f5952c0a294b673a41bacd8c17"}
_ARCHIVE: Final = {"4dabf18193072939515e22adb298388d": "0def7320c3a5731c473e5ecbe6d01bc7"}

_INPUTS: Final[dict[str, Field]] = {
    "interpreter": list_of(string()),
    "dir": string(),
    "environment": mapping(),
    "stdin": string(),
    "logging": string(check=one_of("stdout", "stderr", "stdoutAndStderr", "none")),
    "assetPaths": list_of(string()),
    "archivePaths": list_of(string()),
    "addPreviousOutputInEnv": boolean(),
}
_FIELDS: Final[dict[str, Field]] = {
    "create": string(),
    "update": string(),
    "delete": string(),
    "triggers": Field(kind="list", replace=True),
    **_INPUTS,
}
_OUTPUTS: Final = ("stdout", "stderr", "assets", "archive")


class Command(Provider):
    """`command:local:Command` and `command:local:run`."""

    version = VERSION
    accepts_secrets = True

    def __init__(self) -> None:
        super().__init__()
        self._running: set[int] = set()
        self._lock = threading.Lock()
        self._log = EngineLog()

    def check(self, token: str, old: Values, new: Values, name: Callable[[int], str]) -> Checked:
        """Judge inputs; there is nothing to complete."""
        del old, name
        _known(token)
        return Checked(new, _wrong(new, _FIELDS))

    def diff(self, token: str, state: Values, old: Values, new: Values, ignored: list[str]) -> Difference:
        """Compare what was given with what is given: `triggers` replaces, anything else runs the command again."""
        _known(token)
        before = old or {key: state.get(key) for key in _FIELDS}
        changes: dict[str, tuple[str, bool]] = {}
        for key, part in _FIELDS.items():
            was, is_ = reveal(before.get(key)), reveal(new.get(key))
            if key not in ignored and (was != is_ or contains_unknown(is_)):
                changes[key] = ("+" if was is None else "-" if is_ is None else "~", part.replace)
        return Difference(changes)

    def preview_create(self, token: str, inputs: Values) -> Values:
        """Every output waits for the run."""
        return _given(inputs) | {"stdout": UNKNOWN, "stderr": UNKNOWN}

    def create(self, token: str, urn: str, inputs: Values, timeout: float | None) -> tuple[str, Values]:
        """Run `create`."""
        _known(token)
        id_ = urn.rsplit("::", maxsplit=1)[-1] + secrets.token_hex(4)
        return id_, self._run(urn, inputs, inputs.get("create"), {}, timeout)

    def read(self, token: str, id_: str, state: Values, inputs: Values) -> Found | None:
        """A command leaves nothing to look at: it is as it was."""
        _known(token)
        if not state:
            raise ProviderError(f"{token} {id_}: a command cannot be imported")
        return Found(id_, state, inputs)

    def preview_update(self, token: str, state: Values, old: Values, new: Values) -> Values:
        """Every output waits for the run."""
        return _given(new) | {"stdout": UNKNOWN, "stderr": UNKNOWN}

    def update(self, token: str, id_: str, state: Values, old: Values, new: Values, timeout: float | None) -> Values:
        """Run `update`, or `create` where there is none."""
        _known(token)
        return self._run("", new, new.get("update") or new.get("create"), state, timeout)

    def delete(self, token: str, id_: str, state: Values, timeout: float | None) -> None:
        """Run `delete`, if there is one."""
        _known(token)
        if state.get("delete") is not None:
            self._run("", state, state["delete"], state, timeout)

    def invoke(self, token: str, arguments: Values) -> Values:
        """Run a command on every preview and update."""
        if token != _RUN:
            raise ProviderError(f"{token}: the sandbox's plugin does not have this function; use the official plugin")
        command = Field(required=True)
        wrong = _wrong(arguments, {**_INPUTS, "command": command})
        if wrong or arguments.get("command") is None:
            raise ProviderError(
                f"{token}: " + "; ".join(f"{key}: {why}" for key, why in wrong or [("command", "is required")])
            )
        return self._run("", arguments, arguments["command"], {}, None)

    def configure(self, config: Values, variables: dict[str, str]) -> None:
        """There is nothing to set."""

    def cancel(self) -> None:
        """End what runs, with its children."""
        super().cancel()
        with self._lock:
            for group in self._running:
                _kill_group(group)

    def _run(self, urn: str, inputs: Values, command: Any, before: Values, timeout: float | None) -> Values:
        """Run one command; returns the whole state. What it says is secret when anything it was given is."""
        state = _given(inputs)
        if command is None:
            return state | {key: before[key] for key in _OUTPUTS if before.get(key) is not None} or state
        given, said_before = reveal(state), reveal(before)
        out, err = self._execute(urn, given, str(reveal(command)), said_before, timeout)
        told: Values = {"stdout": out, "stderr": err}
        folder = Path(given.get("dir") or ".")
        if given.get("assetPaths") is not None:
            told["assets"] = {
                path: {**_ASSET, "path": str(folder / path)} for path in matching(folder, given["assetPaths"])
            }
        if given.get("archivePaths") is not None:
            members = {path: {**_ASSET, "path": str(folder / path)} for path in matching(folder, given["archivePaths"])}
            told["archive"] = {**_ARCHIVE, "assets": members}
        hidden = contains_secret(inputs) or any(contains_secret(before.get(key)) for key in _OUTPUTS)
        return state | ({key: Secret(value) for key, value in told.items()} if hidden else told)

    def _execute(self, urn: str, given: Values, command: str, before: Values, timeout: float | None) -> tuple[str, str]:
        environment = os.environ | (given.get("environment") or {})
        if given.get("addPreviousOutputInEnv") is not False:
            for key, variable in (("stdout", "PULUMI_COMMAND_STDOUT"), ("stderr", "PULUMI_COMMAND_STDERR")):
                if before.get(key):
                    environment[variable] = before[key]
        arguments = [*(given.get("interpreter") or ("/bin/sh", "-c")), command]
        try:
            # A session of its own, so that cancelling ends the command's children, too.
            process = subprocess.Popen(
                arguments,
                cwd=given.get("dir"),
                env=environment,
                stdin=subprocess.PIPE if given.get("stdin") else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ProviderError(f"{error.strerror}: {error.filename}: running {_quoted(command)}") from None
        return self._watch(urn, given, command, process, timeout)

    def _watch(
        self, urn: str, given: Values, command: str, process: subprocess.Popen[bytes], timeout: float | None
    ) -> tuple[str, str]:
        with self._lock:
            self._running.add(process.pid)
        if self.cancelled.is_set():
            _kill_group(process.pid)
        both = bytearray()
        texts = {"stdout": bytearray(), "stderr": bytearray()}
        logged = {"none": (), "stdout": ("stdout",), "stderr": ("stderr",)}.get(
            given.get("logging") or "", tuple(texts)
        )

        def pump(name: str, pipe: IO[bytes]) -> None:
            for line in pipe:
                texts[name] += line
                both.extend(line)
                if name in logged:
                    self._log.info(urn, line.decode(errors="replace").rstrip("\n"))

        assert process.stdout is not None
        assert process.stderr is not None
        pumps = [
            threading.Thread(target=pump, args=("stdout", process.stdout), daemon=True),
            threading.Thread(target=pump, args=("stderr", process.stderr), daemon=True),
        ]
        for thread in pumps:
            thread.start()
        late = threading.Timer(timeout, _kill_group, (process.pid,)) if timeout else None
        if late is not None:
            late.start()
        try:
            _feed(process, given.get("stdin"))
            for thread in pumps:
                thread.join()
            code = process.wait()
        finally:
            if late is not None:
                late.cancel()
            with self._lock:
                self._running.discard(process.pid)
        if code != 0:
            ended = f"signal: {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            raise ProviderError(f"{ended}: running {_quoted(command)}:\n{both.decode(errors='replace')}")
        return tuple(text.decode(errors="replace").removesuffix("\n") for text in texts.values())  # type: ignore[return-value] # two of them


def _known(token: str) -> None:
    if token != _LOCAL:
        raise ProviderError(
            f"{token}: the sandbox's plugin runs commands of this machine only; use the official plugin"
        )


def _wrong(given: Values, fields: dict[str, Field]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in given.items():
        part = fields.get(key)
        if part is None:
            found.append((key, "is not a property of a command"))
            continue
        plain = reveal(value)
        try:
            plain = coerce(plain, part)
        except ValueError as error:
            found.append((key, str(error)))
            continue
        if part.check is not None and plain is not None and not isinstance(plain, Unknown):
            why = part.check(plain)
            if why is not None:
                found.append((key, why))
    return found


def _given(inputs: Values) -> Values:
    return {key: inputs[key] for key in _FIELDS if inputs.get(key) is not None}


def _quoted(command: str) -> str:
    escaped = command.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def _feed(process: subprocess.Popen[bytes], text: str | None) -> None:
    if process.stdin is None:
        return
    try:
        process.stdin.write((text or "").encode())
        process.stdin.close()
    except BrokenPipeError:
        # It ended without reading: its exit status says what that means.
        pass


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def main() -> None:
    """Serve until the engine is done."""
    provider = Command()
    serving.serve(
        lambda server: provider_pb2_grpc.add_ResourceProviderServicer_to_server(Servicer(provider), server),
        provider.cancel,
    )


if __name__ == "__main__":
    main()
