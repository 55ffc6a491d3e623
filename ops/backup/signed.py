"""Records that say who signed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from ops.backup.keys import Signer, same_key, signed_by
from ops.backup.records import Record


class Signature(Record):
    """`signature` (base64, ed25519) over what its record says; `key` is the public half, one OpenSSH line."""

    key: str
    signature: str


class SignedRecord(Record):
    """A record whose last field is `signed: Signature | None`, over the JSON of all before it."""

    if TYPE_CHECKING:  # each declares it itself: a field of a base would be written first
        signed: Signature | None

    def sealed(self, signer: Signer) -> Self:
        """Return a signed copy."""
        return self.model_copy(update={"signed": Signature(key=signer.public, signature=signer.sign(self._content()))})

    def believed(self, signers: Sequence[str]) -> bool:
        """Say whether one of `signers` (OpenSSH public lines) signed it; without signers every one is believed."""
        signed = self.signed
        return not signers or (
            signed is not None
            and any(same_key(key, signed.key) and signed_by(key, signed.signature, self._content()) for key in signers)
        )

    def _content(self) -> bytes:
        return self.model_dump_json(exclude={"signed"}).encode()
