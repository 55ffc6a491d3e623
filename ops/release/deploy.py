"""Release from the workstation: plan, send the plan over SSH, show the progress, and read the report."""

from __future__ import annotations

import json

from ops.core.errors import ReleaseError, RemoteCommandError
from ops.release.apply import ApplyAnswer, ReleaseFailure, ReleaseReport
from ops.release.plan import ReleasePlan, build_plan
from ops.release.registry import NO_LOGIN, Registry, pull_login
from ops.stack.cloud import Cloud
from ops.stack.outputs import LoadedStack
from ops.stack.remote_ops import run_ops

APPLY = ("release", "apply")


def plan_release(stack: LoadedStack, cloud: Cloud) -> ReleasePlan:
    """Plan the release of the stack's current outputs: each tag is resolved to its current digest.

    Raises:
        CloudError: the API refuses or does not answer.
        RegistryError: an image does not exist, or the registry does not answer.
        ReleaseError: a secret is missing, or a service refers to what the environment has not.
    """
    outputs = stack.outputs
    if outputs.registry is None:  # every image is elsewhere, and has its digest
        return build_plan(outputs, stack.secrets, {}, NO_LOGIN)
    login = pull_login(cloud, outputs.registry.name)
    registry = Registry(outputs.registry.endpoint, login)
    images = {name: service.reference for name, service in outputs.services.items()}
    digests = {
        name: registry.digest(image.repository, image.version) for name, image in images.items() if image.digest is None
    }
    return build_plan(outputs, stack.secrets, digests, login.get_secret_value())


def deploy(stack: LoadedStack, plan: ReleasePlan) -> ReleaseReport:
    """Send the plan to the droplet, show its progress there, and return its report.

    Raises:
        SshError: the connection broke; the droplet continues; repeat the same deploy to learn the result.
        ReleaseError: the release failed; the message says which release runs now.
    """
    content = json.dumps(plan.document()).encode()
    try:
        answer = run_ops(stack, APPLY, ApplyAnswer, stdin=content, reported=(0, 1, 3)).root
    except RemoteCommandError as error:
        raise ReleaseError(str(error)) from None
    if isinstance(answer, ReleaseFailure):
        raise ReleaseError(f"{stack.ssh_target()}: {answer.error}", answer.log)
    return answer
