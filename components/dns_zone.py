"""A DNS zone and its records."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pulumi
import pulumi_digitalocean as digitalocean

from blueprint.dns_records import (
    NOBODY,
    NULL,
    SHORTEST_TTL,
    TTL,
    UNKNOWN,
    Claim,
    RecordType,
    canonical,
    conflicts,
    relative,
)
from blueprint.settings.edge import DnsRecordSettings, identity_of
from components.component import AnclaComponent

_NAMES = ("CNAME", "MX", "NS", "SRV")  # their value is a name; without a dot at its end it is taken as relative
_CAA_FLAGS = 0
_AS_THEY_ARE = (NULL, NOBODY)
NAME_SERVERS = ("ns1.digitalocean.com", "ns2.digitalocean.com", "ns3.digitalocean.com")
"""Name servers of every zone at DigitalOcean: the registrar of the domain has to be given these."""


@dataclass(frozen=True, kw_only=True)
class DnsRecordArgs:
    """One record of any type. MX needs `priority`, SRV `priority`, `weight` and `port`, CAA `flags` and `tag`."""

    type: RecordType
    """A, AAAA, CNAME, TXT, MX, CAA, SRV or NS."""
    name: str
    """Relative to the domain, or complete; `@` is the domain itself."""
    value: pulumi.Input[str]
    """An address, the name of a host, text without quotes, or an authority, as the type wants it."""
    key: str | None = None
    """Tells records of one name and type apart where their values are outputs; default: the value."""
    ttl: int = TTL
    """Seconds; records of one name and type share it."""
    priority: int | None = None
    """Of MX and SRV: the lowest is tried first."""
    weight: int | None = None
    """Of SRV: the share of those with one priority."""
    port: int | None = None
    """Of SRV."""
    flags: int | None = None
    """Of CAA: 0, or 128 for critical."""
    tag: Literal["issue", "issuewild", "iodef"] | None = None
    """Of CAA."""


@dataclass(frozen=True, kw_only=True)
class DnsZoneArgs:
    """Inputs of `DnsZone`. Every name is relative to the domain, or complete; `@` is the domain itself."""

    domain: str
    """Domain of the zone, such as `example.org`."""
    names: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    """IPv4 address by name (A records), such as `{"@": droplet.address, "www": droplet.address}`."""
    names_ipv6: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    """IPv6 address by name (AAAA records)."""
    cnames: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    """Host by name (CNAME records); none can be at `@`."""
    records: Sequence[DnsRecordArgs] = ()
    """Records of other types, and more than one of a name and type."""
    authorities: Sequence[str] = ()
    """Authorities that may issue certificates (CAA records), such as `letsencrypt.org`; none: all may."""
    ttl: int = TTL
    """Seconds, at least 30, of the records of `names`, `names_ipv6`, `cnames` and `authorities`."""
    create: bool = True
    """False: the zone is in the account already. Records are added to it; the zone itself is left alone."""
    protected: bool = False
    """Protect the zone, and let records come and go. A `protect=True` in the options protects the records too."""
    project_id: pulumi.Input[str] | None = None
    """Project of the account to put the zone into; default: the account's default project."""


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
            return self.host_key if self.type in ("A", "CNAME") else f"{self.type.lower()}-{_label(self.name)}"
        readable = re.fullmatch(r"[a-z0-9.-]{1,60}", self.identity) and self.type != "TXT"
        end = self.identity if readable else hashlib.sha256(self.identity.encode()).hexdigest()[:12]
        return f"{self.type.lower()}-{_label(self.name)}-{end}"


def _label(name: str) -> str:
    return "apex" if name == "@" else f"_apex.{name}" if name == "apex" else name


def absolute(name: str) -> str:
    """Return a name with the dot at its end; `@` stays the apex."""
    return name if name == "@" or name.endswith(".") else f"{name}."


