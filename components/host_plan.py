"""When a droplet has to be converged again: the digests of its two plans, as `python3 -m host plan` prints them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from blueprint.machine import BackupTimerSettings, MachineSettings

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class PlanDigests:
    """`machine` changes with the settings of the droplet and the files it gets, `ops` with the code of ops."""

    machine: str
    ops: str


def plan_digests(image: str, machine: MachineSettings, timers: BackupTimerSettings | None) -> PlanDigests:
    """Return the digests of a droplet of this image: the same on every computer and in every folder.

    Raises:
        RuntimeError: `host` refused; the message is its own.
    """
    request = {
        "image": image,
        "machine": machine.model_dump(mode="json"),
        "timers": timers.model_dump(mode="json") if timers else None,
    }
    return _digests(json.dumps(request))


@cache
def _digests(request: str) -> PlanDigests:
    done = subprocess.run(
        [sys.executable, "-m", "host", "plan"], cwd=ROOT, input=request, text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return PlanDigests(**json.loads(done.stdout))
