"""Guard against using the real cloud by accident: checks before the program may talk to an account.

- At the real API, the stack must have recorded the account it belongs to, and the token must be of that account.
- A token of the sandbox is refused at the real API; a real one is refused elsewhere than at the real API.
- The endpoint is written into the stack's state (`pinned_provider`), so that a later `pulumi destroy` in another shell
  does not take the ids of the sandbox to the real API, nor look for real resources in the sandbox.
- Spaces have the same addresses in the sandbox and outside, so a sandbox's stack has the id of its Spaces key pinned as
  well: with the secret half of a real one, Spaces refuse it. A real stack has not: each person has a key of their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pulumi_digitalocean as digitalocean

from blueprint.pulumi_config import RECIPIENT_VARIABLE
from blueprint.settings.backup import EXAMPLE_RECIPIENT
from blueprint.settings.environment import EnvironmentSettings

REAL_API = "https://api.digitalocean.com"
_REAL_TOKEN = re.compile(r"do[por]_v1_[0-9a-f]{64}")
_SECONDS = 15.0


class GuardError(RuntimeError):
    """The program must not run here; the message says why and what to do. It never shows a token."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """The account at the other end: its UUID, the root address of its API, and the id of a sandbox's Spaces key."""

    uuid: str
    endpoint: str
    spaces_access_id: str | None = None


def account_of(settings: EnvironmentSettings, environ: Mapping[str, str] = os.environ) -> Account:
    """Look up the account of the token, and check that the stack may be built there.

    Raises:
        GuardError: no token, the wrong kind of token, backups that nobody could decrypt, an API that does not answer,
            another account, a region without any VPC, or an environment that is there already, elsewhere.
    """
    endpoint = environ.get("DIGITALOCEAN_API_URL", "").rstrip("/") or REAL_API
    token = environ.get("DIGITALOCEAN_TOKEN") or environ.get("DIGITALOCEAN_ACCESS_TOKEN", "")
    check_token(endpoint, token)
    if is_real(endpoint) and settings.account is None:
        raise GuardError(
            f"{endpoint} is the real DigitalOcean, and this stack has no account recorded; "
            "`ops stack init` records it, or open `make shell` to work in the sandbox"
        )
    if is_real(endpoint) and EXAMPLE_RECIPIENT in settings.backup.recipients:
        raise GuardError(
            "ancla:backup.recipients has the example's, and nobody can decrypt what is encrypted for it; "
            "`ops backup keygen` makes your own"
        )
    if is_real(endpoint) and environ.get(RECIPIENT_VARIABLE):
        raise GuardError(
            f"{RECIPIENT_VARIABLE} is set, and {endpoint} is the real DigitalOcean; unset it: "
            "who can decrypt backups is in the stack file alone"
        )
    uuid = _ask(endpoint, token)
    if is_real(endpoint) and uuid != settings.account:
        raise GuardError(
            f"the token is of account {uuid}, and this stack belongs to {settings.account} (ancla:account); "
            "use that account's token"
        )
    _check_networks(endpoint, token, settings)
    spaces_access_id = None if is_real(endpoint) else environ.get("SPACES_ACCESS_KEY_ID")
    return Account(uuid=uuid, endpoint=endpoint, spaces_access_id=spaces_access_id)


def is_real(endpoint: str) -> bool:
    """Return True if an endpoint is DigitalOcean's own."""
    host = urlsplit(endpoint).hostname or ""
    return host == "digitalocean.com" or host.endswith(".digitalocean.com")


def check_token(endpoint: str, token: str) -> None:
    """Reject a token that does not match the endpoint.

    Raises:
        GuardError: no token, a made-up one at the real API, or a real one elsewhere.
    """
    if not token:
        raise GuardError("DIGITALOCEAN_TOKEN is not set; set it, or open `make shell` to work in the sandbox")
    looks_real = _REAL_TOKEN.fullmatch(token) is not None
    if is_real(endpoint) and not looks_real:
        raise GuardError(f"DIGITALOCEAN_TOKEN is no DigitalOcean token (dop_v1_…), and {endpoint} is the real API")
    if not is_real(endpoint) and looks_real:
        raise GuardError(
            f"DIGITALOCEAN_TOKEN looks like a real DigitalOcean token, and {endpoint} is not DigitalOcean; "
            "it is not sent there. Unset DIGITALOCEAN_API_URL, or open `make shell`"
        )


def pinned_provider(name: str, account: Account) -> digitalocean.Provider:
    """Return the provider with its endpoint as an input; tokens and keys stay in the environment, out of the state."""
    return digitalocean.Provider(name, api_endpoint=account.endpoint, spaces_access_id=account.spaces_access_id)


def _ask(endpoint: str, token: str) -> str:
    account = _get(endpoint, "/v2/account", token, "account")
    try:
        # `uuid` is the person's; what holds the resources is the team.
        return str((account.get("team") or account)["uuid"])
    except (KeyError, TypeError, AttributeError):
        raise GuardError(f"{endpoint}/v2/account names no account") from None


def _check_networks(endpoint: str, token: str, settings: EnvironmentSettings) -> None:
    """Refuse what would replace the environment's network and all that is in it, and the first VPC of a region.

    That one becomes the region's default, which no `pulumi destroy` deletes.
    """
    region, wanted = settings.region.value, getattr(settings.topology, "ip_range", None)
    vpcs = _get(endpoint, "/v2/vpcs?per_page=200", token, "vpcs")
    own = next((vpc for vpc in vpcs if vpc.get("name") == settings.stem), None)
    if own is not None and own.get("region") != region:
        raise GuardError(
            f"ancla:region: found {region}, and {settings.stem} is in {own.get('region')}; an environment cannot move: "
            "bring up a stack of another name there, restore the backups into it, and destroy this one"
        )
    if own is not None and wanted is not None and own.get("ip_range") != str(wanted):
        raise GuardError(
            f"ancla:topology.ipRange: found {wanted}, and the network of {settings.stem} has {own.get('ip_range')}; "
            "it cannot change: write that one, or bring up a stack of another name and restore the backups into it"
        )
    if not any(vpc.get("region") == region for vpc in vpcs):
        raise GuardError(
            f"{region} has no VPC yet, and the first one of a region can never be deleted; "
            f"`ops stack init` makes default-{region} (it costs nothing), then run this again"
        )


def _get(endpoint: str, path: str, token: str, key: str) -> Any:
    try:
        answer = httpx.get(f"{endpoint}{path}", headers={"Authorization": f"Bearer {token}"}, timeout=_SECONDS)
    except httpx.HTTPError as error:
        hint = "is it up?" if is_real(endpoint) else "start the sandbox with `make up`"
        raise GuardError(f"{endpoint} does not answer ({type(error).__name__}); {hint}") from None
    if answer.status_code == 401:
        raise GuardError(f"{endpoint} refuses DIGITALOCEAN_TOKEN (401); make another, or check which account it is of")
    try:
        return answer.raise_for_status().json()[key]
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError):
        raise GuardError(f"{endpoint}{path} answered {answer.status_code}, and names no {key}") from None
