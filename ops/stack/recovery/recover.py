"""Recover after a `kill -9` of the engine: find the resources it requested and did not record, and adopt them.

The engine notes each operation before it begins it. A killed one leaves those notes (`pending_operations`) and, with a
file backend, its lock. Each note becomes a step of a plan, which is printed and then executed:

- creating: the resource is looked up in the cloud and added to the state; if it was never created, the note is dropped;
- updating, deleting, reading, importing: the note is dropped, and `pulumi refresh` reads the resulting state.

Without notes, a preview says what the program wants and the state lacks; what the cloud has of it by that name, and
whose creation failed all the same, is adopted in the same way (`failed_creates`).

Nothing that holds data is ever deleted. The only exception is a Spaces key whose secret half is lost.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from ops.core.errors import CloudError, StackError
from ops.stack.cloud import Cloud
from ops.stack.deployment import plain, urn_name, urn_types
from ops.stack.outputs import pulumi, pulumi_json
from ops.stack.recovery import cloud_lookup, failed_creates
from ops.stack.recovery.cloud_lookup import BUCKET, FINDERS, REPEATABLE, SPACES_KEY, Values
from ops.stack.recovery.file_backend import Lock, file_backend
from ops.stack.spaces import bucket_is_ours

SETTLE_SECONDS = 1800
"""How long a droplet or a cluster may take to become ready; the same as the provider's own limit."""


class Action(StrEnum):
    """The effect of a step on the state."""

    ADOPT = "adopt"
    FORGET = "forget"
    REPLACE_KEY = "delete the key and forget"


@dataclass(frozen=True, kw_only=True)
class Step:
    """The step for one pending operation. `index` is its place in the deployment's list."""

    index: int
    urn: str
    action: Action
    reason: str
    id: str | None = None
    delete: tuple[str, ...] = ()
    settled: bool = True

    @property
    def name(self) -> str:
        """Return type and name, as the engine prints them."""
        if self.urn.count("::") < 3:
            return self.urn
        return f"{urn_types(self.urn)[-1].rpartition(':')[2]} {urn_name(self.urn)}"


@dataclass(kw_only=True)
class RecoverPlan:
    """The steps to execute; nothing has been changed yet."""

    stack: str
    deployment: dict[str, Any] = field(repr=False)
    steps: list[Step]
    locks: list[Lock] = field(default_factory=list)
    torn: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Return True if there is nothing to do."""
        return not self.steps and not self.locks


Lookup = Callable[[str, Values, frozenset[str]], "Found"]
"""(type token, unencrypted inputs, ids of that type in the state) → the resource in the cloud."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of a lookup in the cloud. `keys` are Spaces keys that can only be deleted."""

    id: str | None = None
    label: str = ""
    settled: bool = True
    keys: tuple[str, ...] = ()


def plan_steps(deployment: dict[str, Any], in_clear: dict[str, Any], lookup: Lookup) -> list[Step]:
    """Turn each pending operation into a step; read the cloud only through `lookup`, change nothing.

    Args:
        deployment: of `pulumi stack export`.
        in_clear: the same with `--show-secrets`; only the inputs of pending operations are read.
        lookup: looks for a resource in the cloud.
    """
    steps: list[Step] = []
    resources: list[Values] = deployment.get("resources") or []
    pairs = zip(deployment.get("pending_operations") or [], in_clear.get("pending_operations") or [], strict=True)
    for index, (operation, clear) in enumerate(pairs):
        resource: Values = operation["resource"]
        token, kind, urn = str(resource["type"]), str(operation["type"]), str(resource["urn"])
        if not resource.get("custom", True):
            steps.append(Step(index=index, urn=urn, action=Action.FORGET, reason="a component: nothing in the cloud"))
        elif kind != "creating":
            steps.append(Step(index=index, urn=urn, action=Action.FORGET, reason=f"{kind}; refresh finds out"))
        elif token in REPEATABLE or token.startswith("pulumi:providers:"):
            steps.append(
                Step(index=index, urn=urn, action=Action.FORGET, reason=REPEATABLE.get(token, "is made each time"))
            )
        elif token in FINDERS or token in (BUCKET, SPACES_KEY):
            known = frozenset(str(other.get("id")) for other in resources if other.get("type") == token)
            inputs: Values = plain(clear["resource"].get("inputs") or {})
            steps.append(_creating(index, urn, token, lookup(token, inputs, known)))
        else:
            raise StackError(
                f"{urn}: {token} was being created, and recover does not know where to look it up; "
                "look it up by hand, then `pulumi refresh --import-pending-creates`"
            )
    return steps


