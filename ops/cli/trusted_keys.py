"""Return the keys trusted for the verification log and overrides, and the signer of this run."""

from __future__ import annotations

from pathlib import Path

from ops.core.signing import Signer, read_signer
from ops.stack.outputs import LoadedStack


def trusted_keys(stack: LoadedStack) -> list[str]:
    """Return the trusted keys (OpenSSH lines): backup.signers, or without any the key that signs manifests."""
    settings = stack.outputs.backup
    return list(settings.signers) or list(filter(None, [settings.signer]))


def signer_of_record(stack: LoadedStack, path: Path | None) -> Signer | None:
    """Return the signer: the runner's key if one is given, otherwise the environment's.

    Raises:
        KeyProblemError: the file has no key, or one that is not trusted.
    """
    if path is None:
        key = stack.secrets.backup_signing_key
        return Signer(key) if key else None
    return read_signer(path, stack.outputs.backup.signers, otherwise="what it signs would not be trusted")
