"""What the watch remembers between two runs: what each backup set last came to, and which alerts are raised.

One small JSON file, on the machine `/var/lib/ancla/watch.json`. Losing it loses no truth: freshness is read from the
stores; an alert that still holds is told once more.
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
    model_config = ConfigDict(extra="ignore")  # a newer Ancla's state is no reason to forget alerts


class SetState(_State):
    """One backup set: its last complete backup, made here, and how often making one has failed."""

    last_success: AwareDatetime | None = None
    backup: str | None = None
    seconds: float | None = None
    stored_bytes: int | None = None
    rows: int | None = None
    failures: int = 0


class CopyState(_State):
    """The newest complete backup of a set in one store, when last looked for. Ages in seconds; None: there is none."""

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
    """An alert that is raised. `told_at` is None as long as no notification has got through."""

    text: str
    runbook: str
    since: AwareDatetime
    seen_at: AwareDatetime
    told_at: AwareDatetime | None = None


class WatchState(_State):
    """All of it."""

    version: Literal[1] = 1
    sets: dict[str, SetState] = Field(default_factory=dict[str, SetState])
    copies: list[CopyState] = Field(default_factory=list[CopyState])
    drills: dict[str, DrillState] = Field(default_factory=dict[str, DrillState])
    verified: dict[str, VerifyState] = Field(default_factory=dict[str, VerifyState])
    over: dict[str, AlertState] = Field(default_factory=dict[str, AlertState])
    """Alerts whose end no notification has told yet."""
    busy_at: AwareDatetime | None = None
    """When a run last left a set to another run that was at it."""
    alerts: dict[str, AlertState] = Field(default_factory=dict[str, AlertState])


def state_folder(*, on_machine: bool) -> Path:
    """Return where state of this computer is kept: `/var/lib/ancla`, at a desk below `~/.local/state`."""
    if chosen := environment().state:
        return chosen
    if on_machine:
        return MACHINE_HOME
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "ancla"


def home_of(stack: LoadedStack) -> Path:
    """Return where the watch of this stack keeps its things."""
    folder = state_folder(on_machine=stack.on_machine)
    return folder if stack.on_machine else folder / f"{stack.outputs.project}-{stack.outputs.environment}"


@contextmanager
def remembered(home: Path) -> Generator[WatchState]:
    """Yield the state, to be changed; it is written when the block ends, whatever happened in it.

    One at a time: a backup and a freshness check that end together do not lose each other's. A disk that refuses is one
    line on stderr, and the work goes on.
    """
    path = home / "watch.json"
    with ExitStack() as held:
        try:
            home.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(home / "watch.lock"))
        except OSError as error:
            warn(f"{home}: nothing can be remembered here: {error.strerror}")
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
    """Say in one line on stderr what the watch could not do; it never fails the work that it watches."""
    console.warning(" ".join(text.split()))


def _read(path: Path) -> WatchState:
    try:
        return WatchState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return WatchState()
    except (OSError, ValidationError):
        warn(f"{path}: cannot be read; the watch begins anew")
        return WatchState()
