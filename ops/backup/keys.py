"""The keys of backups: age identities that read them, and the ed25519 keys that sign what is said of them.

A machine that makes backups holds recipients (public) and a signing key; an identity lives with a person, in escrow, or
on the runner that drills, and is read from a file.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)
from pydantic import SecretStr
from pyrage import IdentityError, RecipientError, x25519  # pyright: ignore[reportMissingModuleSource]  # compiled in

from ops.errors import KeyProblemError


def make_identity() -> str:
    """Make an age identity; returns the text of its file, the same as `age-keygen` writes."""
    identity = x25519.Identity.generate()
    made = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"# created: {made}\n# public key: {identity.to_public()}\n{identity}\n"


def recipient_of(identity_file: str) -> str:
    """Return the recipient (public) of the first identity in the text of an identity file.

    Raises:
        KeyProblemError: there is none.
    """
    return str(_parse(identity_file, "the identity")[0].to_public())


def read_identities(path: Path) -> tuple[x25519.Identity, ...]:
    """Read an age identity file.

    Raises:
        KeyProblemError: it is not there, not readable, or holds no identity.
    """
    try:
        return tuple(_parse(path.read_text(), str(path)))
    except OSError as error:
        raise KeyProblemError(f"{path}: the identity cannot be read: {error.strerror}; give --identity FILE") from None
    except UnicodeDecodeError:
        raise KeyProblemError(f"{path}: holds no age identity: it is no text; give --identity FILE") from None


def refuse_closed(
    recipients: Sequence[str], identities: Sequence[x25519.Identity], what: str, *, plan: bool = False
) -> None:
    """Refuse, before anything is fetched, what none of the identities opens.

    Args:
        recipients: whom it is encrypted for, by its manifest; none: for nobody.
        identities: those that were given.
        what: names the backup.
        plan: nothing will be opened: no identity at all is right too.

    Raises:
        KeyProblemError: none was given, or it is for others.
    """
    if not recipients or (plan and not identities):
        return
    if not identities:
        raise KeyProblemError(f"{what}: is encrypted: give the identity that reads it with --identity FILE")
    own = [str(identity.to_public()) for identity in identities]
    if not set(own) & set(recipients):
        raise KeyProblemError(
            f"{what}: is encrypted for {', '.join(recipients)}; the identity that was given is of {', '.join(own)}: "
            "give another with --identity FILE"
        )


def parse_recipients(recipients: Sequence[str]) -> list[x25519.Recipient]:
    """Parse age public keys.

    Raises:
        KeyProblemError: one is not an age public key.
    """
    parsed: list[x25519.Recipient] = []
    for text in recipients:
        try:
            parsed.append(x25519.Recipient.from_str(text))
        except RecipientError:
            raise KeyProblemError(f"backup.recipients: {text} is not an age public key") from None
    return parsed


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


def _parse(text: str, where: str) -> list[x25519.Identity]:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        found = [x25519.Identity.from_str(line) for line in lines]
    except IdentityError:
        found = []
    if not found:
        raise KeyProblemError(f"{where}: holds no age identity (AGE-SECRET-KEY-1…); `ops backup keygen` makes one")
    return found
