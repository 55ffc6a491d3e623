"""VPCs, cloud firewalls and reserved IPs."""

from __future__ import annotations

import ipaddress

from sandbox.plugins.errors import ProviderError, unfinished
from sandbox.plugins.fields import filled, one_of, ordered
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.common import (
    ACTION_TIMEOUT,
    Endpoint,
    camelled,
    go_time,
    name,
    region,
    retried,
    tag_list,
    tags,
    two_parts,
    unique_id,
    unless_empty,
)
from sandbox.plugins.rest import RestError
from sandbox.plugins.schema import Says, how
from sandbox.plugins.values import Values


def _cidr(value: str) -> str | None:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return f"expected a CIDR such as 10.10.0.0/20, got {value!r}"
    return None if "/" in value else f"expected a CIDR such as 10.10.0.0/20, got {value!r}"


def _ipv4(value: str) -> str | None:
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return f"expected an IPv4 address, got {value!r}"
    return None


def _create_vpc(cloud: Cloud, new: Values) -> Made:
    body = {"name": new["name"], "region": new["region"]}
    body |= unless_empty(description=new.get("description"), ip_range=new.get("ipRange"))
    with cloud.locks[f"vpc/{new['region']}"]:
        return Made(cloud.rest.post("/v2/vpcs", body)["vpc"]["id"])


def _vpc_state(vpc: Values) -> Values:
    return {
        **camelled(vpc),
        "vpcUrn": vpc["urn"],
        "createdAt": go_time(vpc["created_at"]),
    }


def _update_vpc(cloud: Cloud, change: Change) -> None:
    if change.of("name", "description"):
        body = {"name": change.new["name"]} | unless_empty(description=change.new.get("description"))
        cloud.rest.put(f"/v2/vpcs/{change.id}", body | {"default": bool(change.old.get("default"))})


def _delete_vpc(cloud: Cloud, id_: str, _: Values) -> None:
    """A VPC that has members for a moment more is tried again."""
    retried(
        cloud,
        120,
        f"VPC {id_}: empty",
        lambda: cloud.rest.delete(f"/v2/vpcs/{id_}"),
        again=lambda error: error.status in (403, 409),
    )


VPC = Resource(
    name="Vpc",
    properties={
        "name": name(),
        "region": how(replace=True, check=filled),
        "ipRange": how(computed=True, replace=True, check=_cidr),
    },
    create=_create_vpc,
    read=Endpoint("/v2/vpcs", "vpc", state=_vpc_state).read,
    update=_update_vpc,
    delete=_delete_vpc,
)


def _rules(side: str) -> Says:
    peers = how(unordered=True, item=how(check=filled))
    return how(
        unordered=True,
        inner={
            "action": how(left_out=True),
            "protocol": how(check=one_of("tcp", "udp", "icmp")),
            "portRange": how(check=filled),
            f"{side}Addresses": peers,
            f"{side}DropletIds": how(unordered=True),
            f"{side}LoadBalancerUids": peers,
            f"{side}KubernetesIds": peers,
            f"{side}Tags": tags(),
        },
    )


_PEERS = {
    "addresses": "Addresses",
    "tags": "Tags",
    "droplet_ids": "DropletIds",
    "load_balancer_uids": "LoadBalancerUids",
    "kubernetes_ids": "KubernetesIds",
}


def _rules_body(new: Values, key: str, side: str, peers: str) -> list[Values] | None:
    """Write rules for the API, each set in the official order; no rules at all are null."""
    like = FIREWALL.fields[key]
    parts = like.item.fields
    return [
        {
            "protocol": rule["protocol"],
            **unless_empty(ports=rule.get("portRange")),
            peers: unless_empty(
                **{wire: ordered(rule.get(side + key) or [], parts[side + key]) for wire, key in _PEERS.items()}
            ),
        }
        for rule in ordered(new.get(key) or [], like)
    ] or None


def _rules_state(rules: list[Values] | None, side: str, peers: str) -> list[Values]:
    told: list[Values] = []
    for rule in rules or []:
        ports = rule.get("ports") or ""
        state: Values = {"protocol": rule["protocol"]}
        if ports != "0":
            state["portRange"] = ports
        elif rule["protocol"] != "icmp":
            # The API says 0 for all ports, and for icmp, which has none.
            state["portRange"] = "all"
        found = rule.get(peers) or {}
        state |= {side + key: found[wire] for wire, key in _PEERS.items() if found.get(wire) is not None}
        told.append(state)
    return told


def _firewall_body(new: Values) -> Values:
    return {
        "name": new["name"],
        "inbound_rules": _rules_body(new, "inboundRules", "source", "sources"),
        "outbound_rules": _rules_body(new, "outboundRules", "destination", "destinations"),
        "droplet_ids": ordered(new.get("dropletIds") or []) or None,
        "tags": tag_list(new),
    }


def _firewall_state(firewall: Values) -> Values:
    return {
        **camelled(firewall),
        "inboundRules": _rules_state(firewall.get("inbound_rules"), "source", "sources"),
        "outboundRules": _rules_state(firewall.get("outbound_rules"), "destination", "destinations"),
    }


def _check_firewall(new: Values) -> list[tuple[str, str]]:
    wrong: list[tuple[str, str]] = []
    if not new.get("inboundRules") and not new.get("outboundRules"):
        wrong.append(("inboundRules", "at least one rule must be given, inbound or outbound"))
    for key in ("inboundRules", "outboundRules"):
        for i, rule in enumerate(new.get(key) or []):
            if isinstance(rule, dict) and rule.get("protocol") in ("tcp", "udp") and not rule.get("portRange"):
                wrong.append((f"{key}[{i}].portRange", "is required when the protocol is tcp or udp"))
    return wrong


