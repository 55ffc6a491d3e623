"""Sign and verify stored bytes in OpenSSH's format (SSHSIG), with ed25519 keys.

Every document that is trusted for its signature (a backup's manifest, the verification log, an override, the evidence
of drills and the head of its chain) is a file or an object with a signature beside it, of the same name with `.sig` at
its end. The signature covers the bytes as they are stored, never a re-serialised model, so a field that a later
version adds invalidates nothing, and stock OpenSSH can verify it::

    ssh-keygen -Y verify -f allowed_signers -I ancla -n ancla-manifest -s manifest.json.sig <manifest.json

The signature is stored before its document. Only a document that is present counts: a run killed in between
leaves a signature without a document.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

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

SIGNATURE_SUFFIX = ".sig"
SIGNATURE_LIMIT = 16 << 10
"""Maximum bytes of a signature; Ancla writes none that is larger."""
_MAGIC, _VERSION, _HASH = b"SSHSIG", 1, b"sha512"
_BEGIN, _END, _COLUMNS = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----", 70
_KEY_TYPE = b"ssh-ed25519"


class Namespace(StrEnum):
    """The purpose of a signature: one made for evidence is not valid for a manifest."""

    MANIFEST = "ancla-manifest"
    EVIDENCE = "ancla-evidence"
    VERIFICATION_LOG = "ancla-verification-log"
    OVERRIDE = "ancla-override"


class Signer:
    """An ed25519 signing key. `public` is one OpenSSH line without a comment."""

    def __init__(self, private_key: SecretStr) -> None:
        try:
            key = load_ssh_private_key(private_key.get_secret_value().encode(), password=None)
        except ValueError:
            raise KeyProblemError("the signing key is not an OpenSSH private key; `ops stack init` makes one") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyProblemError("the signing key is not an ed25519 key; `ops stack init` makes one")
        self._key = key
        self.public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def sign(self, content: bytes, namespace: Namespace) -> bytes:
        """Return the armored signature, as `ssh-keygen -Y sign` writes it."""
        return _armored(self.public, namespace, self._key.sign(_to_be_signed(content, namespace)))


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A document's bytes as stored, and its signature; None if it is unsigned."""

    content: bytes
    signature: bytes | None = None

    @property
    def claimed_key(self) -> str | None:
        """Return the key that the signature names (one OpenSSH line), verified or not; None if it names none."""
        return _key_of(self.signature)

    def problem(self, keys: Sequence[str], namespace: Namespace) -> str:
        """Check the signature against trusted keys (OpenSSH lines); return the problem, or an empty string."""
        if self.signature is None:
            return "not signed"
        claimed = self.claimed_key
        if claimed is None:
            return "changed: its signature is not in OpenSSH's format, or its key is not ed25519"
        if not any(same_key(claimed, key) for key in keys):
            return f"signed by a key that is not trusted: {claimed[:80]}"
        if not _fits(claimed, self.signature, self.content, namespace):
            return "changed after it was signed"
        return ""

    def signed_by(self, key: str, namespace: Namespace) -> bool:
        """Return True if that key (one OpenSSH line) signed these bytes for that purpose."""
        return not self.problem([key], namespace)

    def is_trusted(self, keys: Sequence[str], namespace: Namespace) -> bool:
        """Return True if one of the keys signed it; without keys every document is trusted."""
        return not keys or not self.problem(keys, namespace)


def seal(content: bytes, signer: Signer | None, namespace: Namespace) -> Signed:
    """Return the document with its signature; without a key it is unsigned."""
    return Signed(content=content, signature=signer.sign(content, namespace) if signer else None)


def read_signer(path: Path, trusted: Sequence[str] = (), *, otherwise: str = "") -> Signer:
    """Read a signing key from its file.

    Args:
        path: an OpenSSH ed25519 private key.
        trusted: the trusted public keys (backup.signers); none means that every key is accepted.
        otherwise: the consequence if the key is not trusted; it ends the message.

    Raises:
        KeyProblemError: it cannot be read, is not such a key, or is not trusted.
    """
    try:
        signer = Signer(SecretStr(path.read_text()))
    except KeyProblemError as error:
        raise KeyProblemError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise KeyProblemError(f"{path}: the signing key cannot be read: {why}; give another file") from None
    if trusted and not any(same_key(signer.public, key) for key in trusted):
        raise KeyProblemError(f"{path}: its public key is not in backup.signers: {otherwise}")
    return signer


def same_key(left: str, right: str) -> bool:
    """Return True if two OpenSSH public lines hold the same key; comments are ignored."""
    return left.split()[:2] == right.split()[:2]


def canonical(document: Any) -> bytes:
    """Serialise to canonical JSON: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        ValueError: a number or a text that cannot be serialised so.
    """
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()  # fmt: skip


def digest(content: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def _string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _to_be_signed(content: bytes, namespace: Namespace) -> bytes:
    reserved = b""
    hashed = hashlib.sha512(content).digest()
    return _MAGIC + b"".join(map(_string, (namespace.encode(), reserved, _HASH, hashed)))


def _armored(public: str, namespace: Namespace, signature: bytes) -> bytes:
    key = base64.b64decode(public.split()[1])
    fields = (key, namespace.encode(), b"", _HASH, _string(_KEY_TYPE) + _string(signature))
    text = base64.b64encode(_MAGIC + struct.pack(">I", _VERSION) + b"".join(map(_string, fields))).decode()
    lines = [text[at : at + _COLUMNS] for at in range(0, len(text), _COLUMNS)]
    return "\n".join([_BEGIN, *lines, _END, ""]).encode()


def _fields(armored: bytes) -> list[bytes]:
    """Return public key, namespace, reserved, hash and signature. Raises ValueError if the format differs."""
    lines = armored.decode("ascii").split("\n")
    if lines[0] != _BEGIN or lines[-2:] != [_END, ""]:
        raise ValueError("no armor")
    blob = base64.b64decode("".join(lines[1:-2]), validate=True)
    head = _MAGIC + struct.pack(">I", _VERSION)
    if not blob.startswith(head):
        raise ValueError("no SSHSIG")
    found, rest = list[bytes](), blob[len(head) :]
    while rest:
        (size,) = struct.unpack_from(">I", rest)
        found.append(rest[4 : 4 + size])
        rest = rest[4 + size :]
    return found


def _key_of(armored: bytes | None) -> str | None:
    if armored is None or len(armored) > SIGNATURE_LIMIT:
        return None
    try:
        line = f"{_KEY_TYPE.decode()} {base64.b64encode(_fields(armored)[0]).decode()}"
        return line if isinstance(load_ssh_public_key(line.encode()), Ed25519PublicKey) else None
    except (ValueError, IndexError, struct.error):
        return None


def _fits(claimed: str, armored: bytes, content: bytes, namespace: Namespace) -> bool:
    """Return True if it is that key's signature in its canonical encoding."""
    key = load_ssh_public_key(claimed.encode())
    assert isinstance(key, Ed25519PublicKey)  # noqa: S101  # `_key_of` returns no other
    try:
        signature = _fields(armored)[-1].removeprefix(_string(_KEY_TYPE))[4:]
        key.verify(signature, _to_be_signed(content, namespace))
    except InvalidSignature:
        return False
    return _armored(claimed, namespace, signature) == armored  # another base64 text of the same bytes is refused
