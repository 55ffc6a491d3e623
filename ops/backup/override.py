"""A person's word that a backup which looks wrong is right: one small object beside its manifest.

It is kept in the store, so that every later run, on whatever machine, knows of it. Where the environment names signers
of evidence, only a word signed by one of them counts: who can write to the bucket, such as a droplet that somebody has
broken into, must not be able to talk retention into deleting the good ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import AwareDatetime, ValidationError

from ops.core.errors import ObjectMissingError
from ops.core.signing import Signature, SignedRecord
from ops.repository.catalog import MANIFEST_LIMIT, prefix_of
from ops.repository.stores.base import Store

ACCEPTANCE_NAME = "accepted.json"


class Acceptance(SignedRecord):
    """Who accepted which backup, when, and what looked wrong of it."""

    name: str
    backup: str
    accepted_at: AwareDatetime
    accepted_by: str
    warnings: tuple[str, ...]
    signed: Signature | None = None


def write_acceptance(store: Store, acceptance: Acceptance) -> None:
    """Put it beside the backup's manifest."""
    key = prefix_of(acceptance.name, acceptance.backup) + ACCEPTANCE_NAME
    store.put_bytes(key, (acceptance.model_dump_json(indent=2) + "\n").encode())


def is_accepted(store: Store, name: str, backup_id: str, signers: Sequence[str]) -> bool:
    """Say whether a person whose word counts has accepted the backup.

    Raises:
        StoreError: the store does not answer as it should.
    """
    try:
        with store.open(prefix_of(name, backup_id) + ACCEPTANCE_NAME) as body:
            found = Acceptance.model_validate_json(body.read(MANIFEST_LIMIT))
    except (ObjectMissingError, ValidationError):
        return False
    return (found.name, found.backup) == (name, backup_id) and found.believed(signers)
