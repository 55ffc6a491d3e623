"""Domains and their records."""

from __future__ import annotations

from typing import Any

from sandbox import catalog
from sandbox.api.context import ApiError, Body, Call, converge, invalid, now, operation, pick, whole
from sandbox.api.desired import zones
from sandbox.api.dns_data import NAME_TYPES, is_domain, is_owner, stored_data
from sandbox.api.kinds import Kind
from sandbox.store import Record

_TYPES = ("A", "AAAA", "CAA", "CNAME", "MX", "NS", "SOA", "SRV", "TXT")
_FIELDS = ("id", "type", "name", "data", "priority", "port", "ttl", "weight", "flags", "tag")
_NUMBERS = {"priority": 65535, "weight": 65535, "port": 65535, "flags": 255}
# Which fields each type has to have beside name and data.
_NEEDS = {"MX": ("priority",), "SRV": ("priority", "port", "weight"), "CAA": ("flags", "tag")}


def _zone_file(call: Call, domain: Record) -> str:
    name = domain["name"]
    records = (f"{record.name} {record.ttl} IN {record.type} {record.data}" for record in zones(call.store)[name])
    return "\n".join((f"$ORIGIN {name}.", "$TTL 1800", *records)) + "\n"


def _domain_body(call: Call, domain: Record) -> Body:
    return {"name": domain["name"], "ttl": domain["ttl"], "zone_file": _zone_file(call, domain)}


def _record_body(_: Call, record: Record) -> Body:
    return pick(record, *_FIELDS)


def _must_not_be_authority(_: Call, record: Record) -> None:
    if record["type"] == "SOA":
        raise ApiError(422, "SOA records cannot be deleted")


DOMAIN = Kind(
    name="domain",
    parameter="domain_name",
    id="name",
    shown=_domain_body,
    urn="domain",
    label="name",
    job="zones",
    lists=("domains_list",),
    reads=("domains_get",),
    removes=("domains_delete",),
    removing=lambda call, domain: call.store.delete_children("record", domain["name"]),
)
RECORD = Kind(
    name="record",
    singular="domain_record",
    parent=DOMAIN,
    shown=_record_body,
    job="zones",
    reads=("domains_get_record",),
    removes=("domains_delete_record",),
    removing=_must_not_be_authority,
)


def _add(call: Call, domain: str, **fields: Any) -> Record:
    number = call.store.next_number("record", 1_750_000_001)
    record: Record = {**dict.fromkeys(_FIELDS), "ttl": 1800, **fields, "id": number}
    return call.store.put("record", number, record, parent=domain)


@operation("domains_create")
def create_domain(call: Call) -> Body:
    """Make a zone with its SOA and NS records, and an A record of its apex if `ip_address` is given."""
    name = call.text("name", message="Name can't be blank").lower().rstrip(".")
    if not is_domain(name):
        raise invalid("Name Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)")
    if call.store.get("domain", name):
        raise invalid("Name already exists")
    call.store.put("domain", name, {"name": name, "ttl": 1800, "created_at": now()})
    _add(call, name, type="SOA", name="@", data="1800")
    for server in catalog.NAME_SERVERS:
        _add(call, name, type="NS", name="@", data=server)
    if address := call.body.get("ip_address"):
        first: Record = {"type": "A", "name": "@", "tag": None}
        _add(call, name, **first, data=_stored_data(first, str(address), name))
    call.cloud.touch("zones")
    # The answer to a creation has neither of the two: the zone is being made.
    return {"domain": {"name": name, "ttl": None, "zone_file": None}}


def _stored_data(record: Record, data: str, domain: str) -> str:
    try:
        return stored_data(record["type"], data, domain, record["tag"])
    except ValueError as error:
        raise invalid(str(error)) from None


def _check(record: Record) -> None:
    kind = record["type"]
    for name in _NEEDS.get(kind, ()):
        if record[name] is None:
            raise invalid(f"{name.capitalize()} can't be blank.")
    for name, most in _NUMBERS.items():
        if record[name] is not None:
            whole(record, name, 0, most, f"{name.capitalize()} must be between 0 and {most}.")
    if kind == "CAA" and record["tag"] not in ("issue", "issuewild", "iodef"):
        raise invalid("Tag must be one of issue, issuewild, or iodef.")
    whole(record, "ttl", 30, 2**31 - 1, "TTL must be greater than or equal to 30.")


