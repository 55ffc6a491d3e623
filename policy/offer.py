"""Compare `blueprint/prices.json` with the sizes and prices that an account is offered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from blueprint.sizes import APP_SIZES, DATABASE_SIZES, DROPLET_SIZES, REGISTRY_TIERS, TABLES, VALKEY_SIZES

Fetch = Callable[[str], Any]
_BY_A_PERSON = ("database", "valkey", "unit", "backup_share")
"""Tables whose prices no call of the API gives."""


class OfferError(RuntimeError):
    """The account could not be asked; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """`differences` are lines, `unanswered` paths without an answer, `by_a_person` tables with their sources."""

    differences: tuple[str, ...]
    unanswered: tuple[str, ...]
    by_a_person: tuple[str, ...]


def compare(fetch: Fetch) -> Offer:
    """Compare every table that the API can answer for. `fetch` returns the document of a path, or None."""
    differences: list[str] = []
    unanswered: list[str] = []
    for path, differing in _COMPARED.items():
        document = fetch(path)
        if document is None:
            unanswered.append(path)
        else:
            differences += differing(document)
    sources = (f"{name}: {TABLES[name]['source']}" for name in _BY_A_PERSON)
    return Offer(differences=tuple(differences), unanswered=tuple(unanswered), by_a_person=tuple(sources))


def account(api: str, token: str) -> Fetch:
    """Return what fetches from an account.

    Raises:
        OfferError: (when it fetches) no answer, or one that is refused.
    """
    client = httpx.Client(base_url=api.rstrip("/"), headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def fetch(path: str) -> Any:
        try:
            answer = client.get(path)
        except httpx.HTTPError as error:
            raise OfferError(f"{api}: {error or type(error).__name__}; see that it can be reached") from None
        if answer.status_code in (401, 403):
            raise OfferError(f"GET {path}: {answer.status_code}; give a token with read access in DIGITALOCEAN_TOKEN")
        return answer.json() if answer.is_success else None

    return fetch


def _droplets(document: Any) -> Iterator[str]:
    offered = {size["slug"]: size for size in document["sizes"]}
    for slug, size in DROPLET_SIZES.items():
        theirs = offered.get(slug)
        if theirs is None:
            yield f"droplet {slug}: is not offered"
            continue
        for key, mine, value in (
            ("vcpus", size.vcpus, theirs["vcpus"]),
            ("memory", size.memory, theirs["memory"]),
            ("disk", size.disk, theirs["disk"]),
            ("monthly", size.monthly, theirs["price_monthly"]),
        ):
            if mine != value:
                yield f"droplet {slug}: {key} is {value}, and {mine} here"


def _databases(document: Any) -> Iterator[str]:
    for engine, sizes in (("pg", DATABASE_SIZES), ("valkey", VALKEY_SIZES)):
        layouts = document["options"].get(engine, {}).get("layouts", [])
        offered = {slug for layout in layouts for slug in layout["sizes"]}
        yield from (f"database {engine} {slug}: is not offered" for slug in sizes if slug not in offered)


def _registries(document: Any) -> Iterator[str]:
    offered = {tier["slug"]: tier["monthly_price_in_cents"] / 100 for tier in document["options"]["subscription_tiers"]}
    yield from _by_price("registry", REGISTRY_TIERS, offered)


def _apps(document: Any) -> Iterator[str]:
    offered = {size["slug"]: float(size["usd_per_month"]) for size in document["instance_sizes"]}
    yield from _by_price("app", {slug: size.monthly for slug, size in APP_SIZES.items()}, offered)


def _by_price(table: str, known: dict[str, float], offered: dict[str, float]) -> Iterator[str]:
    for slug, monthly in known.items():
        if slug not in offered:
            yield f"{table} {slug}: is not offered"
        elif offered[slug] != monthly:
            yield f"{table} {slug}: monthly is {offered[slug]}, and {monthly} here"


_COMPARED: dict[str, Callable[[Any], Iterator[str]]] = {
    "/v2/sizes?per_page=200": _droplets,
    "/v2/databases/options": _databases,
    "/v2/registry/options": _registries,
    "/v2/apps/tiers/instance_sizes": _apps,
}
