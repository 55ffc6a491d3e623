"""The container registry the app's images are pulled from."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import AnclaComponent

HOST = "registry.digitalocean.com"


@dataclass(frozen=True, kw_only=True)
class RegistryArgs:
    """`create` is false where another stack, or a person, has made the registry; no `region`: DigitalOcean picks."""

    name: str
    tier: str
    region: str | None
    create: bool
    protected: bool = False


class Registry(AnclaComponent):
    """A registry by name. Logins are minted when needed and live short: none is a resource, or in the state."""

    name: pulumi.Output[str]
    endpoint: pulumi.Output[str]

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:index:Registry", name, opts)
        self.name = pulumi.Output.from_input(args.name)
        if args.create:
            registry = digitalocean.ContainerRegistries(
                f"{name}-registry",
                name=args.name,
                subscription_tier_slug=args.tier,
                region=args.region,
                opts=self._child(protected=args.protected),
            )
            self.name = registry.name
        self.endpoint = pulumi.Output.concat(HOST, "/", self.name)
        self.register_outputs({"endpoint": self.endpoint})
