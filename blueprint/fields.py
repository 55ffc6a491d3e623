"""The kinds of value that settings are made of: each refuses what it is not, and says what it would take."""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from blueprint.dns_records import check_authority
from blueprint.host_names import check_domain, check_owner
from blueprint.sizes import APP_SIZES, DATABASE_SIZES, DROPLET_SIZES, VALKEY_SIZES


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


REGISTRY_REGIONS = ("ams3", "blr1", "fra1", "nyc3", "sfo2", "sfo3", "sgp1", "syd1")
"""Where container registries are (API reference of `POST /v2/registries`, October 2026). Not in every `Region`."""


def _cidr(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f"is not a CIDR: {error}; use an address and a prefix, such as 203.0.113.0/24") from None


def _private_network(value: str) -> str:
    network = ipaddress.ip_network(value)
    if not any(network.version == 4 and network.subnet_of(private) for private in _PRIVATE) or not (
        _LARGEST_NETWORK <= network.prefixlen <= _SMALLEST_NETWORK
    ):
        raise ValueError(
            "cannot be a private network of DigitalOcean: use 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, and a "
            "prefix from 16 to 28, such as 10.20.0.0/20"
        )
    return value


_PRIVATE = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))  # RFC 1918
_LARGEST_NETWORK, _SMALLEST_NETWORK = 16, 28  # prefixes (API reference of `POST /v2/vpcs`)


def _without_ipv6(value: str) -> str:
    if ":" in value:
        raise ValueError("is IPv6, which DigitalOcean's databases do not take as a trusted source; use IPv4")
    return value


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


