"""The network of an environment: a VPC, the tag of its droplets, and the cloud firewall of that tag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import AnclaComponent

EVERYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    """`name` is that of VPC, tag and firewall; `ssh_sources` are CIDRs; DigitalOcean chooses the `ip_range`."""

    name: str
    region: str
    ssh_sources: Sequence[str]
    ip_range: str | None = None


def build_inbound_rules(ssh_sources: Sequence[str]) -> list[digitalocean.FirewallInboundRuleArgs]:
    """Return what may come in: SSH from its sources; HTTP, HTTPS and ping from everywhere; nothing else."""

    def rule(protocol: str, port: str | None, sources: Sequence[str]) -> digitalocean.FirewallInboundRuleArgs:
        return digitalocean.FirewallInboundRuleArgs(protocol=protocol, port_range=port, source_addresses=list(sources))

    return [
        rule("tcp", "22", ssh_sources),
        rule("tcp", "80", EVERYWHERE),
        rule("tcp", "443", EVERYWHERE),
        rule("icmp", None, EVERYWHERE),
    ]


def build_outbound_rules() -> list[digitalocean.FirewallOutboundRuleArgs]:
    """Return what may go out: everything. A firewall without outbound rules would close it all."""
    everywhere = list(EVERYWHERE)
    return [
        digitalocean.FirewallOutboundRuleArgs(protocol="tcp", port_range="1-65535", destination_addresses=everywhere),
        digitalocean.FirewallOutboundRuleArgs(protocol="udp", port_range="1-65535", destination_addresses=everywhere),
        digitalocean.FirewallOutboundRuleArgs(protocol="icmp", destination_addresses=everywhere),
    ]


class Network(AnclaComponent):
    """A VPC, a tag, and the firewall that every droplet with the tag is behind from its birth."""

    vpc_id: pulumi.Output[str]
    tag: pulumi.Output[str]
    firewall: digitalocean.Firewall

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:index:Network", name, opts)
        child = self._child()
        vpc = digitalocean.Vpc(
            f"{name}-vpc",
            name=args.name,
            region=args.region,
            ip_range=args.ip_range,
            # A VPC takes its members' last traces a while to leave; the provider retries within this time.
            opts=pulumi.ResourceOptions.merge(
                child, pulumi.ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(delete="10m"))
            ),
        )
        # A separate resource, so that firewall and droplets are never made before the tag is there.
        tag = digitalocean.Tag(f"{name}-tag", name=args.name, opts=child)
        self.firewall = digitalocean.Firewall(
            f"{name}-firewall",
            name=args.name,
            tags=[tag.name],  # by tag, not by id: a replaced droplet is behind it from its first second
            inbound_rules=build_inbound_rules(args.ssh_sources),
            outbound_rules=build_outbound_rules(),
            opts=child,
        )
        self.vpc_id = vpc.id
        self.tag = tag.name
        self.register_outputs({"vpc_id": self.vpc_id, "tag": self.tag})
