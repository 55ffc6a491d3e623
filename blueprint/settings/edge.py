"""Under which names an environment is reached."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from blueprint.dns_records import FIELDS, NULL, TTL, RecordType, canonical, check_value, describe
from blueprint.fields import Authority, RecordName
from blueprint.model import Settings


class DnsRecordSettings(Settings):
    """One record beside those Ancla makes. `name` is relative to the domain (`@` is the domain itself).

    `value` has the form of its type: an address for A and AAAA, the name of a host for CNAME, MX, NS and SRV (`.` where
    there is no such service), text without quotes for TXT, an authority or `;` for CAA. Names are in ASCII (`xn--…`).
    `ttl` is in seconds. MX needs `priority`, SRV `priority`, `weight` and `port`, CAA `flags` and `tag`.
    """

    type: RecordType
    name: RecordName
    value: str
    ttl: int = Field(default=TTL, ge=30)
    priority: int | None = Field(default=None, ge=0, le=65535)
    flags: int | None = Field(default=None, ge=0, le=255)
    tag: Literal["issue", "issuewild", "iodef"] | None = None
    port: int | None = Field(default=None, ge=0, le=65535)
    weight: int | None = Field(default=None, ge=0, le=65535)

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
    """The zone. Records of the app and of the CDN come by themselves; `records` are added.

    `hosts` are the names that lead to the app; leave one out to give it a record of your own.
    """

    manage: bool = True
    hosts: tuple[Literal["@", "www", "api"], ...] = ("@", "www", "api")
    records: tuple[DnsRecordSettings, ...] = ()
    caa: tuple[Authority, ...] = Field(default=("letsencrypt.org",), description="authorities allowed to issue")


def identity_of(record: DnsRecordSettings) -> str:
    """Return what tells a record from others of its name and type: they may share a name, and not this."""
    value = canonical(record.type, record.value)
    return {"SRV": f"{record.port} {value}", "CAA": f"{record.tag} {value}"}.get(record.type, value)
