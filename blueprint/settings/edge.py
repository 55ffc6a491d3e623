"""By which names an environment is reached, and how strictly."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from blueprint.dns_records import FIELDS, NULL, SHORTEST_TTL, RecordType, canonical, check_value, describe
from blueprint.fields import Authority, Cidr, Domain, Duration, EmailAddress, Port, RecordName, Size, Slug, Written
from blueprint.model import Settings
from blueprint.reference_text import Text

LETSENCRYPT = "letsencrypt.org"
OPEN_PORTS = (22, 80, 443)
"""Ports that are open, or opened by another key: `edge.ports` names others."""

_PRELOAD = Duration("1y")  # the least that browsers' list takes (hstspreload.org)


def _ttl(value: Duration) -> Duration:
    if value < SHORTEST_TTL:
        raise ValueError(f"is too short: DigitalOcean takes {SHORTEST_TTL}s and more")
    return value


Ttl = Annotated[Duration, AfterValidator(_ttl)]
Feature = Annotated[
    str, Written(r"[a-z][a-z0-9-]*", "is not a feature of Permissions-Policy: use its name, such as geolocation")
]
Origin = Annotated[
    str,
    Written(
        r"self|\*|https?://[^\s/\"]+",
        'is not an origin: write self, "*" or a scheme and host, such as https://a.example',
    ),
]
HeaderText = Annotated[Text, Written(r'[^"\r\n]+', 'cannot be the value of a header: write one line, without "')]


class DnsRecordSettings(Settings):
    """One record beside those Ancla makes. Names are in ASCII (`xn--…`)."""

    type: RecordType = Field(description="Type of the record. A change replaces the record.")
    name: RecordName = Field(
        description="Name relative to the zone, such as `_dmarc`; `@` is the zone itself. A change replaces the record."
    )
    value: str = Field(
        description="An address for A and AAAA, a host for CNAME, MX, NS and SRV (`.`: there is no such service), text "
        "without quotes for TXT, an authority or `;` (nobody) for CAA. A change replaces the record, or changes it in "
        "place where it is the only A or CNAME record of its name."
    )
    ttl: Ttl | None = Field(
        default=None,
        description="How long others keep the record, at least `30s`; default: `edge.dns.ttl`. A change happens in "
        "place; records of one name and type share one.",
    )
    priority: int | None = Field(
        default=None, ge=0, le=65535, description="Of MX and SRV, which need it: the lowest is tried first."
    )
    flags: int | None = Field(default=None, ge=0, le=255, description="Of CAA, which needs it: 0, or 128 for critical.")
    tag: Literal["issue", "issuewild", "iodef"] | None = Field(default=None, description="Of CAA, which needs it.")
    port: int | None = Field(default=None, ge=0, le=65535, description="Of SRV, which needs it: the service's port.")
    weight: int | None = Field(
        default=None, ge=0, le=65535, description="Of SRV, which needs it: the share among those of one priority."
    )

    @model_validator(mode="after")
    def _form_of_the_type(self) -> DnsRecordSettings:
        needed = FIELDS.get(self.type, ())
        kind = f"{'an' if self.type in ('A', 'AAAA', 'MX', 'SRV', 'NS') else 'a'} {self.type} record"
        for field in ("priority", "weight", "port", "flags", "tag"):
            if field in needed and getattr(self, field) is None:
                raise ValueError(f"{kind} needs {' and '.join(needed)}")
            if field not in needed and getattr(self, field) is not None:
                raise ValueError(f"{kind} takes no {field}; remove it")
        try:
            check_value(self.type, self.value, self.tag)
        except ValueError as error:
            raise ValueError(f"value: {describe(self.value)} {error}") from None
        if self.type == "MX" and self.value == NULL and self.priority != 0:
            raise ValueError('priority: an MX "." (no mail is taken here) has priority 0')
        if self.type == "SRV" and self.value != NULL and self.port == 0:
            raise ValueError('port: 0 goes with the value "." (there is no such service here); name the port')
        return self


class DnsSettings(Settings):
    """The zone at DigitalOcean. Records of `edge.names` and of the CDN come by themselves."""

    manage: bool = Field(
        default=True,
        description="Make the zone and its records; false: they are somewhere else, and nothing is made. A change to "
        "false deletes the zone, which production refuses.",
    )
    caa: tuple[Authority, ...] | None = Field(
        default=None,
        description="Authorities that may issue certificates (CAA records); `[]`: all may; default: Let's Encrypt, and "
        "all where `edge.tls.issuer` is `custom` or `none`. A change makes and deletes records.",
    )
    ttl: Ttl = Field(
        default=Duration("30m"),
        description="How long others keep the zone's records, at least `30s`. A change happens in place.",
    )
    records: dict[Slug, DnsRecordSettings] = Field(
        default_factory=dict,
        description="Records beside those that Ancla makes, by a label of your own: it only shows in messages, so "
        "another label changes nothing.",
    )

    @model_validator(mode="after")
    def _records_of_a_zone(self) -> DnsSettings:
        if self.records and not self.manage:
            raise ValueError(
                "records: nobody would make them, because manage is false; make them where the zone is, or leave "
                "manage out"
            )
        return self


class TlsSettings(Settings):
    """The certificate of the environment's names."""

    issuer: Literal["letsencrypt", "managed", "custom", "none"] = Field(
        default="letsencrypt",
        description="`letsencrypt`: made and renewed on the droplet; `managed`: DigitalOcean's, at the load balancer; "
        "`custom`: yours, in `secrets.tls`; `none`: without HTTPS. A change happens in place.",
    )
    email: EmailAddress | None = Field(
        default=None, description="Address of the account at Let's Encrypt; default: none. A change happens in place."
    )


