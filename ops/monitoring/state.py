"""Store the state of monitoring between runs: the last results of each backup set, and the alerts raised.

It is one small JSON file, on the droplet `/var/lib/ancla/watch.json`. Losing it does little harm: freshness is
read from the stores; an alert that still applies is sent again.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from ops.core import console
from ops.core.environment import environment
from ops.core.files import atomic_write, locked
from ops.stack.outputs import LoadedStack

MACHINE_HOME = Path("/var/lib/ancla")


class _State(BaseModel):
    model_config = ConfigDict(extra="ignore")  # unknown fields of a newer Ancla must not discard alerts


class SetState(_State):
    """One backup set: its last complete backup, made here, and the number of failed attempts."""

    last_success: AwareDatetime | None = None
    backup: str | None = None
    seconds: float | None = None
    stored_bytes: int | None = None
    rows: int | None = None
    failures: int = 0


class CopyState(_State):
    """The newest complete backup of a set in one store, at the last check. Ages in seconds; None: there is none."""

    name: str
    store: str
    age: float | None
    budget: float


class DrillState(_State):
    """The last drill of a set."""

    green: bool
    finished_at: AwareDatetime
    rto_seconds: float | None = None
    rpo_seconds: float | None = None


class VerifyState(_State):
    """The last `ops backup verify` of a store."""

    finished_at: AwareDatetime
    verified: int
    damaged: int
    oldest: AwareDatetime | None = None


class AlertState(_State):
    """A raised alert. `told_at` is None until a notification was accepted."""

    text: str
    runbook: str
    since: AwareDatetime
    seen_at: AwareDatetime
    told_at: AwareDatetime | None = None


class WatchState(_State):
    """The complete state."""

    version: Literal[1] = 1
    sets: dict[str, SetState] = Field(default_factory=dict[str, SetState])
    copies: list[CopyState] = Field(default_factory=list[CopyState])
    drills: dict[str, DrillState] = Field(default_factory=dict[str, DrillState])
    verified: dict[str, VerifyState] = Field(default_factory=dict[str, VerifyState])
    over: dict[str, AlertState] = Field(default_factory=dict[str, AlertState])
    """Recovered alerts whose recovery message is still unsent."""
    busy_at: AwareDatetime | None = None
    """Time a run last skipped a set because another run was backing it up."""
    alerts: dict[str, AlertState] = Field(default_factory=dict[str, AlertState])


def state_folder(*, on_machine: bool) -> Path:
    """Return this computer's state folder: `/var/lib/ancla`, or on a workstation one below `~/.local/state`."""
    if chosen := environment().state:
        return chosen
    if on_machine:
        return MACHINE_HOME
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "ancla"


def home_of(stack: LoadedStack) -> Path:
    """Return the monitoring folder of this stack."""
    folder = state_folder(on_machine=stack.on_machine)
    return folder if stack.on_machine else folder / f"{stack.outputs.project}-{stack.outputs.environment}"


@contextmanager
def remembered(home: Path) -> Generator[WatchState]:
    """Yield the state, to be changed; it is written when the block ends, even after an error.

    Access is exclusive: a backup and a freshness check that end together do not overwrite each other. A disk error is
    only a warning, and the work continues.
    """
    path = home / "watch.json"
    with ExitStack() as held:
        try:
            home.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(home / "watch.lock"))
        except OSError as error:
            warn(f"{home}: the monitoring state cannot be kept here: {error.strerror}")
            yield WatchState()
            return
        state = _read(path)
        try:
            yield state
        finally:
            try:
                atomic_write(path, (state.model_dump_json(indent=1) + "\n").encode(), mode=0o600)
            except OSError as error:
                warn(f"{path}: cannot be written: {error.strerror}")


def warn(text: str) -> None:
    """Print a one-line warning about a failure of monitoring, which never fails the work itself."""
    console.warning(" ".join(text.split()))


def _read(path: Path) -> WatchState:
    try:
        return WatchState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return WatchState()
    except (OSError, ValidationError):
        warn(f"{path}: cannot be read; monitoring starts with an empty state")
        return WatchState()
