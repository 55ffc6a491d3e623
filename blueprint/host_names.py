"""Names of hosts and domains, in the ASCII form that DNS, certificates and DigitalOcean take."""

from __future__ import annotations

import re

import idna

LONGEST = 253
"""Characters of a whole name, without the dot at its end."""

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.IGNORECASE)
_LABEL_WITH_UNDERSCORES = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.IGNORECASE)


def check_domain(value: str) -> str:
    """Return a domain as it is written: lower-case ASCII labels joined by dots, at least two.

    Raises:
        ValueError: it is no such name; where it is written in Unicode, the message has its ASCII form.
    """
    refuse_unicode(value)
    labels = value.split(".")
    if len(labels) < 2 or value != value.lower() or not _is_name(labels, _LABEL) or len(value) > LONGEST:
        raise ValueError("is not a domain name: use lower-case labels joined by dots, such as example.org")
    return value


def check_host(value: str) -> str:
    """Return the name of a host as a record names it, with or without the dot at its end.

    Raises:
        ValueError: it is no name of a host, is an address, or is one label that no dot makes absolute.
    """
    refuse_unicode(value)
    name = value.removesuffix(".")
    labels = name.split(".")
    if re.fullmatch(r"[0-9.]+", value) or ":" in value:
        raise ValueError("is an address, and this record names a host; write the host's name")
    if not _is_name(labels, _LABEL_WITH_UNDERSCORES) or len(name) > LONGEST:
        raise ValueError("is not the name of a host, such as mail.example.org")
    if len(labels) == 1 and name == value:
        raise ValueError(f"is one label; write the full name, such as {value}.example.org")
    return value


def check_owner(value: str) -> str:
    """Return the name of a record: `@`, labels relative to the zone (`*` may be the first), or a full name.

    Raises:
        ValueError: it is no such name.
    """
    refuse_unicode(value)
    name = value.removesuffix(".")
    labels = name.removeprefix("*.").split(".") if name != "*" else []
    if value != "@" and (len(name) > LONGEST or not all(map(_LABEL_WITH_UNDERSCORES.fullmatch, labels))):
        raise ValueError("is not the name of a record: use @ for the domain itself, or labels such as www or _dmarc")
    return value


def refuse_unicode(value: str) -> None:
    """Refuse a name that is not in ASCII.

    Raises:
        ValueError: the message has the ASCII form, where there is one.
    """
    if value.isascii():
        return
    try:
        name = ".".join(_ascii_label(label) for label in re.split("[.\u3002\uff0e\uff61]", value))
    except idna.IDNAError:
        raise ValueError("is not in ASCII, and has no ASCII form (IDNA): a character in it is not allowed") from None
    raise ValueError(f"is not in ASCII, which DNS wants; write {name}")


def _ascii_label(label: str) -> str:
    if re.fullmatch(r"[\w*-]*", label, re.ASCII):  # `_dmarc`, `*` and the empty label of a final dot are no IDNA labels
        return label.lower()
    return idna.encode(label, uts46=True).decode()


def _is_name(labels: list[str], label: re.Pattern[str]) -> bool:
    """Return True if these are labels, and the last can be a top level: no number, `xn--…` included."""
    return all(map(label.fullmatch, labels)) and not labels[-1].isdigit()
