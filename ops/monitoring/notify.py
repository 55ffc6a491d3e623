"""Send notifications with apprise: e-mail, Slack, WhatsApp gateways, webhooks, or any other service it supports.

The addresses are secret, as they contain tokens. Nothing here prints one, and apprise's own log, which may, is off.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from ops.monitoring.state import warn

SHUT_PORTS = {25, 465, 587}
"""SMTP: nothing leaves a droplet there, and no answer says so."""


def shut_to_droplets(addresses: Sequence[SecretStr]) -> list[str]:
    """Return one warning for each address that sends mail by a port that DigitalOcean shuts to its droplets."""
    return [
        f"secrets.notifications[{number}]: mail by port {_mail_port(address) or '25, 465 or 587'} does not leave a "
        "droplet; use an HTTPS address (Slack, a mail service's API), or a mail server's port 2525"
        for number, address in enumerate(addresses)
        if _mail_port(address) in {0, *SHUT_PORTS}
    ]


def _mail_port(address: SecretStr) -> int | None:
    """Return the port of an SMTP address, 0 where apprise chooses one; None if it is none, or not valid."""
    try:
        parts = urlsplit(address.get_secret_value().strip())
        return (parts.port or 0) if parts.scheme.lower() in {"mailto", "mailtos"} else None
    except ValueError:
        return None


def send(addresses: Sequence[SecretStr], *, title: str, body: str) -> int:
    """Send one message to every address; return how many accepted it. Each failure is one warning."""
    if not addresses:
        return 0
    import apprise  # noqa: PLC0415  # half a second of import, for the rare run that has something to say

    log = logging.getLogger("apprise")
    log.propagate = False
    log.handlers = [logging.NullHandler()]
    taken = 0
    for number, address in enumerate(addresses, 1):
        service = apprise.Apprise()
        where = f"notification {number} of {len(addresses)}"
        if not service.add(address.get_secret_value()):
            warn(f"{where}: secrets.notifications[{number - 1}] is not an address that apprise supports")
            continue
        kind = next((str(one.service_name) for one in service), "?")
        try:
            done = bool(service.notify(title=title, body=body))
        except Exception:  # noqa: BLE001  # a plugin's own mistake; its text may hold the address
            done = False
        if done:
            taken += 1
        else:
            warn(f"{where} ({kind}) was not accepted: {title}")
    return taken


def redacted(text: str, secrets: BaseModel) -> str:
    """Return the text with every secret value in it redacted."""
    for value in sorted(set(_values(secrets)), key=len, reverse=True):
        text = text.replace(value, "[secret]")
    return text


def _values(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        if len(found := value.get_secret_value()) >= 4:
            yield found
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _values(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from _values(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _values(item)
