"""Handle age keys: the recipients that backups are encrypted for, and the identities that decrypt them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pyrage import IdentityError, RecipientError, x25519  # pyright: ignore[reportMissingModuleSource]  # compiled in

from ops.core.errors import KeyProblemError


def make_identity() -> str:
    """Create an age identity; returns the text of its file in the format of `age-keygen`."""
    identity = x25519.Identity.generate()
    made = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"# created: {made}\n# public key: {identity.to_public()}\n{identity}\n"


def recipient_of(identity_file: str) -> str:
    """Return the recipient (public key) of the first identity in the text of an identity file.

    Raises:
        KeyProblemError: there is none.
    """
    return str(_parse(identity_file, "the identity")[0].to_public())


def read_identities(path: Path) -> tuple[x25519.Identity, ...]:
    """Read an age identity file.

    Raises:
        KeyProblemError: it is missing, unreadable, or contains no identity.
    """
    try:
        return tuple(_parse(path.read_text(), str(path)))
    except OSError as error:
        raise KeyProblemError(f"{path}: the identity cannot be read: {error.strerror}; give --identity FILE") from None
    except UnicodeDecodeError:
        raise KeyProblemError(f"{path}: contains no age identity: it is not text; give --identity FILE") from None


def require_identity(
    recipients: Sequence[str], identities: Sequence[x25519.Identity], what: str, *, plan: bool = False
) -> None:
    """Raise unless one of `identities` can decrypt a backup encrypted for `recipients`.

    Args:
        recipients: those in its manifest; empty means unencrypted.
        identities: the given ones.
        what: the backup, for messages.
        plan: nothing will be decrypted, so having no identity is accepted.

    Raises:
        KeyProblemError: none was given, or none of them can decrypt it.
    """
    if not recipients or (plan and not identities):
        return
    if not identities:
        raise KeyProblemError(f"{what}: is encrypted: give the identity that decrypts it with --identity FILE")
    own = [str(identity.to_public()) for identity in identities]
    if not set(own) & set(recipients):
        raise KeyProblemError(
            f"{what}: is encrypted for {', '.join(recipients)}; the given identity is of {', '.join(own)}: "
            "give another one with --identity FILE"
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


def _parse(text: str, where: str) -> list[x25519.Identity]:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        found = [x25519.Identity.from_str(line) for line in lines]
    except IdentityError:
        found = []
    if not found:
        raise KeyProblemError(f"{where}: contains no age identity (AGE-SECRET-KEY-1…); `ops backup keygen` makes one")
    return found
