"""The data of DNS records: as the API takes it, as it stores and answers it, and as a zone file has it."""

from __future__ import annotations

import ipaddress
import re

from sandbox.store import Record

# Records whose data is a name: the stored form has no final dot, and `@` stands for the domain itself.
NAME_TYPES = frozenset({"CNAME", "MX", "NS", "SRV"})
# "There is none": no mail here (RFC 7505), no such service here (RFC 2782).
_MAY_BE_ROOT = frozenset({"MX", "SRV"})
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_OWNER = re.compile(rf"@|\*|(?=.{{1,253}}\Z)(\*\.)?{_LABEL}(\.{_LABEL})*")
# A top-level domain has letters, or is the ASCII form of an internationalized one (xn--p1ai).
_DOMAIN = re.compile(r"(?=.{4,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+([a-z]{2,63}|xn--[a-z0-9-]{0,58}[a-z0-9])")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")


def is_domain(name: str) -> bool:
    """Return True if the account can have a domain of this name: lower case, ASCII."""
    return _DOMAIN.fullmatch(name) is not None


def is_owner(name: str, domain: str) -> bool:
    """Return True if a record of the domain can be at this relative name."""
    return _OWNER.fullmatch(name) is not None and len(f"{name}.{domain}") <= 253


def stored_data(kind: str, data: str, domain: str, tag: str | None = None) -> str:
    """Return a record's data as the API stores it.

    Names, and the authorities of CAA records, must come with a final dot and are stored without it; the domain's own
    name is stored as `@`, and a lone dot as it is.

    Raises:
        ValueError: the data does not fit the type; the message is the API's.
    """
    if kind in ("A", "AAAA"):
        return _address(kind, data)
    if kind == "CAA":
        return _authority(data, tag)
    if kind not in NAME_TYPES or data == "@":
        return data
    if not data.endswith("."):
        raise ValueError("Data needs to end with a dot (.)")
    if data == "." and kind in _MAY_BE_ROOT:
        return data
    name = data[:-1]
    if not _HOST.fullmatch(name):
        raise ValueError("Data needs to be a hostname.")
    return "@" if name.lower() == domain else name


def _address(kind: str, data: str) -> str:
    version = ipaddress.IPv4Address if kind == "A" else ipaddress.IPv6Address
    try:
        version(data)
    except ValueError:
        data = ""
    if not data or "%" in data:  # a zone index means something on one computer alone
        raise ValueError(f"IP address did not match IPv{4 if kind == 'A' else 6} format (e.g. 127.0.0.1).")
    return data


def _authority(data: str, tag: str | None) -> str:
    if not _PRINTABLE.fullmatch(data):
        raise ValueError("Data is not valid")
    if tag == "iodef" or data == ";":
        return data
    if not data.endswith(".") or data == ".":
        raise ValueError("Data needs to end with a dot (.)")
    return data[:-1]


def zone_data(record: Record, domain: str) -> str:
    """Return the data of a stored record as a zone file has it.

    Raises:
        ValueError: a zone file cannot have it.
    """
    kind, data = record["type"], str(record["data"])
    if kind in NAME_TYPES:
        data = _absolute(data, domain)
        if data != "." and not _HOST.fullmatch(data[:-1]):
            raise ValueError(f"{data} is not a name")
    match kind:
        case "A" | "AAAA":
            return _address(kind, data)
        case "MX":
            return f"{int(record['priority'])} {data}"
        case "SRV":
            return f"{int(record['priority'])} {int(record['weight'])} {int(record['port'])} {data}"
        case "CAA":
            return f"{int(record['flags'])} {record['tag']} {_quoted(data.encode())}"
        case "TXT":
            # A character string of the wire format has at most 255 octets (RFC 1035).
            octets = data.encode()
            return " ".join(_quoted(octets[at : at + 200]) for at in range(0, max(len(octets), 1), 200))
        case _:
            return data


def _absolute(data: str, domain: str) -> str:
    if data == "@":
        return f"{domain}."
    return data if data.endswith(".") else f"{data}."


def _quoted(octets: bytes) -> str:
    """Quote a character string; everything but printable ASCII is written as its decimal octet."""
    plain = "".join(
        f"\\{chr(octet)}" if octet in b'"\\' else chr(octet) if 0x20 <= octet < 0x7F else f"\\{octet:03d}"
        for octet in octets
    )
    return f'"{plain}"'
