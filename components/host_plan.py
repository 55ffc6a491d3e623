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


_machines: dict[tuple[str, str], str] = {}
"""By image and settings: the digests of machines that are known, with whatever timers they were asked for."""


def plan_digests(image: str, machine: MachineSettings, timers: BackupTimerSettings | None) -> PlanDigests:
    """Return the digests of a droplet of this image: the same on every computer and in every folder.

    Raises:
        ValueError: `host` refused; the message is its own.
    """
    request = {
        "image": image,
        "machine": machine.model_dump(mode="json"),
        "timers": timers.model_dump(mode="json") if timers else None,
    }
    digests = _ask_host(json.dumps(request))
    _machines[image, machine.model_dump_json()] = digests.machine
    return digests


def machine_digest(image: str, machine: MachineSettings) -> str:
    """Return the digest of the machine alone; `host`, which takes half a second, is asked unless it has said it.

    Raises:
        ValueError: `host` refused; the message is its own.
    """
    known = _machines.get((image, machine.model_dump_json()))
    return known or plan_digests(image, machine, None).machine


@cache
def _ask_host(request: str) -> PlanDigests:
    done = subprocess.run(
        [sys.executable, "-m", "host", "plan"], cwd=ROOT, input=request, text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise ValueError(done.stderr.strip())
    return PlanDigests(**json.loads(done.stdout))
