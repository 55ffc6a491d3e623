"""The keys of backups: age identities that read them, and the ed25519 keys that sign what is said of them.

A machine that makes backups holds recipients (public) and a signing key; an identity lives with a person, in escrow, or
on the runner that drills, and is read from a file.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)
from pydantic import SecretStr

from ops.core.errors import KeyProblemError
from ops.core.models import Record


class Signer:
    """An ed25519 key that signs. `public` is one OpenSSH line without a comment."""

    def __init__(self, private_key: SecretStr) -> None:
        try:
            key = load_ssh_private_key(private_key.get_secret_value().encode(), password=None)
        except ValueError:
            raise KeyProblemError("the signing key is not an OpenSSH private key; `ops stack init` makes one") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyProblemError("the signing key is not an ed25519 key; `ops stack init` makes one")
        self._key = key
        self.public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def sign(self, content: bytes) -> str:
        """Return the signature in base64."""
        return base64.b64encode(self._key.sign(content)).decode()


def read_signer(path: Path, believed: Sequence[str] = (), *, otherwise: str = "") -> Signer:
    """Read a signing key from its file.

    Args:
        path: an OpenSSH ed25519 private key.
        believed: the public lines whose word counts (backup.signers); none: anybody's does.
        otherwise: what follows when it is none of them; it ends the message.

    Raises:
        KeyProblemError: it cannot be read, is no such key, or none that is believed.
    """
    try:
        signer = Signer(SecretStr(path.read_text()))
    except KeyProblemError as error:
        raise KeyProblemError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise KeyProblemError(f"{path}: the signing key cannot be read: {why}; give another file") from None
    if believed and not any(same_key(signer.public, key) for key in believed):
        raise KeyProblemError(f"{path}: its public half is none of backup.signers: {otherwise}")
    return signer


def signed_by(public: str, signature: str, content: bytes) -> bool:
    """Say whether `signature` (base64) over `content` is by the key of that OpenSSH line."""
    try:
        key = load_ssh_public_key(public.encode())
        if not isinstance(key, Ed25519PublicKey):
            return False
        key.verify(base64.b64decode(signature, validate=True), content)
    except (InvalidSignature, ValueError):
        return False
    return True


def same_key(left: str, right: str) -> bool:
    """Say whether two OpenSSH public lines are of one key, whatever their comments."""
    return left.split()[:2] == right.split()[:2]


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
