"""The DigitalOcean project that holds an environment, for people and for the bill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import AnclaComponent

_ENVIRONMENTS = {"prod": "Production", "staging": "Staging"}


@dataclass(frozen=True, kw_only=True)
class ProjectArgs:
    """`resources` are URNs of droplets, databases, Spaces and domains; a VPC or a firewall belongs to no project."""

    name: str
    environment: str
    description: str
    resources: Sequence[pulumi.Input[str]]


class Project(AnclaComponent):
    """The project and what is in it.

    The list is a separate resource: the project's `resources` would claim everything else in it too.
    """

    project_id: pulumi.Output[str]

    def __init__(self, name: str, args: ProjectArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:index:Project", name, opts)
        project = digitalocean.Project(
            f"{name}-project",
            name=args.name,
            description=args.description,
            purpose="Web Application",
            environment=_ENVIRONMENTS.get(args.environment, "Development"),
            # Resources leave the project some time after the call; a delete in between is refused and retried.
            opts=self._child(custom_timeouts=pulumi.CustomTimeouts(delete="10m")),
        )
        digitalocean.ProjectResources(
            f"{name}-resources",
            project=project.id,
            resources=list(args.resources),
            opts=self._child(),
        )
        self.project_id = project.id
        self.register_outputs({"project_id": self.project_id})
