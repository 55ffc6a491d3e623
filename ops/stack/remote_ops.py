"""Run `ops` on the stack's droplet: show its progress here, and return its report checked against the report's model.

Used for what only the droplet can do (its files, its PostgreSQL server, its containers). No content of a backup passes
through the workstation: only a report comes back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ops.core import console
from ops.core.errors import RemoteCommandError, VerdictError
from ops.stack import ssh
from ops.stack.outputs import LoadedStack

PROGRAM = ("sudo", "-n", "ops")
PROGRESS = "--progress=json"
"""Option that makes the droplet's `ops` write its progress as JSON lines, which `console.relay` shows here."""
NOT_FOUND = 127
"""A shell's exit code for a missing program."""

Report = TypeVar("Report", bound=BaseModel)


def run_ops(
    stack: LoadedStack,
    arguments: Sequence[str],
    model: type[Report],
    *,
    stdin: bytes = b"",
    reported: Sequence[int] = (0,),
) -> Report:
    """Run one `ops` command on the first droplet as root.

    stack: the stack whose droplet it is.
        stack: whose droplet.
        arguments: after `ops`; the command must print one JSON document on stdout.
        model: of that document; the report of another Ancla version may not match it.
        stdin: input of the command; secrets go here, never in `arguments`.
        reported: exit codes for which the command prints a report.

    Raises:
        VerdictError: it exited 3 without a report.
        RemoteCommandError: it failed, with its own error line; or its report is missing or of another version.
        SshError: no connection, or it broke. The command may still run there.
    """
    target = stack.ssh_target()
    errors: list[str] = []
    with ssh.connect(target) as session:
        done = session.follow([*PROGRAM, *arguments], stdin=stdin, line=lambda text: _show(text, errors))
    command = f"`{' '.join(['ops', *arguments[:2]])}`"
    if done.returncode in reported and (document := _parsed(done.stdout)) is not None:
        try:
            return model.model_validate(document)
        except ValidationError:
            problem = f"{command}: version mismatch between the droplet and this workstation; run `pulumi up`"
    elif done.returncode == 0:
        problem = f"{command} succeeded without a report; run `pulumi up` for this version of Ancla"
    elif done.returncode == NOT_FOUND or "command not found" in done.stderr:
        problem = f"there is no `ops` on the droplet ({errors[-1] if errors else 'no message'}); run `pulumi up`"
    else:
        problem = errors[-1] if errors else f"{command} failed without a message (exit {done.returncode})"
        if done.returncode == VerdictError.exit_code:
            raise VerdictError(f"{target}: {problem}")
    raise RemoteCommandError(f"{target}: {problem}", returncode=done.returncode, stderr=done.stderr)


def _show(text: str, errors: list[str]) -> None:
    """Show one line of the droplet's stderr, or keep it in `errors`: its error, or what is not JSON (sudo, a crash)."""
    document = _parsed(text)
    if document is None:
        if text.strip():
            errors.append(text.strip())
    elif "error" in document:
        errors.append(str(document["error"]))
    else:
        console.relay(document)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        document: Any = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
