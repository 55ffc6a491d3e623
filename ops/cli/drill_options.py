"""Define the options shared by all drills: the folder of the evidence, its signing key, and the report's language."""

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
    Path, typer.Option("--evidence", metavar="FOLDER", help="Folder for the evidence: documents, logs and reports.")
]
LangOption = Annotated[Language, typer.Option("--lang", help="Language of the report.")]


def signer_of(stack: LoadedStack | None, path: Path | None) -> Signer | None:
    """Return the signer of evidence, or None without a key. Without a stack, any key is accepted.

    Raises:
        KeyProblemError: the file has no key, or one that the stack does not trust.
    """
    if path is None:
        return None
    trusted = stack.outputs.backup.signers if stack else ()
    return read_signer(path, trusted, otherwise="its evidence would not be trusted")


def ready(folder: Path) -> None:
    """Create the evidence folder and check that it can be written, before a long drill is run for nothing.

    Raises:
        OpsError: the folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=".ancla-"):
            pass
    except OSError as error:
        raise OpsError(f"{folder}: the evidence cannot be kept there: {error.strerror}; give --evidence") from None
