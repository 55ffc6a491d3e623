"""Backing up what is a file of the machine: the machine does it itself, with its own recipients and its own bucket key.

No content of such a file passes through a desk; what comes back is the report that the machine prints.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ops.core.errors import RemoteCommandError, VerdictError
from ops.stack import ssh
from ops.stack.outputs import LoadedStack

COMMAND = ("sudo", "-n", "ops", "backup", "create", "--json", "--name")


def create_there(stack: LoadedStack, name: str, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """Run `ops backup create` for one source on the first droplet; returns its report, one item a backup.

    Raises:
        RemoteCommandError: it failed there; the message is the machine's own error line.
        SshError: no connection, or it broke. The machine may have gone on: `ops backup list` tells.
    """
    target = stack.ssh_target()
    with ssh.connect(target) as session:
        done = session.follow([*COMMAND, name], stdin=b"", line=lambda text: _pass_on(text, report))
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = [line.partition("error:")[2] for line in lines if line.startswith("error:")] or lines or ["no message"]
        message = f"{target}: {said[-1].strip()}"
        if done.returncode == VerdictError.exit_code:
            raise VerdictError(message)
        raise RemoteCommandError(message, returncode=done.returncode, stderr=done.stderr)
    try:
        made: list[dict[str, Any]] = json.loads(done.stdout)["backups"]
    except (ValueError, KeyError, TypeError):
        raise RemoteCommandError(
            f"{target}: `ops backup create` ended well and printed no report; run `pulumi up` for this version of ops",
            returncode=0,
        ) from None
    return made


def _pass_on(text: str, report: Callable[[str], None]) -> None:
    if text.strip() and not text.startswith("error:"):
        report(text.removeprefix("·").strip())
