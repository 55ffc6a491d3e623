"""Keep a log of verifications and deletions in the store itself, as `ledger/<time>-<random>.json`.

Each log is complete and never rewritten: the newest trusted one suffices. Old ones are removed where
the store allows it. Of two concurrent runs the later one's log counts, and a little work is repeated.

It reveals a vanished backup: one that was seen complete, no longer exists, and was not pruned.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from ops.core.errors import KeyProblemError, StoreError
from ops.core.signing import SIGNATURE_SUFFIX, Namespace, Signer, same_key, seal
from ops.repository.records import Digest
from ops.repository.signed_objects import put_signed, read_signed
from ops.repository.stores.base import Store

PREFIX = "ledger/"
LIMIT = 256 << 20
"""Maximum bytes of a log; Ancla writes none that is larger."""
KEPT = 5
_KEY = re.compile(r"ledger/\d{8}T\d{12}Z-[0-9a-f]{6}\.json")


class Seen(BaseModel):
    """An object read completely at `at` and found equal to its manifest; `modified` by the store's clock."""

    at: AwareDatetime
    sha256: Digest
    modified: AwareDatetime | None = None


class VerificationLog(BaseModel):
    """Everything known at `verified_at`: objects by their keys, backups by their prefixes (`name/id/`).

    `backups` are those seen complete, with their manifests' digests; `deleted` are those that `prune` has
    deleted, or whose loss a person has accepted.
    """

    verified_at: AwareDatetime
    objects: dict[str, Seen] = Field(default_factory=dict)
    backups: dict[str, Digest] = Field(default_factory=dict)
    deleted: dict[str, AwareDatetime] = Field(default_factory=dict)


def read_log(store: Store, signers: Sequence[str]) -> VerificationLog:
    """Return the newest trusted log; an empty one if there is none.

    Raises:
        StoreError: the store does not answer.
    """
    # a log dated in the future by a wrong clock would be the newest until then
    for key in sorted((key for key in _keys(store) if key <= _stamp() + "~"), reverse=True):
        stored = read_signed(store, key, limit=LIMIT)
        if len(stored.content) > LIMIT or not stored.is_trusted(signers, Namespace.VERIFICATION_LOG):
            continue
        with contextlib.suppress(ValidationError):
            return VerificationLog.model_validate_json(stored.content)
    return VerificationLog(verified_at=datetime.fromtimestamp(0, UTC))


def write_log(store: Store, log: VerificationLog, signer: Signer | None) -> None:
    """Write a new log, and remove all except the newest few where the store allows it.

    Raises:
        StoreError: the store refused.
    """
    key = f"{_stamp()}-{secrets.token_hex(3)}.json"
    put_signed(store, key, seal((log.model_dump_json() + "\n").encode(), signer, Namespace.VERIFICATION_LOG))
    with contextlib.suppress(StoreError):  # locked, or the key may not delete: they stay
        old = sorted(_keys(store))[:-KEPT]
        store.delete([name for key in old for name in (key, key + SIGNATURE_SUFFIX)])


def is_trusted(signer: Signer | None, signers: Sequence[str]) -> bool:
    """Return True if a later run will trust the signatures of `signer`; an untrusted log would only displace others."""
    return not signers or (signer is not None and any(same_key(signer.public, key) for key in signers))


def note_deleted(
    store: Store, prefixes: Collection[str], now: datetime, *, signer: Signer | None, signers: Sequence[str]
) -> None:
    """Record the deletion of backups (`name/id/`) before it happens: any other loss is a problem.

    Raises:
        KeyProblemError: no key is given whose log would be trusted.
        StoreError: the store refused.
    """
    if not is_trusted(signer, signers):
        raise KeyProblemError(
            "deletions are recorded in the verification log, and no key of backup.signers was given to sign it; "
            "give --signing-key"
        )
    log = read_log(store, signers)
    listed = {key: at for key, at in log.deleted.items() if key not in prefixes}
    write_log(store, log.model_copy(update={"deleted": listed | dict.fromkeys(prefixes, now)}), signer)


def unexplained(
    known: Mapping[str, Collection[str]], present: Mapping[str, str], deleted: Collection[str]
) -> dict[str, str]:
    """Return the backups that vanished or were rewritten without us, by prefix, with what happened.

    Args:
        known: the digests under which each backup (`name/id/`) was seen, in the log or by drills.
        present: the digest of each complete backup's manifest in the store now; empty where it cannot be read.
        deleted: those that we deleted.
    """
    found: dict[str, str] = {}
    for prefix, digests in sorted(known.items()):
        if prefix not in present:
            if prefix not in deleted:
                found[prefix] = VANISHED
        elif present[prefix] and set(digests) != {present[prefix]}:
            found[prefix] = REWRITTEN
    return found


VANISHED = "vanished: it was complete, and no prune has deleted it"
REWRITTEN = "rewritten since it was verified: its manifest has changed"


def merged(*sources: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Merge the digests that several sources know for each backup."""
    found: dict[str, set[str]] = {}
    for source in sources:
        for prefix, digests in source.items():
            found.setdefault(prefix, set()).update(digests)
    return found


def _stamp() -> str:
    return f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"


def _keys(store: Store) -> list[str]:
    return [item.key for item in store.list(PREFIX) if _KEY.fullmatch(item.key)]