def _delete_firewall(cloud: Cloud, id_: str, _: Values) -> None:
    cloud.rest.remove(f"/v2/firewalls/{id_}")


FIREWALL = Endpoint("/v2/firewalls", "firewall", _firewall_body, _firewall_state).resource(
    "Firewall",
    {
        "name": name(),
        "dropletIds": how(unordered=True),
        "inboundRules": _rules("source"),
        "outboundRules": _rules("destination"),
        "tags": tags(),
    },
    delete=_delete_firewall,
    check=_check_firewall,
)


def _assign(cloud: Cloud, address: str, droplet: int) -> None:
    def quiet() -> bool:
        actions = cloud.rest.get(f"/v2/droplets/{droplet}/actions", per_page=50)["actions"]
        return all(action["status"] in ("completed", "errored") for action in actions)

    cloud.wait(f"droplet {droplet}: no pending action", 120, quiet)
    _ip_action(cloud, address, {"type": "assign", "droplet_id": droplet})


def _ip_action(cloud: Cloud, address: str, body: Values) -> None:
    number = cloud.rest.post(f"/v2/reserved_ips/{address}/actions", body)["action"]["id"]

    def done() -> bool:
        action = cloud.rest.find(f"/v2/reserved_ips/{address}/actions/{number}", "action") or {"status": "unknown"}
        if action["status"] == "errored":
            raise ProviderError(f"reserved IP {address}: action {number} ({body['type']}) ended in an error")
        return action["status"] == "completed"

    cloud.wait(f"reserved IP {address}: {body['type']}", ACTION_TIMEOUT, done)


def _create_ip(cloud: Cloud, new: Values) -> Made:
    address = cloud.rest.post("/v2/reserved_ips", {"region": new["region"]})["reserved_ip"]["ip"]
    if new.get("dropletId"):
        with unfinished(address, ipAddress=address):
            _assign(cloud, address, new["dropletId"])
    return Made(address)


def _read_ip(cloud: Cloud, id_: str, known: Values) -> Values | None:
    ip = cloud.rest.find(f"/v2/reserved_ips/{id_}", "reserved_ip")
    if ip is None:
        return None
    told: Values = {"ipAddress": ip["ip"], "reservedIpUrn": f"do:reservedip:{ip['ip']}", "region": ip["region"]["slug"]}
    if known.get("dropletId") and ip.get("droplet"):
        told |= {"dropletId": ip["droplet"]["id"], "region": ip["droplet"]["region"]["slug"]}
    return told


def _update_ip(cloud: Cloud, change: Change) -> None:
    if change.of("dropletId"):
        if change.new.get("dropletId"):
            _assign(cloud, change.id, change.new["dropletId"])
        else:
            _ip_action(cloud, change.id, {"type": "unassign"})


def _delete_ip(cloud: Cloud, id_: str, known: Values) -> None:
    if known.get("dropletId"):
        try:
            _ip_action(cloud, id_, {"type": "unassign"})
        except RestError as error:
            if error.status != 422:
                raise
    cloud.rest.delete(f"/v2/reserved_ips/{id_}")


def _find_ip(cloud: Cloud, id_: str) -> tuple[str, Values]:
    droplet = (cloud.rest.find(f"/v2/reserved_ips/{id_}", "reserved_ip") or {}).get("droplet")
    return id_, {"dropletId": droplet["id"]} if droplet else {}


RESERVED_IP = Resource(
    name="ReservedIp",
    properties={"region": region(replace=True), "ipAddress": how(computed=True, check=_ipv4)},
    create=_create_ip,
    read=_read_ip,
    update=_update_ip,
    delete=_delete_ip,
    find=_find_ip,
)


def _create_assignment(cloud: Cloud, new: Values) -> Made:
    _assign(cloud, new["ipAddress"], new["dropletId"])
    return Made(unique_id(f"{new['dropletId']}-{new['ipAddress']}-"))


def _read_assignment(cloud: Cloud, _: str, known: Values) -> Values | None:
    droplet = cloud.rest.get(f"/v2/reserved_ips/{known['ipAddress']}")["reserved_ip"].get("droplet")
    return {} if droplet and droplet["id"] == known["dropletId"] else None


def _delete_assignment(cloud: Cloud, id_: str, known: Values) -> None:
    if _read_assignment(cloud, id_, known) is not None:
        _ip_action(cloud, known["ipAddress"], {"type": "unassign"})


def _find_assignment(_: Cloud, id_: str) -> tuple[str, Values]:
    address, droplet = two_parts("reserved IP assignment ", "<address>,<droplet id>", id_, numbered=True)
    return unique_id(f"{droplet}-{address}-"), {"ipAddress": address, "dropletId": int(droplet)}


RESERVED_IP_ASSIGNMENT = Resource(
    name="ReservedIpAssignment",
    properties={"ipAddress": how(replace=True, check=_ipv4), "dropletId": how(replace=True, check=filled)},
    create=_create_assignment,
    read=_read_assignment,
    delete=_delete_assignment,
    find=_find_assignment,
)

RESOURCES = (VPC, FIREWALL, RESERVED_IP, RESERVED_IP_ASSIGNMENT)
