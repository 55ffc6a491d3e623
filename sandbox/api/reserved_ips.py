"""Reserved IPs and their actions; under their old name, floating IPs, too."""

from __future__ import annotations

import ipaddress
from typing import Any

from sandbox import catalog
from sandbox.api import actions
from sandbox.api.account import RESERVED_IP_LIMIT
from sandbox.api.context import Body, Call, Cloud, converge, invalid, not_found, now, operation
from sandbox.api.desired import droplet_spec
from sandbox.api.droplets import droplet_body
from sandbox.api.kinds import Kind
from sandbox.api.projects import project_of
from sandbox.parts.base import DropletSpec
from sandbox.store import Record


def reserved_ip_body(cloud: Cloud, record: Record) -> Body:
    """Return the `reserved_ip` object of the API; its droplet in full, or null."""
    droplet = cloud.store.get("droplet", record["droplet_id"] or "")
    return {
        "ip": record["ip"],
        "region": catalog.region_body(record["region"]),
        "droplet": droplet_body(cloud, droplet) if droplet else None,
        "locked": record["locked"],
        "project_id": project_of(cloud.store, f"do:floatingip:{record['ip']}"),
    }


def _kind(call: Call) -> str:
    """Return what the called path calls a reserved IP."""
    return "floating_ip" if call.operation.id.startswith("floatingIPs") else "reserved_ip"


def _action_body(call: Call, action: Record) -> Body:
    return {**actions.action_body(action), "resource_type": _kind(call)}


def _move(call: Call, record: Record, droplet: Record | None) -> Record:
    """Start to assign a reserved IP to a droplet, or to take it away."""
    holder = record["droplet_id"]
    kind = "assign_ip" if droplet else "unassign_ip"
    turn = droplet["id"] if droplet else holder
    action = actions.begin(
        call.cloud,
        kind,
        resource_type="reserved_ip",
        resource_id=int(ipaddress.IPv4Address(record["ip"])),
        region=record["region"],
        droplet_id=turn,
        resource=record["ip"],
        before=holder,
    )
    changed = {**record, "droplet_id": droplet["id"] if droplet else None, "locked": True}
    call.store.put("reserved_ip", record["ip"], changed)
    call.cloud.touch(f"droplet:{turn}", wait=False)
    return action


def _target(call: Call, ident: Any, region: str | None) -> Record:
    droplet = call.store.get("droplet", str(ident))
    if droplet is None or droplet["deleting"]:
        raise not_found("The droplet you were accessing could not be found.")
    if region not in (None, droplet["region"]):
        raise invalid("The Reserved IP and the Droplet must be in the same region.")
    return droplet


def _must_be_quiet(call: Call, record: Record) -> None:
    if record["locked"]:
        raise invalid("Reserved IP already has a pending event.")
    if record["droplet_id"] is not None:
        call.cloud.touch(f"reserved:{record['droplet_id']}")  # it leaves its droplet


class _ReservedIp(Kind):
    def words(self, call: Call) -> tuple[str, str]:
        """Return what the called path calls it."""
        return _kind(call), f"{_kind(call)}s"


RESERVED_IP = _ReservedIp(
    name="reserved_ip",
    parameter="reserved_ip",
    id="ip",
    shown=lambda call, record: reserved_ip_body(call.cloud, record),
    urn="floatingip",
    label="ip",
    lists=("reservedIPs_list", "floatingIPs_list"),
    reads=("reservedIPs_get", "floatingIPs_get"),
    removes=("reservedIPs_delete", "floatingIPs_delete"),
    removing=_must_be_quiet,
)


@operation("reservedIPs_create", "floatingIPs_create")
def create_reserved_ip(call: Call) -> Body:
    """Reserve an address for a region, or for a droplet at once."""
    droplet = _target(call, call.body["droplet_id"], None) if call.body.get("droplet_id") else None
    region = droplet["region"] if droplet else call.one_of("region", catalog.REGIONS, "Region is not valid")
    existing = call.store.list("reserved_ip")
    if len(existing) >= RESERVED_IP_LIMIT:
        raise invalid("You have reached the limit of Reserved IPs for your account.")
    taken = frozenset(record["ip"] for record in existing)
    address = call.cloud.parts.free_public_ip(taken, reserved=True)
    record: Record = {
        "ip": address,
        "region": region,
        "droplet_id": None,
        "locked": False,
        "created_at": now(),
    }
    call.store.put("reserved_ip", address, record)
    shown = reserved_ip_body(call.cloud, record)
    body: Body = {_kind(call): shown, "links": {}}
    if droplet:
        action = _move(call, record, droplet)
        href = f"{call.cloud.base_url}/v2/droplets/{droplet['id']}"
        shown["locked"] = True
        body["links"] = {
            "droplets": [{"id": droplet["id"], "rel": "droplet", "href": href}],
            "actions": [actions.link(call.cloud, action, "assign_ip")],
        }
    return body


@operation("reservedIPsActions_post", "floatingIPsActions_post")
def post_reserved_ip_action(call: Call) -> Body:
    """Assign a reserved IP to a droplet, or unassign it."""
    record = RESERVED_IP.find(call)
    kind = call.one_of("type", ("assign", "unassign"), "You specified an invalid action type.")
    if record["locked"]:
        raise invalid("Reserved IP already has a pending event.")
    droplet = _target(call, call.body.get("droplet_id"), record["region"]) if kind == "assign" else None
    if droplet and record["droplet_id"] == droplet["id"]:
        raise invalid("The Reserved IP is already assigned to this Droplet.")
    if not droplet and record["droplet_id"] is None:
        raise invalid("The Reserved IP is not assigned to a Droplet.")
    action = _move(call, record, droplet)
    project = project_of(call.store, f"do:floatingip:{record['ip']}")
    return {"action": {**_action_body(call, action), "project_id": project}}


@operation("reservedIPsActions_list", "floatingIPsActions_list")
def list_reserved_ip_actions(call: Call) -> Body:
    """List the actions of a reserved IP, newest first."""
    record = RESERVED_IP.find(call)
    found = actions.of_resource(call, "reserved_ip", record["ip"])
    return call.page("actions", found, lambda action: _action_body(call, action))


@operation("reservedIPsActions_get", "floatingIPsActions_get")
def get_reserved_ip_action(call: Call) -> Body:
    """Return one action of a reserved IP."""
    found = actions.one_of_resource(call, "reserved_ip", RESERVED_IP.find(call)["ip"])
    return {"action": {**found["action"], "resource_type": _kind(call)}}


def _holder(cloud: Cloud, ident: str) -> DropletSpec | None:
    droplet = cloud.store.get("droplet", ident)
    return droplet_spec(cloud.store, droplet) if droplet and not droplet["deleting"] else None


converge("reserved", _holder, lambda parts, droplet: parts.droplets.set_reserved_ips(droplet))
