"""SSH keys as data: a new one, and the public half of a private one."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)
from pydantic import SecretStr


class KeyFormatError(ValueError):
    """Not a private key that can be used; the message shows nothing of it."""


def make_key() -> SecretStr:
    """Make an OpenSSH ed25519 private key without a passphrase."""
    key = Ed25519PrivateKey.generate()
    return SecretStr(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode())


def public_line(private_key: SecretStr) -> str:
    """Return the public half as one OpenSSH line without a comment, such as `ssh-ed25519 AAAA…`.

    Raises:
        KeyFormatError: not an OpenSSH ed25519 private key without a passphrase.
    """
    try:
        key = load_ssh_private_key(private_key.get_secret_value().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFormatError("is not an OpenSSH private key without a passphrase") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFormatError("is an OpenSSH private key, but not an ed25519 one")
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
