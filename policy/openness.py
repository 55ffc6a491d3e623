"""What is open, and to whom: the networks and ports of a firewall's rules."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from policy.preview import UNKNOWN, Preview, Resource

SSH_PORT = 22
WEB_PORTS = frozenset({80, 443})
_ALL_PORTS = range(1, 65536)
_LARGEST = {4: 8, 6: 16}  # no organisation has a larger network; `0.0.0.0/1` is half of the world
_ANY = {"0.0.0.0": "0.0.0.0/0", "::": "::/0"}  # noqa: S104 - compared with, not listened on


def open_networks(sources: Iterable[str]) -> list[str]:
    """Return the sources that let the world in: those too large for one owner, also when they only add up to that.

    A text that is no network counts as open, and one that is known only after `up` does not.
    """
    found: list[str] = []
    networks: dict[int, list[Any]] = {4: [], 6: []}
    for source in sources:
        if source == UNKNOWN:
            continue
        try:
            network = ipaddress.ip_network(_ANY.get(source, source), strict=False)
        except ValueError:
            found.append(source)
            continue
        networks[network.version].append((network, source))
    for version, given in networks.items():
        for whole in ipaddress.collapse_addresses(network for network, _ in given):
            if whole.prefixlen < _LARGEST[version]:
                found += [source for network, source in given if network.subnet_of(whole)]
    return sorted(set(found))


def ports(port_range: Any) -> range:
    """Return the ports of a range as firewalls write it: `22`, `1-1024`, and `all` or `0` for every port."""
    text = str(port_range or "")
    if text in ("all", "0", "", UNKNOWN):
        return _ALL_PORTS
    low, _, high = text.partition("-")
    if not low.isdigit():
        return _ALL_PORTS
    return range(int(low), int(high if high.isdigit() else low) + 1)


def opened(preview: Preview) -> Iterator[tuple[Resource, str, range, list[str]]]:
    """Yield each rule that lets the world in: the firewall or balancer, the protocol, the ports, the sources."""
    for firewall in preview.of_kind("Firewall"):
        for rule in mappings(firewall.inputs.get("inboundRules")):
            sources = open_networks(texts(rule.get("sourceAddresses")))
            if sources and rule.get("protocol") != "icmp":
                yield firewall, str(rule.get("protocol")), ports(rule.get("portRange")), sources
    for balancer in preview.of_kind("LoadBalancer"):
        rules = balancer.inputs.get("firewall")
        allowed = texts(rules.get("allows")) if isinstance(rules, Mapping) else []
        sources = [item.removeprefix("cidr:") for item in allowed if item.startswith("cidr:")]
        if allowed and not open_networks(sources):
            continue
        for rule in mappings(balancer.inputs.get("forwardingRules")):
            yield balancer, str(rule.get("entryProtocol")), ports(rule.get("entryPort")), ["0.0.0.0/0"]


def named_ports(preview: Preview) -> frozenset[int]:
    """Return the ports that the stack file opens with a reason: `ancla:edge.ports`, each with `port` and `why`."""
    edge = preview.config.get("edge")
    given = edge.get("ports") if isinstance(edge, Mapping) else None
    rows = mappings(list(given.values()) if isinstance(given, Mapping) else None)
    return frozenset(int(row["port"]) for row in rows if row.get("why") and str(row.get("port")).isdigit())


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """Return the mappings in a list; what is none is left out."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    """Return the items of a list as texts."""
    return [str(item) for item in value] if isinstance(value, list) else []
