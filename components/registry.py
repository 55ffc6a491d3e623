"""The container registry the app's images are pulled from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_digitalocean as digitalocean
from pulumi_command import local

from components.component import AnclaComponent

HOST = "registry.digitalocean.com"
_ENSURE = Path(__file__).with_name("ensure_registry.py")


@dataclass(frozen=True, kw_only=True)
class RegistryArgs:
    """`shared`: the account's registry, made at `endpoint` where it is missing; no `region`: DigitalOcean picks."""

    name: str
    tier: str
    region: str | None
    shared: bool
    endpoint: str
    protected: bool = False


class Registry(AnclaComponent):
    """A registry by name. Logins are minted when needed and live short: none is a resource, or in the state.

    A shared one is no resource of any stack, because two would make it and one would take it along: a command looks for
    it, and says at the end that it stays.
    """

    name: pulumi.Output[str]
    endpoint: pulumi.Output[str]

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:index:Registry", name, opts)
        if args.shared:
            found = local.Command(
                f"{name}-shared",
                interpreter=["python3", "-c", _ENSURE.read_text()],
                create=json.dumps(
                    {"endpoint": args.endpoint, "name": args.name, "tier": args.tier, "region": args.region}
                ),
                delete=json.dumps({"name": args.name, "stays": True}),
                triggers=[args.endpoint, args.name],
                add_previous_output_in_env=False,
                opts=self._child(),
            )
            self.name = found.stdout.apply(lambda _: args.name)  # known once it is there
        else:
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
