"""nftables text for cloud firewalls and for the trusted sources of a cluster: pure functions.

A cloud firewall stands outside its droplet. Here it is a table of its own in the droplet's network namespace, hooked
where the wire would be: inbound before Docker's address translation (priority -150: after connection tracking at -200,
before dstnat at -100), so a published container port is covered too; outbound after everything. It touches neither
ufw's nor Docker's tables.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from sandbox.parts.base import FirewallRules, PortRule

TABLE = "inet cloud_firewall"
INBOUND_PRIORITY = -150
OUTBOUND_PRIORITY = 150


def _families(addresses: Iterable[str]) -> list[tuple[str, str]]:
    """(ip, set) and (ip6, set) for a mixed list of CIDRs, overlaps merged as nftables wants them."""
    v4: list[ipaddress.IPv4Network] = []
    v6: list[ipaddress.IPv6Network] = []
    for address in addresses:
        network = ipaddress.ip_network(address, strict=False)
        if isinstance(network, ipaddress.IPv4Network):
            v4.append(network)
        else:
            v6.append(network)
    found: list[tuple[str, str]] = []
    if v4:
        found.append(("ip", ", ".join(str(network) for network in ipaddress.collapse_addresses(v4))))
    if v6:
        found.append(("ip6", ", ".join(str(network) for network in ipaddress.collapse_addresses(v6))))
    return found


def _traffic(rule: PortRule) -> str:
    if rule.protocol == "icmp":
        return "meta l4proto { icmp, ipv6-icmp }"
    if rule.ports in ("0", "all", ""):
        return f"meta l4proto {rule.protocol}"
    return f"{rule.protocol} dport {rule.ports}"


def _accepts(rules: Iterable[PortRule], side: str) -> list[str]:
    return [
        f"{family} {side} {{ {networks} }} {_traffic(rule)} accept"
        for rule in rules
        for family, networks in _families(rule.addresses)
    ]


def _replacing(table: str, lines: Iterable[str]) -> str:
    """One transaction that puts the new table in the old one's place: nothing is open or shut in between."""
    body = "\n".join(f"  {line}" for line in lines)
    return f"table {table}\ndelete table {table}\ntable {table} {{\n{body}\n}}\n"


def cloud_firewall(rules: FirewallRules) -> str:
    """The nft program for one droplet: what is not listed is dropped, both ways."""
    neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept"
    return _replacing(
        TABLE,
        [
            "chain inbound {",
            f"  type filter hook prerouting priority {INBOUND_PRIORITY}; policy accept;",
            '  iifname != "eth*" accept',
            "  ct state established,related accept",
            f"  {neighbours}",
            *(f"  {line}" for line in _accepts(rules.inbound, "saddr")),
            "  drop",
            "}",
            "chain outbound {",
            f"  type filter hook postrouting priority {OUTBOUND_PRIORITY}; policy accept;",
            '  oifname != "eth*" accept',
            "  ct state established,related accept",
            f"  {neighbours}",
            *(f"  {line}" for line in _accepts(rules.outbound, "daddr")),
            "  drop",
            "}",
        ],
    )


def trusted_sources(trusted: tuple[str, ...] | None, ports: tuple[int, ...]) -> str:
    """The nft program for a cluster; None lets everybody in. A stranger gets no answer, not a refusal.

    A stranger's connections that were open before the list changed are cut too: established traffic is no exception.
    """
    if trusted is None:
        return _replacing("inet trusted_sources", [])
    wanted = ", ".join(str(port) for port in ports)
    accepts = [
        f"  tcp dport {{ {wanted} }} {family} saddr {{ {networks} }} accept" for family, networks in _families(trusted)
    ]
    return _replacing(
        "inet trusted_sources",
        [
            "chain inbound {",
            "  type filter hook input priority 0; policy accept;",
            '  iifname "lo" accept',
            *accepts,
            f"  tcp dport {{ {wanted} }} drop",
            "}",
        ],
    )
