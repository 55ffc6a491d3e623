"""A release from the desk: plan it, send it over SSH, follow it, and read what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable

from pydantic import ValidationError

from ops.core.errors import ReleaseError
from ops.release.apply import ReleaseReport
from ops.release.compose import version_of
from ops.release.plan import ReleasePlan, build_plan, repository_of
from ops.release.registry import Registry, pull_login
from ops.stack import ssh
from ops.stack.cloud import Cloud
from ops.stack.outputs import LoadedStack

APPLY = ("sudo", "-n", "/usr/local/bin/ops", "release", "apply")


def plan_release(stack: LoadedStack, cloud: Cloud) -> ReleasePlan:
    """Plan the release of what the stack says: each tag becomes the digest it stands for now.

    Raises:
        CloudError: the API refuses or does not answer.
        RegistryError: an image is not there, or the registry does not answer.
        ReleaseError: a secret is missing, or something is asked for that is not built yet.
    """
    outputs = stack.outputs
    login = pull_login(cloud, outputs.registry.name)
    registry = Registry(outputs.registry.endpoint, login)
    digests = {s.name: registry.digest(repository_of(s.image), version_of(s)) for s in outputs.services}
    return build_plan(outputs, stack.secrets, digests, login.get_secret_value())


def deploy(stack: LoadedStack, plan: ReleasePlan, progress: Callable[[str], None]) -> ReleaseReport:
    """Send the plan to the machine and follow it there. `progress` gets a line for each step.

    Raises:
        SshError: the connection broke; the machine goes on by itself, and the same deploy again says how it ended.
        ReleaseError: the release failed; the message says what runs now.
    """
    with ssh.connect(stack.ssh_target()) as session:
        result = session.follow(APPLY, stdin=json.dumps(plan.document()).encode(), line=progress)
    try:
        answer = json.loads(result.stdout)
    except json.JSONDecodeError:
        detail = result.stderr.strip().splitlines()[-1:] or ["no message"]
        hint = "; if it is not on the machine, run `pulumi up`" if "not found" in detail[0] else ""
        raise ReleaseError(
            f"{session.target}: `ops release apply` gave no answer (exit {result.returncode}): {detail[0]}{hint}"
        ) from None
    if "error" in answer:
        raise ReleaseError(f"{session.target}: {answer['error']}", tuple(answer.get("log", ())))
    try:
        return ReleaseReport.model_validate(answer)
    except ValidationError:
        raise ReleaseError(f"{session.target}: runs another Ancla than this desk; run `pulumi up`") from None