class HstsSettings(Settings):
    """Browsers come by HTTPS only, and remember it."""

    max_age: Duration = Field(
        default=Duration("30d"), description="How long a browser remembers it. A change reaches it at the next visit."
    )
    subdomains: bool = Field(
        default=False, description="It holds for every name below, too. A change reaches a browser at its next visit."
    )
    preload: bool = Field(
        default=False,
        description="Browsers may know it before the first visit; needs `subdomains` and a `maxAge` of `1y`. It takes "
        "months to undo.",
    )

    @model_validator(mode="after")
    def _fit_for_the_list(self) -> HstsSettings:
        if self.preload and (not self.subdomains or self.max_age < _PRELOAD):
            raise ValueError("preload: browsers' list takes only subdomains: true and a maxAge of at least 1y")
        return self


class HeaderSettings(Settings):
    """Headers of every answer. Texts may have references, such as `${buckets.assets.origin}`."""

    content_security_policy: HeaderText | None = Field(
        default=None, description="Content-Security-Policy; default: none is sent. A change happens in place."
    )
    permissions: dict[Feature, tuple[Origin, ...]] = Field(
        default_factory=dict,
        description="Permissions-Policy: origins that may use a feature, such as `geolocation: [self]`; `[]`: nobody. "
        "A change happens in place.",
    )
    frame: Literal["deny", "sameorigin"] = Field(
        default="sameorigin",
        description="X-Frame-Options: who may show the pages in a frame. A change happens in place.",
    )
    referrer: Literal[
        "no-referrer", "same-origin", "strict-origin", "strict-origin-when-cross-origin", "origin", "unsafe-url"
    ] = Field(
        default="strict-origin-when-cross-origin",
        description="Referrer-Policy: how much of the address other sites see. A change happens in place.",
    )


class PortSettings(Settings):
    """A port beside 22, 80 and 443 that is reached from outside."""

    port: Port = Field(description="Number of the port. A change happens in place.")
    protocol: Literal["tcp", "udp"] = Field(default="tcp", description="Protocol. A change happens in place.")
    sources: tuple[Cidr, ...] = Field(
        default=("0.0.0.0/0", "::/0"),
        min_length=1,
        alias="from",
        description="CIDRs that reach it; default: everywhere. A change happens in place.",
    )
    why: str = Field(min_length=1, description="Reason, which the policy and reviewers read. It changes nothing.")

    @model_validator(mode="after")
    def _another_port(self) -> PortSettings:
        if self.protocol == "tcp" and self.port in OPEN_PORTS:
            raise ValueError(f"port: {self.port} is open already: 22 by access, 80 and 443 to all; remove this one")
        return self


class EdgeSettings(Settings):
    """The names of the environment, and what is done at its edge."""

    names: tuple[Domain, ...] = Field(
        min_length=1,
        description="Names that lead to the app: the first is its address, the others redirect to it. A change makes "
        "and deletes records in place.",
    )
    zone: Domain | None = Field(
        default=None,
        description="Domain of the DNS zone, in which every name lies; default: the first name. A change replaces the "
        "zone, which production refuses.",
    )
    tls: TlsSettings = Field(default=TlsSettings(), description="The certificate.")
    hsts: HstsSettings = Field(
        default=HstsSettings(),
        description="Strict transport security, once the certificate is one that browsers trust.",
    )
    headers: HeaderSettings = Field(default=HeaderSettings(), description="Headers of every answer.")
    dns: DnsSettings = Field(default=DnsSettings(), description="The zone and its records.")
    proxy: Literal["none", "cloudflare"] = Field(
        default="none",
        description="`cloudflare`: only its addresses reach 80 and 443, and the visitor's own address is logged. A "
        "change happens in place.",
    )
    body_limit: Size = Field(
        default=Size("20M"), description="Largest request that is taken, such as an upload. A change happens in place."
    )
    ports: dict[Slug, PortSettings] = Field(
        default_factory=dict, description="Ports that are open beside 22, 80 and 443, by a label of your own."
    )

    @property
    def canonical(self) -> str:
        """The app's address, to which the other names redirect."""
        return self.names[0]

    @property
    def domain(self) -> str:
        """The domain of the zone."""
        return self.zone or self.canonical

    @property
    def authorities(self) -> tuple[str, ...]:
        """The authorities that may issue certificates; none: all may."""
        if self.dns.caa is not None:
            return self.dns.caa
        return (LETSENCRYPT,) if self.tls.issuer in ("letsencrypt", "managed") else ()

    @model_validator(mode="after")
    def _names_of_the_zone(self) -> EdgeSettings:
        for index, name in enumerate(self.names):
            if name in self.names[:index]:
                raise ValueError(f"names[{index}]: {name} is there twice; remove one")
            if not f".{name}".endswith(f".{self.domain}"):
                raise ValueError(
                    f"names[{index}]: {name} is not in the zone {self.domain}; set edge.zone to a domain that all "
                    "names are in, or remove the name"
                )
        return self


def identity_of(record: DnsRecordSettings) -> str:
    """Return what tells a record from others of its name and type: they may share a name, and not this."""
    value = canonical(record.type, record.value)
    return {"SRV": f"{record.port} {value}", "CAA": f"{record.tag} {value}"}.get(record.type, value)
