"""The kinds of value that settings are made of: each refuses what it is not, and says what it would take."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints
from pydantic_core import CoreSchema, core_schema

from blueprint.sizes import DATABASE_SIZES, DROPLET_SIZES


class Region(StrEnum):
    """DigitalOcean regions that have Spaces, managed databases and droplets (provider schema 4.84)."""

    AMS3 = "ams3"
    ATL1 = "atl1"
    BLR1 = "blr1"
    FRA1 = "fra1"
    LON1 = "lon1"
    NYC3 = "nyc3"
    SFO3 = "sfo3"
    SGP1 = "sgp1"
    SYD1 = "syd1"
    TOR1 = "tor1"


_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")


def _domain(value: str) -> str:
    labels = value.split(".")
    if len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels) or not labels[-1].isalpha():
        raise ValueError("is not a domain name: use lower-case labels joined by dots, such as example.org")
    return value


def _cidr(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f"is not a CIDR: {error}; use an address and a prefix, such as 203.0.113.0/24") from None


@dataclass(frozen=True)
class OneOf:
    """One key of a table; the schema lists them, and the message names them."""

    table: tuple[str, ...]
    what: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "enum": sorted(self.table)}

    def _check(self, value: str) -> str:
        if value not in self.table:
            raise ValueError(f"is not a known {self.what}; allowed: {', '.join(sorted(self.table))}")
        return value


def _public_key(value: str) -> str:
    parts = value.split()
    if len(parts) < 2 or not parts[0].startswith(("ssh-", "ecdsa-", "sk-")):
        raise ValueError("is not an OpenSSH public key: paste the one line of a .pub file")
    return value


def _age_recipient(value: str) -> str:
    """Check the Bech32 checksum (BIP 173), by which every slip in one to four characters is seen."""
    remainder = 1
    # what stands before the last 1 is spread over the high and the low bits of its characters
    high, low = [ord(character) >> 5 for character in "age"], [ord(character) & 31 for character in "age"]
    for number in [*high, 0, *low, *("qpzry9x8gf2tvdw0s3jn54khce6mua7l".index(character) for character in value[4:])]:
        top, remainder = remainder >> 25, (remainder & 0x1FFFFFF) << 5 ^ number
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            remainder ^= generator if top >> bit & 1 else 0
    if remainder != 1:
        raise ValueError("is no age recipient: a character is wrong or out of place; copy it again")
    return value


Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,38}[a-z0-9]$")]
Domain = Annotated[str, AfterValidator(_domain)]
Cidr = Annotated[str, AfterValidator(_cidr)]
DropletSize = Annotated[str, OneOf(tuple(DROPLET_SIZES), "droplet size")]
DatabaseSize = Annotated[str, OneOf(tuple(DATABASE_SIZES), "database size")]
SshPublicKey = Annotated[str, AfterValidator(_public_key)]
AgeRecipient = Annotated[str, StringConstraints(pattern=r"^age1[02-9ac-hj-np-z]{58}$"), AfterValidator(_age_recipient)]
Schedule = Annotated[
    str,
    StringConstraints(
        min_length=1,
        # Roughly OnCalendar: a word such as daily, or weekdays, date and time; then a zone. The machine asks systemd.
        pattern=(
            r"^([a-z]{5,12}|([A-Z][a-z]{2,8}((,|\.\.)[A-Z][a-z]{2,8})*)?"
            r"( ?[0-9*][0-9*,./~]*(-[0-9*][0-9*,./~]*){1,2})?( ?[0-9*][0-9*,./]*(:[0-9*][0-9*,./]*){1,2})?)"
            r"( (UTC|[A-Z][A-Za-z]+/[A-Za-z_/+-]+))?$"
        ),
    ),
]
EnvironmentVariable = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]
PostgresMajor = Literal["13", "14", "15", "16", "17", "18"]
PostgresName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Percent = Annotated[int, Field(ge=1, le=100)]
