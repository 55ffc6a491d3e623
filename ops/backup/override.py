"""Store an override: a person has checked a suspicious backup and accepts it. A small object beside its manifest.

It is kept in the store, so that every later run finds it. It names the digest of the manifest that was checked, so
it does not apply to a backup that is rewritten later. Where the environment names signers, it must be signed.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import AwareDatetime, BaseModel, ValidationError

from ops.core.errors import ObjectMissingError
from ops.core.signing import Namespace, Signer, seal
from ops.repository.catalog import prefix_of
from ops.repository.signed_objects import put_signed, read_signed
from ops.repository.stores.base import Store

OVERRIDE_NAME = "accepted.json"
LIMIT = 1 << 20
"""Maximum bytes of an override; Ancla writes none that is larger."""


class Override(BaseModel):
    """Who accepted which backup, when, and why it was suspicious. `manifest` is its manifest's digest."""

    name: str
    backup: str
    manifest: str
    accepted_at: AwareDatetime
    accepted_by: str
    warnings: tuple[str, ...]


def write_override(store: Store, override: Override, signer: Signer | None) -> None:
    """Store an override beside the backup's manifest.

    Raises:
        StoreError: the store refused.
    """
    content = (override.model_dump_json(indent=2) + "\n").encode()
    key = prefix_of(override.name, override.backup) + OVERRIDE_NAME
    put_signed(store, key, seal(content, signer, Namespace.OVERRIDE))


def is_overridden(store: Store, name: str, backup_id: str, manifest: str, signers: Sequence[str]) -> bool:
    """Return True if somebody whose key is trusted has accepted the backup with that manifest (its digest).

    Raises:
        StoreError: the store does not answer.
    """
    try:
        stored = read_signed(store, prefix_of(name, backup_id) + OVERRIDE_NAME, limit=LIMIT)
        found = Override.model_validate_json(stored.content)
    except (ObjectMissingError, ValidationError):
        return False
    of = (found.name, found.backup, found.manifest)
    return of == (name, backup_id, manifest) and stored.is_trusted(signers, Namespace.OVERRIDE)
