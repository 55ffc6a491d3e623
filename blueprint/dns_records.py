"""DNS records of a stack file: the form that each type's value has, and which records may stand side by side.

What DigitalOcean, or DNS itself, refuses is refused here by name: at `up` it would be an error in the middle of a
change, after part of the zone was changed already.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from blueprint.host_names import check_host

RecordType = Literal["A", "AAAA", "CNAME", "TXT", "MX", "CAA", "SRV", "NS"]

TTL = 1800
"""Seconds. Records of one name and type share one TTL at DigitalOcean, so there is one for all that Ancla makes."""

SHORTEST_TTL = 30
"""Seconds that DigitalOcean takes."""

FIELDS = {"MX": ("priority",), "SRV": ("priority", "weight", "port"), "CAA": ("flags", "tag")}
"""The keys that a type needs beside name and value; others are not taken."""

LONGEST_TEXT = 512
"""Characters of a TXT record that DigitalOcean takes."""

NULL = "."
"""Says in an MX or SRV record that there is no such service here (RFC 7505, RFC 2782)."""

UNKNOWN = ""
"""The identity of a record whose value is known only at `up`: it has its name and type to itself."""

NOBODY = ";"
"""Says in a CAA record that no authority may issue (RFC 8659)."""

_PARAMETER = re.compile(r"[A-Za-z0-9]+=[!-:<-~]*")
_NUMBER_FIRST = re.compile(r"[0-9]+\s+\S")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One record that there will be. `identity` is what tells it from others of its name and type.

    `origin` is where it comes from, and `remedy` what to do about another one at its place.
    """

    type: str
    name: str
    identity: str
    ttl: int
    origin: str
    remedy: str = ""


def relative(name: str, domain: str) -> str:
    """Return an absolute or relative name as a record of the zone is named: `@` is the apex."""
    name = name.rstrip(".").lower()
    return "@" if name in (domain, "@", "") else name.removesuffix(f".{domain}")


def is_outside(name: str, domain: str) -> bool:
    """Return True if a full name (with the dot at its end) is of another zone."""
    return name.endswith(".") and not f".{name.lower()}".endswith(f".{domain}.")


def canonical(kind: str, value: str) -> str:
    """Return a value in the one form that is compared and sent: names without the final dot, addresses shortened."""
    if kind in ("A", "AAAA"):
        return str(ipaddress.ip_address(value))
    if kind in ("CNAME", "MX", "NS", "SRV") and value != NULL:
        return value.lower().removesuffix(".")
    return value


def check_value(kind: str, value: str, tag: str | None = None) -> None:
    """Refuse a value that is not of its type's form.

    Raises:
        ValueError: the message says what is wrong and what to write.
    """
    if value.strip() != value or not value:
        raise ValueError("is empty" if not value.strip() else "begins or ends with a space; remove it")
    if kind in ("A", "AAAA"):
        _check_address(kind, value)
    elif kind == "TXT":
        _check_text(value)
    elif kind == "CAA":
        check_authority(value) if tag != "iodef" else _check_report(value)
    elif not (value == NULL and kind in ("MX", "SRV")) and value != "@":
        if _NUMBER_FIRST.match(value):
            keys = " and ".join(FIELDS.get(kind, ())) or "no key of this record"
            raise ValueError(f"begins with a number, which is no part of the value; numbers go in {keys}")
        check_host(value)


def _check_address(kind: str, value: str) -> None:
    version, form = (4, "203.0.113.9") if kind == "A" else (6, "2001:db8::9")
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(f"is not an IPv{version} address, such as {form}") from None
    if address.version != version or "%" in value:
        other = "AAAA" if kind == "A" else "A"
        more = f"; that is an {other} record" if address.version != version else ": leave out what follows the %"
        raise ValueError(f"is not an IPv{version} address, such as {form}{more}")


def _check_text(value: str) -> None:
    if len(value) > 1 and value[0] == value[-1] == '"':
        raise ValueError("has quotes around it, which would be part of the record; write it without")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("has a control character, such as a line break; write it on one line")
    if "\\" in value:
        raise ValueError("has a backslash, which DigitalOcean does not take in a TXT record")
    if len(value.encode()) > LONGEST_TEXT:
        raise ValueError(f"is longer than the {LONGEST_TEXT} characters that DigitalOcean takes in a TXT record")


def check_authority(value: str) -> str:
    """Return the value of a CAA record that lets an authority issue: its domain, `;` parameters after it, or `;` alone.

    Raises:
        ValueError: it is neither.
    """
    if '"' in value:
        raise ValueError("has quotes, which are no part of the value; write it without")
    domain, _, parameters = value.partition(";")
    if domain.strip():
        check_host(domain.strip())
    for parameter in re.split(r"[;\s]+", parameters.strip()):
        if parameter and not _PARAMETER.fullmatch(parameter):
            raise ValueError(
                f"has {parameter!r} after the authority; write name=value there, such as "
                "letsencrypt.org; validationmethods=dns-01"
            )
    if not domain.strip() and parameters.strip():
        raise ValueError('has parameters and no authority; ";" alone forbids everybody')
    return value


def _check_report(value: str) -> None:
    if not re.fullmatch(r"mailto:[^@\s]+@[^@\s]+|https?://\S+", value):
        raise ValueError("is not an address to report to: write mailto:… or https://…")


def conflicts(own: Sequence[Claim], wanted: Sequence[Claim]) -> Iterator[str]:
    """Yield a line for each record of the stack file (`wanted`) that cannot be beside those before it."""
    there: list[Claim] = []
    for claim in [*own, *wanted]:
        others = [other for other in there if other.name == claim.name]
        problem = next((line for other in others if (line := _conflict(claim, other)) is not None), None)
        if claim.type == "CNAME" and claim.name == "@":
            problem = "a CNAME cannot be at the domain itself, which has other records; use A records"
        if problem is not None:
            yield f"{claim.origin}: {problem}"
        there.append(claim)


def _conflict(claim: Claim, other: Claim) -> str | None:
    where = f"{claim.name} {other.type}"
    remedy = other.remedy or claim.remedy or "remove one"
    if claim.type == other.type and (claim.type == "CNAME" or UNKNOWN in (claim.identity, other.identity)):
        return f"{claim.name} has its {other.type} record already ({other.origin}); {remedy}"
    if claim.type == other.type and claim.identity == other.identity:
        return f"the record {where} {describe(claim.identity)} is there already ({other.origin}); {remedy}"
    if "CNAME" in (claim.type, other.type):
        return f"a CNAME stands alone at its name, and {where} is there too ({other.origin}); {remedy}"
    if claim.type == other.type and claim.ttl != other.ttl:
        return (
            f"its ttl is {claim.ttl}, and {where} has {other.ttl} ({other.origin}); records of one name and type "
            "share one, so give them the same"
        )
    if claim.type == other.type == "MX" and NULL in (claim.identity, other.identity):
        return f'an MX "{NULL}" says that no mail is taken, and {where} is there too ({other.origin}); {remedy}'
    return None


def describe(value: str) -> str:
    """Return a value as a message shows it."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"