@dataclass(frozen=True)
class OrNumber:
    """Text that looks like a whole number, taken as a number too: `pulumi config set` stores it as one."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._as_text, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        text = handler(schema)
        if "const" in text or "enum" in text:
            allowed = text.get("enum", [text.get("const")])
            return {"enum": [*allowed, *(int(item) for item in allowed)]}
        return {**text, "type": ["string", "integer"]}  # a pattern is of the text alone

    def _as_text(self, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


@dataclass(frozen=True)
class Written:
    """Text of one pattern. Editors get the pattern by the schema; a person gets `why`, which names what is allowed."""

    pattern: str
    why: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^({self.pattern})$"}

    def _check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise ValueError(self.why)
        return value


class _Quantity:
    """What sizes, durations and rates share: they are written as text with a unit, and shown as it was written."""

    pattern: ClassVar[str]
    why: ClassVar[str]

    def __init__(self, text: str) -> None:
        """Keep the text; the number is made of it before."""
        self.text = text

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._parsed, serialization=core_schema.to_string_ser_schema(when_used="json")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^({cls.pattern})$"}

    @classmethod
    def _parsed(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError(cls.why)  # noqa: TRY004 - pydantic reports a ValueError as the problem of the key
        return cls(value)

    @classmethod
    def _matched(cls, text: str) -> re.Match[str]:
        found = re.fullmatch(cls.pattern, text)
        if found is None:
            raise ValueError(cls.why)
        return found

    def __getnewargs__(self) -> tuple[str]:
        """Copy by the text."""
        return (self.text,)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"


class Size(_Quantity, int):
    """A size in bytes, written as `512M` or `20G`: the units are powers of 1024, as memory and disks are sold."""

    pattern = "[1-9][0-9]{0,6}[KMGT]"
    why = "is not a size: write a whole number and its unit, K, M, G or T (powers of 1024), such as 512M or 20G"

    def __new__(cls, text: str) -> Self:
        """Parse a size; a ValueError says what is allowed."""
        written = cls._matched(text)[0]
        return super().__new__(cls, int(written[:-1]) * 1024 ** (1 + "KMGT".index(written[-1])))


class Duration(_Quantity, int):
    """A duration in seconds, written as `30s`, `15m`, `26h`, `180d` or `1y` (365 days)."""

    pattern = "[1-9][0-9]{0,6}[smhdy]"
    why = (
        "is not a duration: write a whole number and its unit, s, m (minutes), h, d or y (365 days), "
        "such as 30s, 15m or 180d"
    )
    _SECONDS: ClassVar = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 365 * 86400}

    def __new__(cls, text: str) -> Self:
        """Parse a duration; a ValueError says what is allowed."""
        written = cls._matched(text)[0]
        return super().__new__(cls, int(written[:-1]) * cls._SECONDS[written[-1]])


class Latency(_Quantity, int):
    """How long an answer takes, in milliseconds, written as `500ms` or `5s`."""

    pattern = "[1-9][0-9]{0,5}(ms|s)"
    why = "is not a time of an answer: write a whole number and its unit, ms or s, such as 500ms or 5s"

    def __new__(cls, text: str) -> Self:
        """Parse a latency; a ValueError says what is allowed."""
        written = cls._matched(text)[0]
        return super().__new__(cls, int(written.rstrip("ms")) * (1 if written.endswith("ms") else 1000))


class Rate(_Quantity, float):
    """A rate in requests a second, written as `20r/s` or `10r/m` (a minute), which is also how Nginx takes it."""

    pattern = "[1-9][0-9]{0,6}r/[sm]"
    why = "is not a rate: write a whole number and r/s (a second) or r/m (a minute), such as 20r/s or 10r/m"

    def __new__(cls, text: str) -> Self:
        """Parse a rate; a ValueError says what is allowed."""
        written = cls._matched(text)[0]
        return super().__new__(cls, int(written[:-3]) / (60 if written.endswith("m") else 1))


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


_POSTGRES_BYTES = 63  # of a name; PostgreSQL cuts the rest off, and two names can become one


def _postgres_name(value: str) -> str:
    size = len(value.encode())
    if not value or "\0" in value:
        raise ValueError("cannot be a name in PostgreSQL: give at least one character, and no NUL")
    if size > _POSTGRES_BYTES:
        raise ValueError(f"has {size} bytes, and a name in PostgreSQL has at most {_POSTGRES_BYTES}; shorten it")
    return value


def _backed_up_name(value: str) -> str:
    if "/" in value or value in (".", "..") or value != value.strip() or not value.isprintable():
        raise ValueError(
            "names the folder of its backups too, and cannot: leave out / and line breaks, and spaces at the ends; "
            "a database of such a name is backed up by a source of backup.sources, which has a name of its own"
        )
    return value


def _known_zone(schedule: str) -> str:
    """Refuse a time zone that is none, where this computer knows the zones."""
    *before, zone = schedule.split()
    if before and zone[0].isalpha():
        known = zoneinfo.available_timezones()
        if known and zone not in known:
            raise ValueError(f"names the time zone {zone}, which is none; write one such as America/Mexico_City or UTC")
    return schedule


def slug(why: str = "") -> Written:
    """Return the pattern of a short name, which DigitalOcean, host names and folders take."""
    return Written(
        r"[a-z][a-z0-9-]{0,38}[a-z0-9]",
        f"is not a short name: use 2 to 40 lower-case letters, digits and -, a letter first and no - last{why}",
    )


Slug = Annotated[str, slug()]
Domain = Annotated[str, AfterValidator(check_domain)]
RecordName = Annotated[str, AfterValidator(check_owner)]
Authority = Annotated[str, AfterValidator(check_authority)]
Cidr = Annotated[str, AfterValidator(_cidr)]
PrivateNetwork = Annotated[Cidr, AfterValidator(_private_network)]
TrustedSource = Annotated[Cidr, AfterValidator(_without_ipv6)]
RegistryRegion = Annotated[str, OneOf(REGISTRY_REGIONS, "region of container registries")]
DropletSize = Annotated[str, OneOf(tuple(DROPLET_SIZES), "droplet size")]
AppSize = Annotated[str, OneOf(tuple(APP_SIZES), "App Platform size")]
DatabaseSize = Annotated[str, OneOf(tuple(DATABASE_SIZES), "database size")]
ValkeySize = Annotated[str, OneOf(tuple(VALKEY_SIZES), "size of Managed Valkey")]
SshPublicKey = Annotated[str, AfterValidator(_public_key)]
AgeRecipient = Annotated[
    str,
    Written(
        r"age1[02-9ac-hj-np-z]{58}", "is no age recipient: it is age1 and 58 characters, on one line; copy it again"
    ),
    AfterValidator(_age_recipient),
]
Schedule = Annotated[
    str,
    Written(
        # Roughly OnCalendar: a word such as daily, or weekdays, date and time; then a zone. systemd decides.
        r"(?=\S)([a-z]{5,12}|([A-Z][a-z]{2,8}((,|\.\.)[A-Z][a-z]{2,8})*)?"
        r"( ?[0-9*][0-9*,./~]*(-[0-9*][0-9*,./~]*){1,2})?( ?[0-9*][0-9*,./]*(:[0-9*][0-9*,./]*){1,2})?)"
        r"( [A-Z][A-Za-z0-9]*([/_+-][A-Za-z0-9]+)*)?",
        "is not a schedule of systemd (and cron's order is another): write weekdays, date and time, such as "
        '"*-*-* 03:00:00", "Mon..Fri 03:00" or "daily", and a zone after it if it is not UTC, such as '
        '"03:00 Europe/Berlin"; `systemd-analyze calendar` explains one',
    ),
    AfterValidator(_known_zone),
]
EnvironmentVariable = Annotated[
    str,
    Written(
        r"[A-Za-z_][A-Za-z0-9_.]*",
        "cannot be the name of a variable: the file that hands it to the container takes letters, digits, _ and ., "
        "and no digit first; rename it (many frameworks read __ for :)",
    ),
]
PostgresMajor = Annotated[Literal["13", "14", "15", "16", "17", "18"], OrNumber()]
ClusterMajor = Annotated[Literal["14", "15", "16", "17", "18"], OrNumber()]
"""Majors that DigitalOcean may sell: none that ended before 2026. `ops stack init` asks which it sells today."""

PostgresName = Annotated[str, AfterValidator(_postgres_name)]
ClusterDatabase = Annotated[PostgresName, AfterValidator(_backed_up_name)]
BucketName = Annotated[
    str,
    Written(
        r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
        "is not the name of a bucket: use 3 to 63 lower-case letters, digits and -, "
        "with a letter or digit at both ends",
    ),
]
EMAIL = r"[^@\s]+@[^@\s]+\.[^@\s]+"
EmailAddress = Annotated[str, Written(EMAIL, "is not an e-mail address, such as ops@example.org")]
UrlPath = Annotated[str, Written(r"/\S*", "is not a path: it begins with / and has no space, such as /health")]
AbsolutePath = Annotated[
    str,
    Written(
        r"/[^\x00]*[^/\x00]", "is not the full path of a file or folder: it begins with / and does not end with one"
    ),
]
RelativePath = Annotated[
    str,
    Written(
        r"(?!/)(?!(.*/)?\.\.?(/|$))[^\x00]*[^/\x00]",
        "is not a path within a folder: leave out the / at its beginning and end, and . and .. as names",
    ),
]
Port = Annotated[int, Field(ge=1, le=65535)]
Percent = Annotated[int, Field(ge=1, le=100)]
