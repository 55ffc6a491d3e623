"""VPCs and the addresses in them."""

from __future__ import annotations

import ipaddress
from typing import Any

from sandbox import catalog
from sandbox.api.context import (
    ApiError,
    Body,
    Call,
    Cloud,
    invalid,
    job,
    new_uuid,
    not_found,
    now,
    operation,
    random_text,
)
from sandbox.api.desired import vpc_spec
from sandbox.parts.base import RangeTakenError
from sandbox.store import Record, Store

_PRIVATE = tuple(ipaddress.IPv4Network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


def free_public_ip(cloud: Cloud) -> str:
    """Choose a public address that no droplet and no database has."""
    taken = {record["public_ip"] for kind in ("droplet", "database") for record in cloud.store.list(kind)}
    return cloud.parts.free_public_ip(frozenset(taken))


def free_private_ip(store: Store, vpc: Record) -> str:
    """Choose the lowest free address of a VPC; its first one is the gateway, as at DigitalOcean."""
    taken = {
        record["private_ip"] for kind in ("droplet", "database") for record in store.list(kind, vpc_uuid=vpc["id"])
    }
    hosts = ipaddress.IPv4Network(vpc["ip_range"]).hosts()
    next(hosts)
    for host in hosts:
        if str(host) not in taken:
            return str(host)
    raise invalid("the VPC has no free address")


def vpc_body(vpc: Record) -> Body:
    """Return the `vpc` object of the API."""
    return {**vpc, "urn": f"do:vpc:{vpc['id']}"}


def _make_vpc(  # noqa: PLR0913 - a VPC has that many facts
    call: Call, name: str, region: str, ip_range: str | None, *, default: bool, description: str = ""
) -> Record:
    """Make a VPC and its network; without `ip_range` with the first free range.

    The network is made here and not by a job: Docker knows that a range is free only once a network has it, and
    members of the VPC take their addresses from the range at once.

    Raises:
        ApiError: 422, the range that was asked for is taken on this computer.
        PartError: no range is free, or the network cannot be made.
    """
    ident = new_uuid()
    call.cloud.touch(f"vpc:{ident}", wait=False)  # removes the network if this call fails later
    taken = {vpc["ip_range"] for vpc in call.store.list("vpc")}
    while True:
        vpc: Record = {
            "id": ident,
            "name": name,
            "description": description,
            "region": region,
            "ip_range": ip_range or call.cloud.parts.free_vpc_range(frozenset(taken)),
            "default": default,
            "created_at": now(),
        }
        try:
            call.cloud.parts.create_vpc(vpc_spec(vpc))
        except RangeTakenError as error:
            if ip_range:
                raise _not_on_this_computer(ip_range, str(error)) from None
            taken.add(vpc["ip_range"])
        else:
            return call.store.put("vpc", ident, vpc)


def _not_on_this_computer(ip_range: str, reason: str) -> ApiError:
    return invalid(f"ip_range {ip_range} cannot be used on the machine of this sandbox: {reason}")


def vpc_for(call: Call, wanted: Any, region: str) -> Record:
    """Return the VPC that a new member joins: the one asked for, else the region's default, made when first needed."""
    if wanted:
        vpc = call.store.get("vpc", str(wanted))
        if vpc is None:
            raise invalid("You specified an invalid VPC for Droplet creation.")
        if vpc["region"] != region:
            raise invalid("The VPC is in another region.")
        return vpc
    found = call.store.list("vpc", region=region, default=True)
    if found:
        return found[0]
    name = f"default-{region}"
    if call.store.list("vpc", name=name):
        name += f"-{random_text(6).lower()}"  # the customer has given the name to another one
    return _make_vpc(call, name, region, None, default=True)


def _members(store: Store, vpc: Record) -> list[Body]:
    return [
        {"name": record["name"], "urn": f"do:{kind}:{record['id']}", "created_at": record["created_at"]}
        for kind, table in (("droplet", "droplet"), ("dbaas", "database"))
        for record in store.list(table, vpc_uuid=vpc["id"])
    ]


def _vpc(call: Call) -> Record:
    vpc = call.store.get("vpc", call.params["vpc_id"])
    if vpc is None:
        raise not_found("VPC not found")
    return vpc


def _vpc_name(call: Call, own: str = "") -> str:
    name = call.text(
        "name",
        pattern=r"[a-zA-Z0-9\-.]+",
        message="name must be unique and may only contain alphanumeric characters, dashes, and periods",
    )
    if any(vpc["name"] == name and vpc["id"] != own for vpc in call.store.list("vpc")):
        raise invalid("A VPC with the same name already exists in your account")
    return name


def _description(call: Call) -> str:
    description = str(call.body.get("description") or "")
    if len(description) > 255:
        raise invalid("description is too long (maximum is 255 characters)")
    return description


def _vpc_range(call: Call) -> str | None:
    text = call.body.get("ip_range")
    if not text:
        return None
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError:
        raise invalid("ip_range is not a valid CIDR block") from None
    if not any(network.subnet_of(private) for private in _PRIVATE) or not 16 <= network.prefixlen <= 28:
        raise invalid("ip_range must be in RFC1918 private address space, between /16 and /28 in size")
    if any(network.overlaps(ipaddress.IPv4Network(vpc["ip_range"])) for vpc in call.store.list("vpc")):
        raise invalid("This range/size overlaps with another VPC network in your account")
    if reason := call.cloud.parts.check_vpc_range(str(network)):
        raise _not_on_this_computer(str(network), reason)
    return str(network)


@operation("vpcs_list")
def list_vpcs(call: Call) -> Body:
    """List the VPCs."""
    return call.page("vpcs", call.store.list("vpc"), vpc_body)


@operation("vpcs_create")
def create_vpc(call: Call) -> Body:
    """Make a VPC; without `ip_range` it gets a free /20 inside 10.0.0.0/8."""
    name = _vpc_name(call)
    region = call.one_of("region", catalog.REGIONS, "region is invalid")
    description = _description(call)
    vpc = _make_vpc(call, name, region, _vpc_range(call), default=False, description=description)
    return {"vpc": vpc_body(vpc)}


@operation("vpcs_get")
def get_vpc(call: Call) -> Body:
    """Return one VPC."""
    return {"vpc": vpc_body(_vpc(call))}


@operation("vpcs_update", "vpcs_patch")
def update_vpc(call: Call) -> Body:
    """Rename or describe a VPC, or make it its region's default (which cannot be taken back, only given to another)."""
    vpc = _vpc(call)
    if "name" in call.body or call.operation.id == "vpcs_update":
        vpc["name"] = _vpc_name(call, vpc["id"])
    if "description" in call.body or call.operation.id == "vpcs_update":
        vpc["description"] = _description(call)
    if call.body.get("default"):
        for other in call.store.list("vpc", region=vpc["region"], default=True):
            call.store.put("vpc", other["id"], {**other, "default": False})
        vpc["default"] = True
    return {"vpc": vpc_body(call.store.put("vpc", vpc["id"], vpc))}


@operation("vpcs_delete")
def delete_vpc(call: Call) -> None:
    """Remove a VPC that is no default and has no member."""
    vpc = _vpc(call)
    if vpc["default"]:
        raise ApiError(403, "Can not delete default VPCs")
    if _members(call.store, vpc):
        raise ApiError(409, "Can not delete VPC with members")
    call.store.delete("vpc", vpc["id"])
    call.cloud.touch(f"vpc:{vpc['id']}")


@operation("vpcs_list_members")
def list_members(call: Call) -> Body:
    """List the droplets and databases of a VPC."""
    members = _members(call.store, _vpc(call))
    if kind := call.query.get("resource_type"):
        members = [member for member in members if member["urn"].startswith(f"do:{kind}:")]
    return call.page("members", members)


@operation("vpcs_list_peerings")
def list_peerings(call: Call) -> Body:
    """List the peerings of a VPC: none, they cannot be made here."""
    _vpc(call)
    return call.page("peerings", [])


@job("vpc")
def converge_vpc(cloud: Cloud, ident: str) -> None:
    """Make the network of a VPC, or remove it."""
    vpc = cloud.store.get("vpc", ident)
    if vpc is None:
        cloud.parts.delete_vpc(ident)
    else:
        cloud.parts.create_vpc(vpc_spec(vpc))
