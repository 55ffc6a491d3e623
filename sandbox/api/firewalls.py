"""Cloud firewalls, for droplets by number and by tag."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from sandbox.api.context import ApiError, Body, Call, invalid, list_of, new_uuid, not_built, now, operation
from sandbox.api.desired import holds
from sandbox.api.droplets import DROPLET
from sandbox.api.kinds import KINDS, Kind
from sandbox.store import Record, Store

_SIDES = (("inbound_rules", "sources"), ("outbound_rules", "destinations"))
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def _peer(call: Call, given: Any) -> Record:
    if not isinstance(given, dict) or not any(given.values()):
        raise invalid("firewall rule must have at least one source or destination")
    if given.get("kubernetes_ids"):
        raise not_built("kubernetes_ids in firewall rules")
    for kind in KINDS.values():
        for ident in list_of(str, given.get(kind.peers_field), kind.peers_field) if kind.peers_field else ():
            if call.store.get(kind.name, ident) is None:
                raise invalid(f"{kind.words(call)[0].replace('_', ' ')} {ident} not found")
    for address in list_of(str, given.get("addresses"), "addresses"):
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError:
            raise invalid(f"invalid address: {address}") from None
    _check_members(call, list_of(int, given.get("droplet_ids"), "droplet_ids"), list_of(str, given.get("tags"), "tags"))
    return {name: value for name, value in given.items() if value}


def _check_members(call: Call, droplet_ids: list[int], tags: list[str]) -> None:
    for ident in droplet_ids:
        if call.store.get("droplet", ident) is None:
            raise invalid(f"droplet {ident} not found")
    for tag in tags:
        if call.store.get("tag", tag) is None:
            raise invalid(f"tag {tag} not found")


def _rule(call: Call, given: Record, side: str) -> Record:
    if given.get("protocol") not in ("tcp", "udp", "icmp"):
        raise invalid("invalid protocol; must be one of: tcp, udp, icmp")
    ports = str(given.get("ports") or "")
    # ICMP has no ports: 0 without any, and those that are given mean nothing and come back as they were given.
    ports = "0" if ports == "all" or (given["protocol"] == "icmp" and not ports) else ports
    match = _PORTS.fullmatch(ports)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last <= 65535:
        raise invalid("invalid port range; ports must be a number, a range such as 8000-9000, or all")
    return {"protocol": given["protocol"], "ports": ports, side: _peer(call, given.get(side))}


def _firewall_fields(call: Call, own: str = "") -> Record:
    name = call.text(
        "name",
        pattern=r"[a-zA-Z0-9][a-zA-Z0-9.\-]+",
        message="name must start with an alphanumeric character and may contain only alphanumeric characters, . and -",
    )
    if any(other["name"] == name and other["id"] != own for other in call.store.list("firewall")):
        raise ApiError(409, "duplicate name")
    fields: Record = {"name": name}
    for direction, side in _SIDES:
        fields[direction] = [_rule(call, rule, side) for rule in call.objects(direction)]
    if not fields["inbound_rules"] and not fields["outbound_rules"]:
        raise invalid("must have at least one rule")
    fields["droplet_ids"] = list_of(int, call.body.get("droplet_ids"), "droplet_ids")
    fields["tags"] = call.texts("tags")
    _check_members(call, fields["droplet_ids"], fields["tags"])
    return fields


def held_droplets(store: Store, firewall: Record) -> list[Record]:
    """List the droplets that a firewall holds, by number or by tag."""
    return [droplet for droplet in store.list("droplet") if holds(firewall, droplet)]


def _save_firewall(call: Call, firewall: Record) -> Body:
    """Save a firewall as `waiting` for the droplets it holds; the job behind it makes that `succeeded` or `failed`."""
    held = [droplet["id"] for droplet in held_droplets(call.store, firewall)]
    firewall["pending_changes"] = [{"droplet_id": ident, "removing": False, "status": "waiting"} for ident in held]
    firewall["status"] = "waiting" if held else "succeeded"
    return FIREWALL.save(call, firewall)


FIREWALL = Kind(
    name="firewall",
    missing="firewall not found",
    label="name",
    lists_droplets=True,
    job="firewalls",  # droplets that no other one holds are open again
    lists=("firewalls_list",),
    reads=("firewalls_get",),
    removes=("firewalls_delete",),
)


@operation("firewalls_create")
def create_firewall(call: Call) -> Body:
    """Make a firewall for droplets by number and by tag."""
    fields = _firewall_fields(call)
    return _save_firewall(call, {"id": new_uuid(), "created_at": now(), **fields})


@operation("firewalls_update")
def update_firewall(call: Call) -> Body:
    """Replace all of a firewall."""
    firewall = FIREWALL.find(call)
    return _save_firewall(call, {**firewall, **_firewall_fields(call, firewall["id"])})


@operation("firewalls_assign_droplets", "firewalls_delete_droplets", "firewalls_add_tags", "firewalls_delete_tags")
def change_firewall_members(call: Call) -> None:
    """Add or remove droplets or tags."""
    firewall = FIREWALL.find(call)
    name = "droplet_ids" if call.operation.id.endswith("droplets") else "tags"
    given: list[Any] = list_of(int if name == "droplet_ids" else str, call.body.get(name), name)
    if not given:
        raise invalid(f"{name} is required")
    if call.operation.method == "POST":
        _check_members(call, given if name == "droplet_ids" else [], given if name == "tags" else [])
        firewall[name] = list(dict.fromkeys([*firewall[name], *given]))
    else:
        firewall[name] = [item for item in firewall[name] if item not in given]
    _save_firewall(call, firewall)


@operation("firewalls_add_rules", "firewalls_delete_rules")
def change_firewall_rules(call: Call) -> None:
    """Add or remove rules; one to remove must be given exactly."""
    firewall = FIREWALL.find(call)
    for direction, side in _SIDES:
        given = [_rule(call, rule, side) for rule in call.objects(direction)]
        if call.operation.method == "POST":
            firewall[direction] += given
        else:
            firewall[direction] = [rule for rule in firewall[direction] if rule not in given]
    _save_firewall(call, firewall)


@operation("droplets_list_firewalls")
def list_droplet_firewalls(call: Call) -> Body:
    """List the firewalls that hold a droplet."""
    droplet = DROPLET.find(call)
    return call.page("firewalls", [firewall for firewall in call.store.list("firewall") if holds(firewall, droplet)])
