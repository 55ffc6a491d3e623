"""Whose verification log and overrides are trusted, and who signs those of this run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.core.signing import Signer, read_signer
from ops.stack.outputs import LoadedStack

SigningKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--signing-key",
        envvar="ANCLA_SIGNING_KEY",
        metavar="FILE",
        help="Key that signs the verification log and what is accepted (default: the stack's).",
    ),
]


def trusted_keys(stack: LoadedStack) -> list[str]:
    """Return the keys (OpenSSH lines) that are trusted: backup.signers, or else the key that signs manifests."""
    settings = stack.outputs.backup
    return list(settings.signers) or list(filter(None, [settings.signer]))


def signer_of_record(stack: LoadedStack, path: Path | None) -> Signer | None:
    """Return who signs: the runner's key where it is given, otherwise the environment's.

    Raises:
        KeyProblemError: it is no key, or one that is not trusted.
    """
    if path is None:
        key = stack.secrets.backup_signing_key
        return Signer(key) if key else None
    return read_signer(path, stack.outputs.backup.signers, otherwise="what it signs would not be trusted")