def _no_conflict(call: Call, domain: str, record: Record) -> None:
    """Refuse a CNAME that is not alone at its name. A record may be there twice, as DigitalOcean lets it.

    Raises:
        ApiError: 422.
    """
    for other in call.store.list("record", parent=domain, name=record["name"]):
        if other["id"] == record["id"]:
            continue
        if "CNAME" in (other["type"], record["type"]):
            raise invalid("CNAME records cannot share a name with other records")


def _given(call: Call, base: Record, domain: str) -> Record:
    body = call.body
    record = {**base, **{name: body[name] for name in _FIELDS if name in body and name != "id"}}
    if record["type"] not in _TYPES:
        raise invalid("Type is not valid")
    # The provider sends zeroes for what a type has not; the API shows null there.
    for name in (*_NUMBERS, "tag"):
        if name not in _NEEDS.get(record["type"], ()):
            record[name] = None
    owner = str(record["name"] or "").rstrip(".")
    if owner == domain:
        owner = "@"
    record["name"] = owner.removesuffix(f".{domain}")
    if record["type"] != "SOA":
        if not owner or not is_owner(record["name"], domain):
            raise invalid("Name can't be blank." if not owner else "Name is not valid")
        if "data" in body or not base.get("data"):
            data = call.text("data", message="Data can't be blank.")
            record["data"] = _stored_data(record, data, domain)
        elif call.operation.method == "PUT" and record["type"] in NAME_TYPES:
            # DigitalOcean checks what it has stored as if it came with the call, and misses the dot that it cut off.
            _stored_data(record, record["data"], domain)
    if not record["ttl"]:
        record["ttl"] = 1800
    _check(record)
    return record


@operation("domains_list_records")
def list_records(call: Call) -> Body:
    """List the records of a domain, of a type or a full name if asked."""
    domain = DOMAIN.find(call)["name"]
    records = call.store.list("record", parent=domain)
    if kind := call.query.get("type"):
        records = [record for record in records if record["type"] == kind.upper()]
    if name := call.query.get("name"):
        records = [r for r in records if name == (domain if r["name"] == "@" else f"{r['name']}.{domain}")]
    return call.page("domain_records", records, lambda record: _record_body(call, record))


@operation("domains_create_record")
def create_record(call: Call) -> Body:
    """Add a record. Records of one name and type share a TTL."""
    domain = DOMAIN.find(call)["name"]
    blank = {**dict.fromkeys(_FIELDS), "ttl": 1800}
    if call.body.get("type") == "SOA":
        raise invalid("Type SOA cannot be created")
    record = _given(call, blank, domain)
    _no_conflict(call, domain, record)
    record = _add(call, domain, **record)
    _share_ttl(call, domain, record)
    call.cloud.touch("zones")
    return {"domain_record": _record_body(call, record)}


def _share_ttl(call: Call, domain: str, record: Record) -> None:
    for other in call.store.list("record", parent=domain, name=record["name"], type=record["type"]):
        if other["ttl"] != record["ttl"]:
            call.store.put("record", other["id"], {**other, "ttl": record["ttl"]}, parent=domain)


@operation("domains_update_record", "domains_patch_record")
def update_record(call: Call) -> Body:
    """Change a record; its type stays."""
    domain = DOMAIN.find(call)["name"]
    old = RECORD.find(call)
    if call.body.get("type", old["type"]) != old["type"]:
        raise invalid("Type cannot be changed")
    record = _given(call, old, domain)
    _no_conflict(call, domain, record)
    call.store.put("record", record["id"], record, parent=domain)
    _share_ttl(call, domain, record)
    call.cloud.touch("zones")
    return {"domain_record": _record_body(call, record)}


converge("zones", lambda cloud, _: zones(cloud.store), lambda parts, wanted: parts.dns.set_zones(wanted))
