"""Compare an environment with what the last `pulumi up` made of it: its droplets, and its resources in the cloud.

Neither needs the program nor its settings: both read the engine's record of the stack.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from ops.core.errors import StackError
from ops.stack.deployment import plain, urn_name, urn_types
from ops.stack.outputs import pulumi_json

VERBS = {"ancla:index:Converge": "converge", "ancla:index:OpsInstall": "ops"}
"""Components whose command converges a droplet, and the verb of `host` that it runs."""
DIFFERENT = 4
"""Exit code of `python3 -m host VERB --check` where something differs."""
UNCHANGED = frozenset({"same", "refresh", "read"})
"""Steps of a refresh that found nothing to write down."""


@dataclass(frozen=True)
class HostCommand:
    """A verb of `host` as `pulumi up` ran it last; its document holds secrets."""

    name: str
    verb: str
    document: str = field(repr=False)


@dataclass(frozen=True)
class Converged:
    """The result of one verb: how many steps it has, and how many changed something (or would)."""

    name: str
    verb: str
    operations: int
    changed: int


@dataclass(frozen=True)
class Drifted:
    """A resource that is not as the stack has it: changed by somebody, or gone."""

    urn: str
    gone: bool
    properties: tuple[str, ...]

    @property
    def name(self) -> str:
        """The resource's own name, as a preview shows it."""
        return urn_name(self.urn)

    @property
    def kind(self) -> str:
        """The resource's type token, such as digitalocean:index/firewall:Firewall."""
        return urn_types(self.urn)[-1]


def host_commands(stack: str | None) -> list[HostCommand]:
    """Return what the last `pulumi up` ran on the stack's droplets, in its order.

    Raises:
        ToolError: `pulumi` is not on PATH.
        StackError: no such stack, a wrong passphrase, or nothing was converged yet.
    """
    exported = pulumi_json(["stack", "export", "--show-secrets"], stack=stack)
    found = _commands((exported.get("deployment") or {}).get("resources") or [])
    if not found:
        raise StackError(f"stack {stack or '(the selected one)'}: no droplet was converged yet; run `pulumi up`")
    return found


def _commands(resources: list[dict[str, Any]]) -> list[HostCommand]:
    found: list[HostCommand] = []
    for resource in resources:
        if resource.get("type") != "command:local:Command" or resource.get("delete"):
            continue
        urn = str(resource["urn"])
        verb = next((VERBS[kind] for kind in urn_types(urn)[-2:-1] if kind in VERBS), None)
        if verb is not None:
            document = plain((resource.get("inputs") or {}).get("stdin"))
            found.append(HostCommand(urn_name(urn).removesuffix("-command"), verb, str(document)))
    return found


def converge(command: HostCommand, *, check: bool) -> Converged:
    """Take a document to its droplet again, or compare. Each difference is a line on stderr, written by `host`.

    Raises:
        StackError: the droplet cannot be reached, or a step failed; `host` has said which.
    """
    program = [sys.executable, "-m", "host", command.verb, *(["--check"] if check else [])]
    done = subprocess.run(program, input=command.document, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, DIFFERENT):
        raise StackError(f"{command.name}: not {'compared' if check else 'converged'}; the lines above say why")
    answer = json.loads(done.stdout)
    return Converged(command.name, command.verb, answer["operations"], answer["changed"])


def cloud_drift(stack: str | None) -> list[Drifted]:
    """Ask the cloud about every resource of the stack, write nothing down, and return those that differ.

    Raises:
        ToolError: `pulumi` is not on PATH.
        StackError: the engine refused, or the cloud does not answer.
    """
    return drifted(pulumi_json(["refresh", "--preview-only", "--json"], stack=stack))


def drifted(refresh: dict[str, Any]) -> list[Drifted]:
    """Return what differs in the engine's report of a refresh.

    A resource that is as it was has the step `refresh` without a difference.
    """
    steps = refresh.get("steps") or []
    return [
        Drifted(
            urn=str(step["urn"]), gone=step["op"] == "delete", properties=tuple(sorted(step.get("detailedDiff") or []))
        )
        for step in steps
        if step["op"] not in UNCHANGED or step.get("detailedDiff")
    ]