def build_records(args: DnsZoneArgs) -> list[Record]:
    """Return every record of the zone: names, authorities, and `records`.

    Raises:
        ValueError: a record that DigitalOcean would refuse, or two that cannot be side by side.
    """
    maps = {"A": args.names, "AAAA": args.names_ipv6, "CNAME": args.cnames}
    records = [
        Record(type=kind, name=relative(name, args.domain), value=_sent(kind, value, None), ttl=args.ttl)
        for kind, names in maps.items()
        for name, value in names.items()
    ]
    records += [
        Record(
            type="CAA",
            name="@",
            value=_sent("CAA", authority, "issue"),
            identity=f"issue {authority}",
            ttl=args.ttl,
            flags=_CAA_FLAGS,
            tag="issue",
        )
        for authority in args.authorities
    ]
    records += [_given(record, args.domain) for record in args.records]
    claims = [
        Claim(type=item.type, name=item.name, identity=item.identity, ttl=item.ttl, origin=f"{item.name} {item.type}")
        for item in records
    ]
    problems = [
        f"{item.name} {item.type}: ttl: {item.ttl} is below {SHORTEST_TTL}"
        for item in records
        if item.ttl < SHORTEST_TTL
    ]
    if problems := problems + list(conflicts([], claims)):
        raise ValueError("; ".join(problems))
    return records


def _given(record: DnsRecordArgs, domain: str) -> Record:
    details = {name: getattr(record, name) for name in ("ttl", "priority", "flags", "tag", "port", "weight")}
    identity = UNKNOWN
    if isinstance(record.value, str):
        # The checks of a stack file; a value that is known only at `up` is checked by DigitalOcean.
        form = {name: value for name, value in details.items() if name != "ttl"}
        checked = DnsRecordSettings(type=record.type, name=record.name, value=record.value, **form)
        identity = identity_of(checked)
    return Record(
        type=record.type,
        name=relative(record.name, domain),
        value=_sent(record.type, record.value, record.tag),
        identity=record.key or identity,
        **details,
    )


def _sent(kind: str, value: pulumi.Input[str], tag: str | None) -> pulumi.Input[str]:
    """Return a value as the API wants it: names with the dot at their end, `.` and `;` as they are."""
    if not isinstance(value, str):
        return pulumi.Output.from_input(value).apply(lambda known: _text(kind, known, tag))
    return _text(kind, value, tag)


def _text(kind: str, value: str, tag: str | None) -> str:
    value = canonical(kind, value)
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


class DnsZone(AnclaComponent):
    """A zone and its records. A record's resource is named after the record, so that one comes or goes alone."""

    domain: pulumi.Output[str]
    """Domain of the zone; what needs the zone first can take its name from here."""
    domain_urn: pulumi.Output[str]
    """URN of the zone, as a project lists it."""
    name_servers: pulumi.Output[Sequence[str]]
    """Name servers to give to the registrar."""
    hosts: pulumi.Output[Mapping[str, str]]
    """Value of every A and CNAME record that is alone at its name, by the complete name."""

    def __init__(self, name: str, args: DnsZoneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:index:DnsZone", name, opts)
        if args.create:
            # No `ip_address`: it makes an apex record that no resource owns.
            zone = digitalocean.Domain(f"{name}-zone", name=args.domain, opts=self._child(protected=args.protected))
        else:
            zone = digitalocean.Domain.get(f"{name}-zone", args.domain, opts=self._child())
        # Deleting the zone deletes its records.
        holder = self._goes_with(zone, protected=args.protected) if args.create else None
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
                opts=pulumi.ResourceOptions.merge(
                    self._child(deleted_with=holder, depends_on=[hosts[record.name]] if record.name in hosts else []),
                    pulumi.ResourceOptions(
                        delete_before_replace=is_host,
                        aliases=[pulumi.Alias(name=f"{name}-{other}") for other in former],
                        # The provider adds a dot to what it reads, and would see a difference at every preview. The
                        # name of the resource has the value in it, so nothing is missed.
                        ignore_changes=["value"] if record.value in _AS_THEY_ARE else [],
                    ),
                ),
            )
            if is_host:
                hosts[record.name] = made
        self._join(name, args.project_id, [zone.domain_urn])
        self.domain, self.domain_urn = zone.name, zone.domain_urn
        self.name_servers = pulumi.Output.from_input(NAME_SERVERS)
        values = {_complete(key, args.domain): made.value for key, made in hosts.items()}
        # Without any, `all` would give a list.
        self.hosts = pulumi.Output.all(**values) if values else pulumi.Output.from_input(dict[str, str]())
        self.register_outputs(
            {
                "domain": self.domain,
                "domain_urn": self.domain_urn,
                "name_servers": self.name_servers,
                "hosts": self.hosts,
            }
        )


def _complete(name: str, domain: str) -> str:
    return domain if name == "@" else f"{name}.{domain}"