def apply_steps(deployment: dict[str, Any], steps: list[Step], now: datetime) -> dict[str, Any]:
    """Return the deployment with every step applied: adopted resources added, pending operations gone."""
    result = copy.deepcopy(deployment)
    operations: list[Values] = result.get("pending_operations") or []
    resources: list[Values] = result.setdefault("resources", [])
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    for step in steps:
        if step.action is not Action.ADOPT:
            continue
        resource = copy.deepcopy(operations[step.index]["resource"])
        _make_room(resources, step.urn)
        resource["id"] = step.id
        resource["custom"] = True
        resource["outputs"] = {**_seed(resource.get("inputs") or {}), "id": step.id}
        resource["created"] = resource["modified"] = stamp
        resources.append(resource)
    result["pending_operations"] = []
    return result


def make_plan(stack: str, cloud: Cloud, *, dry_run: bool = False) -> RecoverPlan:
    """Read the stack and its lock, look up the cloud, and plan.

    Changes nothing, except that torn sidecar files, which make the state unreadable, are removed (not in a dry run).

    Raises:
        StackError: no such stack, or another engine is working on it.
        CloudError: the API does not answer, or several resources match a request.
    """
    backend = file_backend(stack)
    locks = backend.locks() if backend else []
    for lock in locks:
        if lock.held:
            raise StackError(
                f"stack {stack}: is locked by process {lock.pid} on {lock.host}, which may still run; "
                "wait for it, or end it, or run `pulumi cancel` if you know that it is gone"
            )
    torn = backend.torn() if backend else []
    for path in torn:
        if dry_run:
            raise StackError(f"{path}: is incomplete, so the state cannot be read; run without --dry-run to remove it")
        path.unlink()
    exported = pulumi_json(["stack", "export"], stack=stack)
    deployment: dict[str, Any] = exported.get("deployment") or {}
    _refuse_elsewhere(stack, deployment, cloud)
    if not deployment.get("pending_operations"):
        plan = RecoverPlan(stack=stack, deployment=exported, steps=[], locks=locks, torn=torn)
        _plan_failed_creates(plan, cloud)
        return plan
    clear = pulumi_json(["stack", "export", "--show-secrets"], stack=stack).get("deployment") or {}
    steps = plan_steps(deployment, clear, lambda token, inputs, known: look(cloud, token, inputs, known))
    return RecoverPlan(stack=stack, deployment=exported, steps=steps, locks=locks, torn=torn)


def _plan_failed_creates(plan: RecoverPlan, cloud: Cloud) -> None:
    """Add a step for everything that the program wants, the state lacks, and the cloud has by that name."""
    deployment: dict[str, Any] = plan.deployment.get("deployment") or {}
    try:
        preview = pulumi_json(["preview", "--json"], stack=plan.stack)
    except StackError as error:
        plan.notes.append(f"what failed although it was made was not looked for: {error}")
        return
    operations = deployment["pending_operations"] = failed_creates.operations_of(preview, deployment)
    noted = {"resources": deployment.get("resources"), "pending_operations": operations}
    steps = plan_steps(noted, noted, lambda token, inputs, known: look(cloud, token, inputs, known))
    plan.steps = [step for step in steps if step.action is Action.ADOPT]


def execute(plan: RecoverPlan, cloud: Cloud, report: Callable[[str], None]) -> None:
    """Execute the plan, then let the engine refresh the state from the cloud.

    Raises:
        StackError: the engine refused; the state is as it was; run recover again.
        CloudError: an adopted resource did not become ready.
    """
    if plan.locks:
        pulumi(["cancel", "--yes"], stack=plan.stack)
        report("the dead engine's lock is gone")
    if not plan.steps:
        return
    deployment: dict[str, Any] = plan.deployment["deployment"]
    for step in plan.steps:
        for key in step.delete:
            cloud.delete(f"/v2/spaces/keys/{key}")
        if not step.settled:
            report(f"waiting for {step.name}")
            _wait(cloud, plan, step)
    document = {**plan.deployment, "deployment": apply_steps(deployment, plan.steps, datetime.now(UTC))}
    pulumi(["stack", "import"], stack=plan.stack, stdin=json.dumps(document))
    adopted = sum(step.action is Action.ADOPT for step in plan.steps)
    report(f"{adopted} adopted, {len(plan.steps) - adopted} forgotten; refreshing")
    pulumi(["refresh", "--yes", "--skip-preview"], stack=plan.stack)


