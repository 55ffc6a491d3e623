"""The zone of an environment's domain and every record in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_digitalocean as digitalocean

from blueprint.settings import DnsRecordSettings
from components.lifecycle import Kind, Lifecycle

TTL = 1800
"""Seconds. Records of one name and type share one TTL at DigitalOcean, so there is one for all that are made here."""

_NAMES = ("CNAME", "MX", "NS", "SRV")  # their value is a name; without a dot at its end it is taken as relative
_CAA_FLAGS = 0


@dataclass(frozen=True, kw_only=True)
class AssetsHost:
    """The custom domain of the CDN, and the endpoint it stands for."""

    domain: str
    endpoint: pulumi.Input[str]


@dataclass(frozen=True, kw_only=True)
class DnsZoneArgs:
    """`address` is the app's IPv4 address; `authorities` may issue certificates; `records` come beside those here."""

    domain: str
    address: pulumi.Input[str]
    authorities: Sequence[str]
    records: Sequence[DnsRecordSettings]
    assets: AssetsHost | None
    lifecycle: Lifecycle


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record. `key` names its resource and is unique in the zone; `name` is relative, `@` the apex."""

    key: str
    type: str
    name: str
    value: pulumi.Input[str]
    ttl: int = TTL
    priority: int | None = None
    flags: int | None = None
    tag: str | None = None
    port: int | None = None
    weight: int | None = None


def absolute(name: str) -> str:
    """Return a name with the dot at its end; `@` stays the apex."""
    return name if name == "@" or name.endswith(".") else f"{name}."


def relative(name: str, domain: str) -> str:
    """Return an absolute or relative name as a record of the zone is named."""
    name = name.rstrip(".")
    return "@" if name in (domain, "@", "") else name.removesuffix(f".{domain}")


def build_records(args: DnsZoneArgs) -> list[Record]:
    """Return every record of the zone.

    They are apex, www, api, assets where it has a certificate, CAA, and the settings' own.
    """
    records = [
        Record(key=f"a-{key}", type="A", name=name, value=args.address)
        for key, name in (("apex", "@"), ("www", "www"), ("api", "api"))
    ]
    if args.assets is not None and args.assets.domain.endswith(f".{args.domain}"):
        endpoint = pulumi.Output.from_input(args.assets.endpoint).apply(absolute)
        records.append(
            Record(key="cname-assets", type="CNAME", name=relative(args.assets.domain, args.domain), value=endpoint)
        )
    records += [
        Record(key=f"caa-{authority}", type="CAA", name="@", value=absolute(authority), flags=_CAA_FLAGS, tag="issue")
        for authority in args.authorities
    ]
    return records + [_of_settings(record, args.domain, args.records) for record in args.records]


def _of_settings(record: DnsRecordSettings, domain: str, others: Sequence[DnsRecordSettings]) -> Record:
    name = relative(record.name, domain)
    same = [other for other in others if (other.type, relative(other.name, domain)) == (record.type, name)]
    suffix = f"-{same.index(record) + 1}" if len(same) > 1 else ""
    is_name = record.type in _NAMES or (record.type == "CAA" and record.tag != "iodef")
    details: dict[str, Any] = record.model_dump(include={"ttl", "priority", "flags", "tag", "port", "weight"})
    return Record(
        key=f"{record.type.lower()}-{'apex' if name == '@' else name}{suffix}",
        type=record.type,
        name=name,
        value=absolute(record.value) if is_name else record.value,
        **details,
    )


class DnsZone(pulumi.ComponentResource):
    """The zone and its records."""

    domain_urn: pulumi.Output[str]

    def __init__(self, name: str, args: DnsZoneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:dns_zone:DnsZone", name, None, opts)
        # No `ip_address`: it makes an apex record that no resource owns.
        zone = digitalocean.Domain(f"{name}-zone", name=args.domain, opts=args.lifecycle.options(self, Kind.ZONE))
        # Deleting the zone deletes its records.
        part = pulumi.ResourceOptions(parent=self, deleted_with=args.lifecycle.goes_with(zone, Kind.ZONE))
        for record in build_records(args):
            digitalocean.DnsRecord(
                f"{name}-{record.key}",
                domain=zone.name,
                type=record.type,
                name=record.name,
                value=record.value,
                ttl=record.ttl,
                priority=record.priority,
                flags=record.flags,
                tag=record.tag,
                port=record.port,
                weight=record.weight,
                opts=part,
            )
        self.domain_urn = zone.domain_urn
        self.register_outputs({"domain_urn": self.domain_urn})
