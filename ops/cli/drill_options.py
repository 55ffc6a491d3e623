"""What every kind of drill is told about its evidence: where it goes, who signs it, and its page's language."""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

import typer

from ops.core.errors import OpsError
from ops.core.signing import Signer, read_signer
from ops.drill.evidence.catalogue import Language
from ops.stack.outputs import LoadedStack

EvidenceOption = Annotated[
    Path, typer.Option("--evidence", metavar="FOLDER", help="Where the evidence goes: documents, logs and pages.")
]
SigningKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--signing-key",
        envvar="ANCLA_SIGNING_KEY",
        metavar="FILE",
        help="The runner's OpenSSH ed25519 key that signs the evidence; its public half is in backup.signers.",
    ),
]
LangOption = Annotated[Language, typer.Option("--lang", help="The page's language.")]


def signer_of(stack: LoadedStack | None, path: Path | None) -> Signer | None:
    """Return the runner's key that signs evidence; None without one. Without a stack any key may sign.

    Raises:
        KeyProblemError: it is no key, or one that the stack does not believe.
    """
    if path is None:
        return None
    believed = stack.outputs.backup.signers if stack else ()
    return read_signer(path, believed, otherwise="its evidence would not be trusted")


def ready(folder: Path) -> None:
    """Make the folder of the evidence, and try it: a drill takes long, and is worth nothing without its evidence.

    Raises:
        OpsError: it cannot be made, or written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=".ancla-"):
            pass
    except OSError as error:
        raise OpsError(f"{folder}: the evidence cannot be kept there: {error.strerror}; give --evidence") from None