def look(cloud: Cloud, token: str, inputs: Values, known: frozenset[str]) -> Found:
    """Look for one resource in the cloud.

    Raises:
        CloudError: see `ops.stack.recovery.cloud_lookup.find`.
    """
    if token == SPACES_KEY:
        return Found(keys=tuple(cloud_lookup.spaces_keys(cloud, str(inputs.get("name")), known)))
    if token == BUCKET:
        name = str(inputs.get("bucket") or inputs.get("name") or "")
        return Found(id=name, label=name) if bucket_is_ours(name, str(inputs.get("region"))) else Found()
    orphan = cloud_lookup.find(cloud, token, inputs, known)
    return Found(id=orphan.id, label=orphan.label, settled=orphan.settled) if orphan else Found()


def _refuse_elsewhere(stack: str, deployment: dict[str, Any], cloud: Cloud) -> None:
    """Refuse to look for resources of one account in another; the state records where the stack was built."""
    for resource in deployment.get("resources") or []:
        built_at = (resource.get("inputs") or {}).get("apiEndpoint")
        is_provider = resource.get("type") == "pulumi:providers:digitalocean" and built_at is not None
        if is_provider and str(built_at).rstrip("/") != cloud.address:
            raise StackError(f"stack {stack}: was built at {built_at}, this shell talks to {cloud.address}")
    if not cloud.is_real:
        return
    config = pulumi_json(["config", "--json"], stack=stack)
    recorded = (config.get("ancla:account") or {}).get("value")
    account = cloud.account()
    if recorded != account:
        raise StackError(f"stack {stack}: belongs to the account {recorded}, the token is of {account}")


def _creating(index: int, urn: str, token: str, found: Found) -> Step:
    if token == SPACES_KEY:
        action = Action.REPLACE_KEY if found.keys else Action.FORGET
        reason = "its secret half was shown once and is lost" if found.keys else "was never made"
        return Step(index=index, urn=urn, action=action, reason=reason, delete=found.keys)
    if found.id is None:
        return Step(index=index, urn=urn, action=Action.FORGET, reason="was never made")
    reason = f"is there as {found.label} ({found.id})" if found.label != found.id else f"is there as {found.id}"
    return Step(index=index, urn=urn, action=Action.ADOPT, reason=reason, id=found.id, settled=found.settled)


def _make_room(resources: list[Values], urn: str) -> None:
    """Do what the engine would have done with the old half of a replacement."""
    for other in [item for item in resources if item.get("urn") == urn and not item.get("delete")]:
        if other.get("pendingReplacement"):
            resources.remove(other)
        else:
            other["delete"] = True


def _seed(inputs: Any) -> Any:
    """Return inputs as first outputs: values that the API does not return (user_data, ssh_keys) stay known."""
    if isinstance(inputs, dict):
        return {key: _seed(value) for key, value in inputs.items() if key != "__defaults"}
    if isinstance(inputs, list):
        return [_seed(value) for value in inputs]
    return inputs


def _wait(cloud: Cloud, plan: RecoverPlan, step: Step) -> None:
    resource = plan.deployment["deployment"]["pending_operations"][step.index]["resource"]
    deadline = time.monotonic() + SETTLE_SECONDS
    inputs = {key: value for key, value in resource["inputs"].items() if not isinstance(value, dict)}
    resources = plan.deployment["deployment"].get("resources") or []
    known = frozenset(str(other.get("id")) for other in resources if other.get("type") == resource["type"])
    while True:
        orphan = cloud_lookup.find(cloud, resource["type"], inputs, known)
        if orphan is not None and orphan.settled:
            return
        if orphan is None or time.monotonic() > deadline:
            raise CloudError(f"{step.name} ({step.id}): did not become ready; look at it, then run recover again")
        time.sleep(1)
