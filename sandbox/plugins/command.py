"""`pulumi-resource-command`: commands of this machine. Commands over SSH are refused by name."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sandbox.plugins.children import Children, Order
from sandbox.plugins.engine_log import EngineLog
from sandbox.plugins.errors import ProviderError
from sandbox.plugins.fields import Field, boolean, coerce, list_of, mapping, one_of, string
from sandbox.plugins.globs import matching
from sandbox.plugins.provider import Asked, Checked, Difference, Found, Provider, serve
from sandbox.plugins.values import UNKNOWN, Unknown, Values, contains_secret, contains_unknown, reveal

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
        self._children = Children()
        self._log = EngineLog()

    def check(self, asked: Asked, name: Callable[[int], str]) -> Checked:
        """Judge inputs; there is nothing to complete."""
        del name
        _known(asked)
        return Checked(asked.inputs, _wrong(asked.inputs, _FIELDS))

    def diff(self, asked: Asked) -> Difference:
        """Compare what was given with what is given: `triggers` replaces, anything else runs the command again."""
        _known(asked)
        before = asked.old or {key: asked.state.get(key) for key in _FIELDS}
        changes: dict[str, tuple[str, bool]] = {}
        for key, part in _FIELDS.items():
            was, is_ = reveal(before.get(key)), reveal(asked.inputs.get(key))
            if key not in asked.ignored and (was != is_ or contains_unknown(is_)):
                changes[key] = ("+" if was is None else "-" if is_ is None else "~", part.replace)
        return Difference(changes)

    def preview_create(self, asked: Asked) -> Values:
        """Every output waits for the run."""
        _known(asked)
        state = _given(asked.inputs)
        more = {"assets": state.get("assetPaths"), "archive": state.get("archivePaths")}
        waiting = ["stdout", "stderr", *(key for key, paths in more.items() if paths is not None)]
        return state | dict.fromkeys(waiting, UNKNOWN)

    def create(self, asked: Asked) -> tuple[str, Values]:
        """Run `create`."""
        _known(asked)
        id_ = asked.urn.split("::")[-1] + secrets.token_hex(4)
        return id_, self._run(asked, asked.inputs.get("create"))

    def read(self, asked: Asked) -> Found | None:
        """A command leaves nothing to look at: it is as it was."""
        _known(asked)
        if not asked.state:
            raise ProviderError(f"{asked.token} {asked.id}: a command cannot be imported")
        return Found(asked.id, asked.state, asked.inputs)

    def preview_update(self, asked: Asked) -> Values:
        """Every output waits for the run."""
        return self.preview_create(asked)

    def update(self, asked: Asked) -> Values:
        """Run `update`, or `create` where there is none."""
        _known(asked)
        return self._run(asked, asked.inputs.get("update") or asked.inputs.get("create"))

    def delete(self, asked: Asked) -> None:
        """Run `delete`, if there is one."""
        _known(asked)
        if asked.state.get("delete") is not None:
            self._run(replace(asked, inputs=asked.state), asked.state["delete"])

    def invoke(self, token: str, arguments: Values) -> Values:
        """Run a command on every preview and update."""
        if token != _RUN:
            return super().invoke(token, arguments)
        wrong = _wrong(arguments, {**_INPUTS, "command": string()})
        if arguments.get("command") is None:
            wrong.append(("command", "is required"))
        if wrong:
            raise ProviderError(f"{token}: " + "; ".join(f"{key}: {why}" for key, why in wrong))
        return self._run(Asked(urn="", inputs=arguments), arguments["command"])

    def configure(self, config: Values, variables: dict[str, str]) -> None:
        """There is nothing to set."""

    def cancel(self) -> None:
        """End what runs, with its children."""
        super().cancel()
        self._children.end()

    def _run(self, asked: Asked, command: Any) -> Values:
        """Run one command; returns the whole state.

        What a command says is no secret, even when what it was given is: so it is with the official provider, where
        `additionalSecretOutputs` is the way to say so.
        """
        inputs, before = asked.inputs, asked.state
        state = _given(inputs)
        if command is None:
            return state | {key: before[key] for key in _OUTPUTS if before.get(key) is not None}
        given = reveal(state)
        ran = self._children.run(
            Order(
                command=str(reveal(command)),
                interpreter=given.get("interpreter") or ("/bin/sh", "-c"),
                folder=given.get("dir"),
                environment=_environment(given, reveal(before)),
                stdin=given.get("stdin") or "",
                timeout=asked.timeout,
            ),
            _told_by(given, lambda line: self._log.info(asked.urn, line)),
        )
        told: Values = {"stdout": ran.stdout, "stderr": ran.stderr}
        folder = Path(given.get("dir") or ".")
        if given.get("assetPaths") is not None:
            told["assets"] = _assets(folder, given["assetPaths"])
        if given.get("archivePaths") is not None:
            told["archive"] = {**_ARCHIVE, "assets": _assets(folder, given["archivePaths"])}
        return state | told


def _assets(folder: Path, patterns: list[str]) -> Values:
    return {path: {**_ASSET, "path": str(folder / path)} for path in matching(folder, patterns)}


def _environment(given: Values, before: Values) -> dict[str, str]:
    """Say the variables that are added: those given, and what the run before said."""
    added: dict[str, str] = dict(given.get("environment") or {})
    if given.get("addPreviousOutputInEnv") is not False:
        for key, variable in (("stdout", "PULUMI_COMMAND_STDOUT"), ("stderr", "PULUMI_COMMAND_STDERR")):
            if before.get(key):
                added[variable] = before[key]
    return added


def _told_by(given: Values, tell: Callable[[str], None]) -> dict[str, Callable[[str], None]]:
    """Say which of the two outputs is told line by line while the command runs."""
    logged = {"none": (), "stdout": ("stdout",), "stderr": ("stderr",)}
    return dict.fromkeys(logged.get(given.get("logging") or "", ("stdout", "stderr")), tell)


def _known(asked: Asked) -> None:
    if asked.token != _LOCAL:
        raise ProviderError(
            f"{asked.token}: the sandbox's plugin runs commands of this machine only; use the official plugin"
        )


def _wrong(given: Values, fields: dict[str, Field]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in given.items():
        part = fields.get(key)
        if part is None:
            found.append((key, "is not a property of a command"))
            continue
        # The engine prints the value of the property it is told about, also a secret one: then it is told no property.
        where, name = ("", f"{key}: ") if contains_secret(value) else (key, "")
        plain = reveal(value)
        try:
            plain = coerce(plain, part)
        except ValueError as error:
            found.append((where, f"{name}{error}"))
            continue
        if part.check is not None and plain is not None and not isinstance(plain, Unknown):
            why = part.check(plain)
            if why is not None:
                found.append((where, name + why))
    return found


def _given(inputs: Values) -> Values:
    return {key: inputs[key] for key in _FIELDS if inputs.get(key) is not None}


if __name__ == "__main__":
    serve(Command())
