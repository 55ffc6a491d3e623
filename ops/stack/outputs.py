"""Load the stack's `EnvironmentOutputs`, the only part of its state that `ops` reads.

On a workstation they come from `pulumi stack output`; on the droplet, and in CI, from a file. On the droplet secrets
are in a second file and there is no deploy key: `LoadedStack.on_machine` is then True, and the database is reached
directly instead of by a tunnel.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from blueprint.outputs import EnvironmentOutputs, OutputSecrets, OutputsError, SecretsFile, parse_outputs
from ops.core.errors import StackError, ToolError
from ops.stack.ssh import SshTarget

MACHINE_OUTPUTS = Path("/etc/ancla/outputs.json")
"""Where `host/` places the reduced outputs on a droplet."""

CONVERGE_AGAIN = "`ops converge`"
"""Takes `host/` to a droplet again; a plain `pulumi up` sees no change in the inputs of that command."""


@dataclass(frozen=True, kw_only=True)
class LoadedStack:
    """A loaded stack. `name` is used in messages."""

    name: str
    outputs: EnvironmentOutputs
    secrets: OutputSecrets = field(repr=False)
    on_machine: bool = False

    def ssh_target(self) -> SshTarget:
        """Return the SSH login of the first droplet.

        Raises:
            StackError: the stack has no droplet, or this is the droplet itself.
        """
        if self.on_machine or self.secrets.deploy_key is None:
            raise StackError(f"{self.name}: no deploy key in these outputs; run this on a workstation with --stack")
        if not self.outputs.droplets:
            raise StackError(f"{self.name}: the stack has no droplet; run `pulumi up`")
        access = self.outputs.access
        return SshTarget(
            address=self.outputs.droplets[0].address,
            port=access.port,
            user=access.user,
            host_key=access.host_key,
            deploy_key=self.secrets.deploy_key,
        )


def load_stack(stack: str | None = None, outputs_file: Path | None = None) -> LoadedStack:
    """Read a stack's outputs: from `outputs_file`, or the droplet's own file, or the engine's stack.

    Raises:
        StackError: no such stack or file, another stack than this droplet's, nothing exported yet, a wrong
            passphrase, or another schema version.
        ToolError: the engine is not installed.
    """
    if outputs_file is not None:
        return _from_file(outputs_file)
    if MACHINE_OUTPUTS.exists():
        loaded = _from_file(MACHINE_OUTPUTS)
        if stack is not None and stack.rsplit("/", 1)[-1] != loaded.name:
            raise StackError(f"{stack}: this droplet knows only {loaded.name}; leave --stack out")
        return loaded
    raw = pulumi_json(["stack", "output", "--json", "--show-secrets"], stack=stack)
    return _parsed(stack or str(raw.get("environment", "the selected stack")), raw)


def pulumi_json(arguments: list[str], *, stack: str | None) -> dict[str, Any]:
    """Run the engine in the current folder and parse the JSON object that it prints.

    Raises:
        ToolError: `pulumi` is not on PATH.
        StackError: the engine refused; its own first error line is in the message.
    """
    text = pulumi(arguments, stack=stack)
    try:
        parsed: Any = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise StackError(f"pulumi {arguments[0]}: printed no JSON ({error.msg})") from None
    if not isinstance(parsed, dict):
        raise StackError(f"pulumi {arguments[0]}: printed no JSON object")
    return {str(key): value for key, value in parsed.items()}


def pulumi(arguments: list[str], *, stack: str | None, stdin: str | None = None) -> str:
    """Run the engine in the current folder and return what it printed on stdout; `stdin` may hold a secret.

    Raises:
        ToolError: `pulumi` is not on PATH.
        StackError: the engine refused; its own first error line is in the message.
    """
    program = shutil.which("pulumi")
    if program is None:
        raise ToolError("pulumi: not found on PATH; open `make shell`, install the engine, or give --outputs FILE")
    command = [program, *arguments, "--non-interactive", *(["--stack", stack] if stack else [])]
    done = subprocess.run(
        command,
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
    )
    if done.returncode != 0:
        where = f"stack {stack}" if stack else "the selected stack"
        raise StackError(f"{where}: pulumi {' '.join(arguments[:2])}: {_reason(done.stderr)}")
    return done.stdout


def _from_file(path: Path) -> LoadedStack:
    return _parsed(str(path), _read(path, "outputs"), where=path)


def _parsed(name: str, raw: dict[str, Any], where: Path | None = None) -> LoadedStack:
    try:
        outputs = parse_outputs(raw)
    except OutputsError as error:
        raise StackError(f"{name}: {error}") from None
    if isinstance(outputs.secrets, SecretsFile):
        path = Path(outputs.secrets.file)
        if where is not None and not path.is_absolute():
            path = where.parent / path
        secrets = _read(path, "secrets")
        try:
            return LoadedStack(
                name=outputs.environment,
                outputs=outputs,
                secrets=OutputSecrets.model_validate(secrets),
                on_machine=True,
            )
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise StackError(f"{path}: {key}: {first['msg']}; {CONVERGE_AGAIN} writes it again") from None
    return LoadedStack(name=outputs.environment, outputs=outputs, secrets=outputs.secrets)


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        parsed: Any = json.loads(path.read_text())
    except FileNotFoundError:
        raise StackError(f"{path}: no such file; give the {what} that `pulumi stack output --json` printed") from None
    except PermissionError:
        raise StackError(f"{path}: you may not read it; on the droplet use sudo") from None
    except OSError as error:
        raise StackError(f"{path}: cannot be read: {error.strerror}; give the file of the {what}") from None
    except UnicodeDecodeError:
        raise StackError(f"{path}: not JSON: not text") from None
    except json.JSONDecodeError as error:
        raise StackError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(parsed, dict):
        raise StackError(f"{path}: not a JSON object")
    return parsed


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    line = (errors or lines or ["no message"])[0].removeprefix("error:").strip()
    if "no stack named" in line:
        return f"{line}; `pulumi stack ls` lists them"
    if "passphrase" in line.lower():
        return f"{line}; set PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE"
    if "PULUMI_ACCESS_TOKEN" in line:
        return "nobody is logged in to where the state is; `pulumi login` with its address, or open `make shell`"
    if "no stack selected" in line:
        return "no stack is selected; give --stack, or `pulumi stack select` one"
    if "no Pulumi.yaml" in line:
        return f"{line}; run this where Pulumi.yaml is, or in `make shell`"
    return line
