"""What was verified when, kept in the store itself as `ledger/<time>-<random>.json`.

Each holds all that is known, and is never written again: the newest that can be believed is enough. Old ones are
removed where the store lets them go. Two runs at once lose nothing but a little work: the later one's ledger holds.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import AwareDatetime, Field, ValidationError

from ops.core.errors import StoreError
from ops.core.models import Record
from ops.core.signing import Signature, SignedRecord, Signer
from ops.repository.records import Digest
from ops.repository.stores.base import Store

PREFIX = "ledger/"
LIMIT = 256 << 20
"""Bytes. A larger ledger is not ours."""
KEPT = 5
_KEY = re.compile(r"ledger/\d{8}T\d{12}Z-[0-9a-f]{6}\.json")


class Seen(Record):
    """One object that was read to its end at `at`, and was what its manifest said."""

    at: AwareDatetime
    sha256: Digest


class Ledger(SignedRecord):
    """All that is known at `verified_at`, by the object's key in the store."""

    verified_at: AwareDatetime
    objects: dict[str, Seen] = Field(default_factory=dict)
    signed: Signature | None = None


def read_ledger(store: Store, signers: Sequence[str]) -> dict[str, Seen]:
    """Return what is known to be verified; nothing where no ledger can be believed.

    Raises:
        StoreError: the store does not answer.
    """
    # one of the future, by a clock that was wrong, would be the newest until then
    for key in sorted((key for key in _keys(store) if key <= _stamp() + "~"), reverse=True):
        with store.open(key) as body:
            raw = body.read(LIMIT + 1)
        try:
            ledger = Ledger.model_validate_json(raw)
        except ValidationError:
            continue
        if len(raw) <= LIMIT and ledger.believed(signers):
            return dict(ledger.objects)
    return {}


def write_ledger(store: Store, ledger: Ledger, signer: Signer | None) -> None:
    """Write a new one, and remove all but the newest few where the store lets them go.

    Raises:
        StoreError: the store does not take it.
    """
    sealed = ledger.sealed(signer) if signer else ledger
    key = f"{_stamp()}-{secrets.token_hex(3)}.json"
    store.put_bytes(key, (sealed.model_dump_json() + "\n").encode())
    with contextlib.suppress(StoreError):  # locked, or a key that may not delete: they stay
        store.delete(sorted(_keys(store))[:-KEPT])


def _stamp() -> str:
    return f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"


def _keys(store: Store) -> list[str]:
    return [item.key for item in store.list(PREFIX) if _KEY.fullmatch(item.key)]
