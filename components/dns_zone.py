"""The zone of an environment's domain and every record in it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_digitalocean as digitalocean

from blueprint.dns_records import NOBODY, NULL, TTL, UNKNOWN, canonical, relative
from blueprint.settings import DnsRecordSettings, identity_of
from components.lifecycle import Kind, Lifecycle

_NAMES = ("CNAME", "MX", "NS", "SRV")  # their value is a name; without a dot at its end it is taken as relative
_CAA_FLAGS = 0
_AS_THEY_ARE = (NULL, NOBODY)


@dataclass(frozen=True, kw_only=True)
class AssetsHost:
    """The custom domain of the CDN, and the endpoint it stands for."""

    domain: str
    endpoint: pulumi.Input[str]


@dataclass(frozen=True, kw_only=True)
class DnsZoneArgs:
    """`address` is the app's IPv4 address, to which `hosts` lead; `authorities` may issue certificates.

    `records` come beside those.
    """

    domain: str
    address: pulumi.Input[str]
    hosts: Sequence[str]
    authorities: Sequence[str]
    records: Sequence[DnsRecordSettings]
    assets: AssetsHost | None
    lifecycle: Lifecycle


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record; `name` is relative, `@` the apex. `identity` tells it from others of its name and type."""

    type: str
    name: str
    value: pulumi.Input[str]
    identity: str = UNKNOWN
    ttl: int = TTL
    priority: int | None = None
    flags: int | None = None
    tag: str | None = None
    port: int | None = None
    weight: int | None = None

    @property
    def host_key(self) -> str:
        """The name of the resource where this is the one A or CNAME record of its name.

        Both types have it, so that one becomes the other by a replacement, whose delete can come first.
        """
        return f"host-{_label(self.name)}"

    @property
    def key(self) -> str:
        """The name of the resource by what the record is: nothing that is added or removed beside it changes it."""
        if not self.identity:
            return self.host_key
        readable = re.fullmatch(r"[a-z0-9.-]{1,60}", self.identity) and self.type != "TXT"
        end = self.identity if readable else hashlib.sha256(self.identity.encode()).hexdigest()[:12]
        return f"{self.type.lower()}-{_label(self.name)}-{end}"


def _label(name: str) -> str:
    return "apex" if name == "@" else f"_apex.{name}" if name == "apex" else name


def absolute(name: str) -> str:
    """Return a name with the dot at its end; `@` stays the apex."""
    return name if name == "@" or name.endswith(".") else f"{name}."


def build_records(args: DnsZoneArgs) -> list[Record]:
    """Return every record of the zone.

    They are the app's hosts, assets where it has a certificate, CAA, and the settings' own.
    """
    records = [Record(type="A", name=name, value=args.address) for name in dict.fromkeys(args.hosts)]
    if args.assets is not None and args.assets.domain.endswith(f".{args.domain}"):
        endpoint = pulumi.Output.from_input(args.assets.endpoint).apply(absolute)
        records.append(Record(type="CNAME", name=relative(args.assets.domain, args.domain), value=endpoint))
    records += [
        Record(
            type="CAA",
            name="@",
            value=_sent("CAA", authority, "issue"),
            identity=f"issue {authority}",
            flags=_CAA_FLAGS,
            tag="issue",
        )
        for authority in args.authorities
    ]
    return records + [_of_settings(record, args.domain) for record in args.records]


def _of_settings(record: DnsRecordSettings, domain: str) -> Record:
    details: dict[str, Any] = record.model_dump(include={"ttl", "priority", "flags", "tag", "port", "weight"})
    return Record(
        type=record.type,
        name=relative(record.name, domain),
        value=_sent(record.type, canonical(record.type, record.value), record.tag),
        identity=identity_of(record),
        **details,
    )


def _sent(kind: str, value: str, tag: str | None) -> str:
    """Return a value as the API wants it: names with the dot at their end, `.` and `;` as they are."""
    is_name = kind in _NAMES or (kind == "CAA" and tag != "iodef")
    return absolute(value) if is_name and value not in _AS_THEY_ARE else value


def build_resources(records: Sequence[Record]) -> list[tuple[str, list[str], Record]]:
    """Return each record with the name of its resource and the names that it may have had before.

    The one A or CNAME record of a name has the resource of that name (`host_key`), others one by their value. Where a
    second address comes to a name, the first listed one takes the resource over; where one is left, it takes its own
    back. So neither is made again.
    """
    hosts: dict[str, list[Record]] = {}
    for record in records:
        if record.type in ("A", "CNAME"):
            hosts.setdefault(record.name, []).append(record)
    found: list[tuple[str, list[str], Record]] = []
    for record in records:
        same = hosts[record.name] if record.type in ("A", "CNAME") else []
        if len(same) == 1:
            found.append((record.host_key, [record.key] if record.key != record.host_key else [], record))
        else:
            found.append((record.key, [record.host_key] if same and same[0] is record else [], record))
    return found


class DnsZone(pulumi.ComponentResource):
    """The zone and its records."""

    domain_urn: pulumi.Output[str]

    def __init__(self, name: str, args: DnsZoneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:dns_zone:DnsZone", name, None, opts)
        # No `ip_address`: it makes an apex record that no resource owns.
        zone = digitalocean.Domain(f"{name}-zone", name=args.domain, opts=args.lifecycle.options(self, Kind.ZONE))
        hosts: dict[str, digitalocean.DnsRecord] = {}
        # Hosts first: whatever comes to a name where a CNAME was waits until that one has gone.
        for key, former, record in sorted(
            build_resources(build_records(args)), key=lambda item: item[2].host_key not in (item[0], *item[1])
        ):
            is_host = record.host_key in (key, *former)
            made = digitalocean.DnsRecord(
                f"{name}-{key}",
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
                opts=pulumi.ResourceOptions(
                    parent=self,
                    # Deleting the zone deletes its records.
                    deleted_with=args.lifecycle.goes_with(zone, Kind.ZONE),
                    delete_before_replace=is_host,
                    depends_on=[hosts[record.name]] if record.name in hosts else [],
                    aliases=[pulumi.Alias(name=f"{name}-{other}") for other in former],
                    # The provider adds a dot to what it reads, and would see a difference at every preview. The name of
                    # the resource has the value in it, so nothing is missed.
                    ignore_changes=["value"] if record.value in _AS_THEY_ARE else [],
                ),
            )
            if is_host:
                hosts[record.name] = made
        self.domain_urn = zone.domain_urn
        self.register_outputs({"domain_urn": self.domain_urn})
