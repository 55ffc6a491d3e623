"""Define the report of `ops backup create`, and run it on the droplet for backup sets of its own files."""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict

from ops.stack.outputs import LoadedStack
from ops.stack.remote_ops import PROGRESS, run_ops


class FinishedBackup(BaseModel):
    """A complete backup. `objects`, `bytes` (as stored) and `rows` are counts; `stores` are bucket names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str
    kind: str
    snapshot_at: AwareDatetime
    objects: int
    bytes: int
    rows: int
    seconds: float
    stores: tuple[str, ...]


class BackupReport(BaseModel):
    """All backups of one run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backups: tuple[FinishedBackup, ...]


def create_on_droplet(stack: LoadedStack, name: str) -> tuple[FinishedBackup, ...]:
    """Run `ops backup create` for one backup set on the first droplet, with its own recipients and bucket key.

    Raises:
        VerdictError, RemoteCommandError: it failed there; the message is the droplet's error line.
        SshError: no connection, or it broke. The droplet may have continued: check with `ops backup list`.
    """
    return run_ops(stack, ["backup", "create", "--json", PROGRESS, "--name", name], BackupReport).backups
