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
    converge,
    invalid,
    new_uuid,
    now,
    operation,
    random_text,
)
from sandbox.api.desired import vpc_spec
from sandbox.api.kinds import Kind, members, public_ips, serve_none
from sandbox.parts.base import RangeTakenError, VpcSpec
from sandbox.store import Record, Store

_PRIVATE = tuple(ipaddress.IPv4Network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


def free_public_ip(cloud: Cloud) -> str:
    """Choose a public address that no droplet and no database has."""
    return cloud.parts.free_public_ip(public_ips(cloud.store))


def free_private_ip(store: Store, vpc: Record) -> str:
    """Choose the lowest free address of a VPC; its first one is the gateway, as at DigitalOcean."""
    taken = {record["private_ip"] for _, record in members(store, vpc)}
    hosts = ipaddress.IPv4Network(vpc["ip_range"]).hosts()
    next(hosts)
    for host in hosts:
        if str(host) not in taken:
            return str(host)
    raise invalid("the VPC has no free address")


def vpc_body(_: Call, vpc: Record) -> Body:
    """Return the `vpc` object of the API."""
    return {**vpc, "urn": f"do:vpc:{vpc['id']}"}


def _make_network(call: Call, name: str, ip_range: str | None, taken: frozenset[str]) -> VpcSpec:
    """Make a network; without `ip_range` with the first free range.

    Chosen and made in one step: Docker knows that a range is free only once a network has it.

    Raises:
        RangeTakenError: the range that was asked for is taken on this computer.
        PartError: no range is free, or the network cannot be made.
    """
    parts, ident = call.cloud.parts, new_uuid()
    call.checked_after.add(f"vpc:{ident}")  # removes the network if the account does not get the VPC
    while True:
        spec = VpcSpec(id=ident, name=name, ip_range=ip_range or parts.networks.free_vpc_range(taken))
        try:
            parts.networks.create_vpc(spec)
        except RangeTakenError:
            if ip_range:
                raise
            taken |= {spec.ip_range}
        else:
            return spec


def _make_vpc(call: Call, name: str, region: str, ip_range: str | None, **fields: Any) -> Record:
    """Make a VPC and its network, which is there before the account shows it: members take addresses of its range.

    Raises:
        ApiError: 422, the range that was asked for is taken on this computer.
        PartError: no range is free, or the network cannot be made.
    """
    taken = frozenset(vpc["ip_range"] for vpc in call.store.list("vpc"))
    try:
        # A VPC that another call makes meanwhile changes the question, and another range is the answer.
        made = call.ask(("network", ip_range, taken), lambda: _make_network(call, name, ip_range, taken))
    except RangeTakenError as error:
        raise invalid(f"ip_range {ip_range} cannot be used on the machine of this sandbox: {error}") from None
    vpc: Record = {"id": made.id, "name": name, "description": "", "region": region, "ip_range": made.ip_range}
    return call.store.put("vpc", made.id, {**vpc, "created_at": now(), **fields})


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
    return str(network)


def _must_be_empty(call: Call, vpc: Record) -> None:
    if vpc["default"]:
        raise ApiError(403, "Can not delete default VPCs")
    if members(call.store, vpc):
        raise ApiError(409, "Can not delete VPC with members")


VPC = Kind(
    name="vpc",
    shown=vpc_body,
    missing="VPC not found",
    label="name",
    job="vpc:{id}",
    lists=("vpcs_list",),
    reads=("vpcs_get",),
    removes=("vpcs_delete",),
    removing=_must_be_empty,
)


@operation("vpcs_create")
def create_vpc(call: Call) -> Body:
    """Make a VPC; without `ip_range` it gets a free /20 inside 10.0.0.0/8. A region's first one is its default."""
    name = _vpc_name(call)
    region = call.one_of("region", catalog.REGIONS, "region is invalid")
    # The first VPC of a region is its default for good, whoever made it (godo#337, doctl#930).
    first = not call.store.list("vpc", region=region)
    vpc = _make_vpc(call, name, region, _vpc_range(call), default=first, description=_description(call))
    return {"vpc": vpc_body(call, vpc)}


@operation("vpcs_update", "vpcs_patch")
def update_vpc(call: Call) -> Body:
    """Rename or describe a VPC, or make it its region's default (which cannot be taken back, only given to another)."""
    vpc = VPC.find(call)
    if "name" in call.body or call.operation.id == "vpcs_update":
        vpc["name"] = _vpc_name(call, vpc["id"])
    if "description" in call.body or call.operation.id == "vpcs_update":
        vpc["description"] = _description(call)
    if call.body.get("default"):
        for other in call.store.list("vpc", region=vpc["region"], default=True):
            call.store.put("vpc", other["id"], {**other, "default": False})
        vpc["default"] = True
    return {"vpc": vpc_body(call, call.store.put("vpc", vpc["id"], vpc))}


@operation("vpcs_list_members")
def list_members(call: Call) -> Body:
    """List the droplets and databases of a VPC."""
    wanted = call.query.get("resource_type")
    found = [
        {"name": record["name"], "urn": kind.urn_of(record), "created_at": record["created_at"]}
        for kind, record in members(call.store, VPC.find(call))
        if wanted in (None, "", kind.urn)
    ]
    return call.page("members", found)


serve_none(VPC, "vpcs_list_peerings", "peerings")


def _wanted(cloud: Cloud, ident: str) -> VpcSpec | None:
    vpc = cloud.store.get("vpc", ident)
    return vpc_spec(vpc) if vpc else None


converge(
    "vpc",
    _wanted,
    lambda parts, vpc: parts.networks.create_vpc(vpc),
    lambda parts, ident: parts.networks.delete_vpc(ident),
)
